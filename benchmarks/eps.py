"""How near `PSEUDO_LABELS.EPS auto` comes to the best fixed radius, by the adjusted Rand index with the identities.

    python benchmarks/eps.py [--seeds 0 1 2 3] [--runs logs/compare/{fancl,pplr}/seed_0] [--datasets NAME ...]

On hard synthetic features of several kinds, and on the features that the starting weights and every checkpoint of
finished runs give of the training images of data sets with identities; those of the runs, where none are named. Best
and fixed radii are those whose clusters may be trained on (see `clustering.degenerate`); images left out count as
clusters of their own. Prints Markdown.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

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
from fastreid_fancl.report.runs import read_config  # noqa: E402
from fastreid_fancl.visualize.origin import load_subject, run_config  # noqa: E402
from oracles import hard_features  # noqa: E402
from sklearn.metrics import adjusted_rand_score  # noqa: E402
from test_clustering_sweep import HARD  # noqa: E402

FIXED = (0.35, 0.5, 0.6)


class Case(NamedTuple):
    """Features (N, D), their identities (N,), and the k1 and k2 that they are clustered with."""

    group: str
    name: str
    features: np.ndarray
    identities: np.ndarray
    k1: int
    k2: int


def made_up(seeds: list[int]) -> Iterator[Case]:
    """Hard synthetic features."""
    for name, options in HARD.items():
        for seed in seeds:
            yield Case("hard synthetic features", f"{name}, seed {seed}", *hard_features(seed=seed, **options), 20, 6)


def of_runs(runs: list[Path], datasets: list[str]) -> Iterator[Case]:
    """Features of the training images by a run's start and checkpoints; a start that runs share counts once."""
    seen = set()
    for run in runs:
        start = read_config(run)["MODEL"]["WEIGHTS"]
        for weights in (start, *sorted(map(str, run.glob("model_0*.pth"))), str(run / "model_final.pth")):
            for name in datasets or read_config(run)["DATASETS"]["NAMES"]:
                if (weights, name) not in seen:
                    seen.add((weights, name))
                    yield of_weights(run, weights, name)


def of_weights(run: Path, weights: str, name: str) -> Case:
    cfg = run_config(run, ["MODEL.WEIGHTS", weights, "DATASETS.NAMES", f"('{name}',)"])
    images = ReIDDataset(training_items(cfg), build_transforms(cfg, is_train=False))
    features = extract_features(load_subject(cfg).model, feature_loader(images, cfg.TEST.IMS_PER_BATCH))
    labels = cfg.PSEUDO_LABELS
    return Case(name, weights, features["original"].numpy(), images.targets, labels.K1, labels.K2)


def agreements(case: Case) -> tuple[np.ndarray, float]:
    """The adjusted Rand index of each candidate, not a number where it is degenerate, and the eps chosen."""
    distance, known = jaccard_distance(case.features, case.k1, case.k2), case.identities >= 0
    labels = dbscan_sweep(distance, CANDIDATES)
    found = [adjusted_rand_score(case.identities[known], noise_alone(own)[known]) for own in labels]
    usable = [degenerate(own) is None for own in labels]
    return np.where(usable, found, np.nan), choose_eps(distance).eps


def measure(cases: Iterable[Case]) -> dict[str, list[list[float]]]:
    """Print a line a case; how far auto and fixed radii fall short of the best, in all of a group's cases."""
    print("| features | of | best | at eps | auto | at eps |\n|---|---|---|---|---|---|")
    losses = defaultdict(list)
    for case in cases:
        found, eps = agreements(case)
        at = {radius: found[CANDIDATES.index(radius)] for radius in (eps, *FIXED)}
        best = np.nanargmax(found)
        numbers = f"{found[best]:.2f} | {CANDIDATES[best]:.3g} | {at[eps]:.2f} | {eps:.3g}"
        print(f"| {case.group} | {case.name} | {numbers} |", flush=True)
        losses[case.group].append([found[best] - at[radius] for radius in (eps, *FIXED)])
    return losses


def report(losses: dict[str, list[list[float]]]) -> None:
    """A line a group and radius; a degenerate clustering has lost 1."""
    print("\n| features | cases | eps | mean loss to the best | nine in ten lose at most | most |\n" + "|---" * 6 + "|")
    for group, cases in losses.items():
        for eps, own in zip(("auto", *FIXED), np.nan_to_num(np.array(cases), nan=1.0).T, strict=True):
            numbers = f"{own.mean():.3f} | {np.quantile(own, 0.9):.3f} | {own.max():.3f}"
            print(f"| {group} | {len(own)} | {eps} | {numbers} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3])
    parser.add_argument("--runs", type=Path, nargs="*", default=[])
    parser.add_argument("--datasets", nargs="+", default=[])
    args = parser.parse_args()
    report(measure(chain(made_up(args.seeds), of_runs(args.runs, args.datasets))))


if __name__ == "__main__":
    main()
