"""How near `PSEUDO_LABELS.EPS auto` comes to the best fixed radius, by the adjusted Rand index with the identities.

    python benchmarks/eps.py [--seeds 0 1 2 3] [--runs logs/compare/{fancl,pplr}/seed_0] [--datasets NAME ...]

On hard synthetic features of several kinds, and on the features that the starting weights and every checkpoint of
finished runs give of the training images of data sets with identities; those of the runs, where none are named. Best
and fixed radii are those whose clusters may be trained on (see `clustering.degenerate`); images left out count as
clusters of their own. Prints Markdown; `--output NAME` also writes NAME.md and NAME.csv.
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import fastreid_fancl  # noqa: E402, F401, I001 (fixes fast-reid before it is imported)
from fastreid_fancl.clustering import choose_eps, degenerate, jaccard_distance, noise_as_singletons  # noqa: E402
from fastreid_fancl.clustering.labels import dbscan_sweep  # noqa: E402
from fastreid_fancl.clustering.guard import CANDIDATES  # noqa: E402
from fastreid_fancl.engine.record import setting  # noqa: E402
from fastreid_fancl.errors import UserError, exit_with_message  # noqa: E402
from fastreid_fancl.individuals.grouping import encode  # noqa: E402
from fastreid_fancl.runs.read import read_config  # noqa: E402
from fastreid_fancl.engine.trained_model import run_config  # noqa: E402
from support.oracles import HARD, hard_features  # noqa: E402
from sklearn.metrics import adjusted_rand_score  # noqa: E402
from tables import Tables, add_output  # noqa: E402

FIXED = {str(radius): radius for radius in (0.35, 0.5, 0.6)}


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


def of_runs(runs: list[Path], datasets: list[str], imports: list[str]) -> Iterator[Case]:
    """Features of the training images by a run's start and checkpoints; a start that runs share counts once."""
    seen = set()
    for run in runs:
        start = read_config(run)["MODEL"]["WEIGHTS"]
        for weights in (start, *sorted(map(str, run.glob("model_0*.pth"))), str(run / "model_final.pth")):
            for name in datasets or read_config(run)["DATASETS"]["NAMES"]:
                if (weights, name) not in seen:
                    seen.add((weights, name))
                    yield of_weights(run, weights, name, imports)


def of_weights(run: Path, weights: str, name: str, imports: list[str]) -> Case:
    cfg = run_config(run, ["MODEL.WEIGHTS", weights, "DATASETS.NAMES", f"('{name}',)"], imports)
    images, _, features = encode(cfg)
    labels = cfg.PSEUDO_LABELS
    return Case(name, weights, features.numpy(), images.targets, labels.K1, labels.K2)


def agreements(case: Case) -> tuple[np.ndarray, float]:
    """The adjusted Rand index of each candidate, not a number where it is degenerate, and the eps chosen."""
    distance, known = jaccard_distance(case.features, case.k1, case.k2), case.identities >= 0
    labels = dbscan_sweep(distance, CANDIDATES)
    found = [adjusted_rand_score(case.identities[known], noise_as_singletons(own)[known]) for own in labels]
    usable = [degenerate(own) is None for own in labels]
    return np.where(usable, found, np.nan), choose_eps(distance).eps


def measure(case: Case) -> dict:
    """A case's best radius and the one chosen; `lost_at_*` is how far a radius falls short of the best.

    It is 1 where the clusters may not be trained on.
    """
    found, eps = agreements(case)
    if np.isnan(found).all():
        raise UserError(f"No radius gives clusters to train on with the features of {case.name}: leave them out.")
    best = np.nanargmax(found)
    row = {"features": case.group, "of": case.name, "best": found[best], "best_eps": CANDIDATES[best], "auto_eps": eps}
    lost = np.nan_to_num(found[best] - found, nan=1.0)
    return row | {f"lost_at_{name}": lost[CANDIDATES.index(radius)] for name, radius in (("auto", eps), *FIXED.items())}


def summary(rows: list[dict]) -> list[dict]:
    """A row a group of features and radius."""
    found = []
    for group in dict.fromkeys(row["features"] for row in rows):
        for eps in ("auto", *FIXED):
            lost = np.array([row[f"lost_at_{eps}"] for row in rows if row["features"] == group])
            numbers = {"mean_loss_to_the_best": lost.mean(), "nine_in_ten_lose_at_most": np.quantile(lost, 0.9)}
            found.append({"features": group, "cases": len(lost), "eps": eps, **numbers, "most": lost.max()})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3])
    parser.add_argument("--runs", type=Path, nargs="*", default=[])
    parser.add_argument("--datasets", nargs="+", default=[])
    parser.add_argument("--allow-imports", action="append", default=[], metavar="FILE", help="of the runs' IMPORTS")
    add_output(parser)
    args = parser.parse_args()
    tables, rows = Tables(args.output, setting()["machine"], torch.get_num_threads()), []
    for case in chain(made_up(args.seeds), of_runs(args.runs, args.datasets, args.allow_imports)):
        rows.append(measure(case))
        tables.keep(rows[-1:])
        print(rows[-1]["of"], f"lost {rows[-1]['lost_at_auto']:.3f}", flush=True)
    tables.show(summary(rows))


if __name__ == "__main__":
    with exit_with_message():
        main()
