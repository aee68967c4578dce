"""How near `PSEUDO_LABELS.EPS auto` comes to the best fixed radius, by the adjusted Rand index with the identities.

    python benchmarks/eps.py [--seeds 0 1 2 3] [--runs logs/compare/{fancl,pplr}/seed_0 --datasets SyntheticPandasSmall]

On hard synthetic features of several kinds, and on the features that every checkpoint of finished runs gives of
the training images of data sets with identities. Best and fixed radii are those whose clusters may be trained on (see
`clustering.degenerate`); images left out count as clusters of their own. Prints Markdown.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import fastreid_fancl  # noqa: E402, F401, I001 (mends fast-reid before it is imported)
from fastreid.data.transforms import build_transforms  # noqa: E402
from fastreid_fancl.clustering import choose_eps, degenerate, jaccard_distance, noise_alone  # noqa: E402
from fastreid_fancl.clustering.labels import dbscan_sweep  # noqa: E402
from fastreid_fancl.clustering.sweep import CANDIDATES  # noqa: E402
from fastreid_fancl.data.loaders import ReIDDataset, feature_loader  # noqa: E402
from fastreid_fancl.engine.hooks import extract_features  # noqa: E402
from fastreid_fancl.engine.trainer import training_items  # noqa: E402
from fastreid_fancl.visualize.origin import load_subject, run_config  # noqa: E402
from oracles import hard_features  # noqa: E402
from sklearn.metrics import adjusted_rand_score  # noqa: E402
from test_clustering_sweep import HARD  # noqa: E402

FIXED = (0.35, 0.5, 0.6)
Case = tuple[str, np.ndarray, np.ndarray]


def made_up(seeds: list[int]) -> Iterator[Case]:
    """Kind of data, features and identities."""
    for name, options in HARD.items():
        for seed in seeds:
            yield f"{name}, seed {seed}", *hard_features(seed=seed, **options)


def of_runs(runs: list[Path], datasets: list[str]) -> Iterator[Case]:
    """Data set and checkpoint, features and identities of the training images."""
    for run in runs:
        for checkpoint in sorted(run.glob("model_0*.pth")):
            for name in datasets:
                cfg = run_config(run, ["MODEL.WEIGHTS", str(checkpoint), "DATASETS.NAMES", f"('{name}',)"])
                images = ReIDDataset(training_items(cfg), build_transforms(cfg, is_train=False))
                features = extract_features(load_subject(cfg).model, feature_loader(images, cfg.TEST.IMS_PER_BATCH))
                yield f"{name}, {run.parent.name} {checkpoint.stem}", features["original"].numpy(), images.targets


def agreements(features: np.ndarray, identities: np.ndarray, k1: int, k2: int) -> tuple[np.ndarray, float]:
    """The adjusted Rand index of each candidate, not a number where it is degenerate, and the eps chosen."""
    distance, known = jaccard_distance(features, k1, k2), identities >= 0
    labels = dbscan_sweep(distance, CANDIDATES)
    found = [adjusted_rand_score(identities[known], noise_alone(own)[known]) for own in labels]
    usable = [degenerate(own) is None for own in labels]
    return np.where(usable, found, np.nan), choose_eps(distance).eps


def report(title: str, cases: Iterator[Case], k1: int, k2: int) -> None:
    """A line a case, and how far auto and fixed radii fall short of the best."""
    print(f"\n{title}\n\n| features | best | at eps | auto | at eps |\n|---|---|---|---|---|")
    losses = []
    for name, features, identities in cases:
        found, eps = agreements(features, identities, k1, k2)
        best, auto = np.nanargmax(found), found[CANDIDATES.index(eps)]
        print(f"| {name} | {found[best]:.2f} | {CANDIDATES[best]:.3g} | {auto:.2f} | {eps:.3g} |", flush=True)
        losses.append([found[best] - (auto if eps is None else found[CANDIDATES.index(eps)]) for eps in (None, *FIXED)])
    print("\n| eps | mean loss to the best | nine in ten lose at most | most |\n|---|---|---|---|")
    for name, own in zip(("auto", *FIXED), np.nan_to_num(np.array(losses), nan=1.0).T, strict=True):
        print(f"| {name} | {own.mean():.3f} | {np.quantile(own, 0.9):.3f} | {own.max():.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--runs", type=Path, nargs="*", default=[])
    parser.add_argument("--datasets", nargs="+", default=["SyntheticPandasSmall"])
    args = parser.parse_args()
    report("Hard synthetic features (k1 20, k2 6)", made_up(args.seeds), 20, 6)
    if args.runs:
        report("Features of runs (k1 30, k2 6)", of_runs(args.runs, args.datasets), 30, 6)


if __name__ == "__main__":
    main()
