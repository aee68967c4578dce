"""Which epoch a run without a test would have kept, against the last and the best one: of runs that had a test.

    FASTREID_DATASETS=FOLDER python benchmarks/label_free.py logs/cats/*/seed_*

The epochs are those with an evaluation; without a test they are the candidates for model_best. Their label-free scores
are those by which EPS auto chose its radius when the next epoch grouped; that of the last epoch is computed here, from
model_final.pth. SpCL groups the features in its memory, so all its scores but the last are of these, and not of the
encoder by which a run without a test chooses. Prints Markdown.

--drift prints what else a run without labels could go by: both factors of the label-free score, and the drift, which is
the share of each photograph's 10 nearest neighbours that were not among the 10 nearest before the training. It needs
runs with SOLVER.CHECKPOINT_PERIOD at TEST.EVAL_PERIOD.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tables import Tables, add_output  # noqa: E402

import fastreid_fancl  # noqa: E402, F401 (fixes fast-reid before it is imported)
from fastreid_fancl import clustering  # noqa: E402
from fastreid_fancl.engine.fused import local_pairs  # noqa: E402
from fastreid_fancl.engine.labels import distance_alone  # noqa: E402
from fastreid_fancl.engine.record import setting  # noqa: E402
from fastreid_fancl.engine.seeds import Stream, derive_seed  # noqa: E402
from fastreid_fancl.engine.trained_model import run_config  # noqa: E402
from fastreid_fancl.errors import UserError, exit_with_message  # noqa: E402
from fastreid_fancl.individuals.grouping import encode  # noqa: E402
from fastreid_fancl.runs.checked import cell_of, finite, read_table, whole  # noqa: E402
from fastreid_fancl.runs.read import FINAL, read_config, read_run  # noqa: E402
from fastreid_fancl.runs.tables import SWEEP  # noqa: E402

SIGNS = {"epoch": cell_of(whole), **dict.fromkeys(("used", "score", "stability", "modularity"), cell_of(finite))}


def signs_of_last(run: Path, epochs: int) -> dict:
    """Label-free score of a run's final weights on the photographs that it trained on, and its factors."""
    cfg = run_config(run, ["MODEL.WEIGHTS", str(run / FINAL)], [])
    images, _, features = encode(cfg)
    distance = distance_alone(features, cfg.PSEUDO_LABELS, local_pairs(cfg, images.img_items))
    seed = derive_seed(cfg.SEED, epochs, Stream.CLUSTERING)
    chosen = clustering.choose_eps(distance, cfg.PSEUDO_LABELS.MIN_SAMPLES, None, seed, images.keys)
    return next(row._asdict() for row in chosen.sweep if row.eps == chosen.eps)


def evaluations(folder: Path) -> tuple[str, dict[int, dict], dict[int, dict]]:
    """The name of a run, and by epoch the scores of its evaluations and its label-free score with both factors.

    Raises:
        UserError: if the run has no evaluations or no readable eps_sweep.csv.
    """
    run = read_run(folder)
    scores = {epoch.number + 1: epoch.scores for epoch in run.epochs if "mAP" in epoch.scores}
    if not scores:
        raise UserError(f"{folder} has no evaluations: give a run with a test.")
    signs = {row["epoch"]: row for row in read_table(folder / SWEEP, SIGNS) if row["used"]}
    signs[max(scores)] = signs_of_last(folder, max(scores))
    return f"{run.system}, seed {run.seed}", scores, signs


def epoch_kept(folder: Path) -> dict:
    """The row of a run: label-free score / mAP after each evaluation, and the mAP kept, last and best."""
    name, scores, signs = evaluations(folder)
    found = {epoch: score["mAP"] for epoch, score in scores.items()}
    kept = max(found, key=lambda epoch: (signs[epoch]["score"], -epoch))
    row = {"run": name}
    row |= {f"after {epoch}": f"{signs[epoch]['score']:.3f} / {value:.1f}" for epoch, value in found.items()}
    return row | {"epoch kept": kept, "mAP kept": found[kept], "last": found[max(found)], "best": max(found.values())}


def neighbours(folder: Path, weights: str) -> np.ndarray:
    """The 10 nearest photographs (N, 10) of each photograph that a run trained on, by some weights or its start."""
    _, _, features = encode(run_config(folder, ["MODEL.WEIGHTS", weights], []), start=True)
    _, found = clustering.knn(features, 11)
    return found[:, 1:]


def drifts(folder: Path) -> list[dict]:
    """A row for each evaluation of a run: the signs that need no label, and the scores."""
    name, scores, signs = evaluations(folder)
    before = neighbours(folder, read_config(folder)["MODEL"]["WEIGHTS"])
    rows = []
    for epoch, score in scores.items():
        weights = folder / (FINAL if epoch == max(scores) else f"model_{epoch - 1:04d}.pth")
        now = neighbours(folder, str(weights))
        kept = np.mean([np.isin(a, b).mean() for a, b in zip(now, before, strict=True)])
        row = {"run": name, "after epoch": epoch, "drift": 1 - kept}
        row |= {sign: signs[epoch][sign] for sign in ("stability", "modularity", "score")}
        rows.append(row | {"mAP": score["mAP"], "ARI": score["ARI"]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--drift", action="store_true", help="one row for each epoch, with drift and both factors")
    add_output(parser)
    args = parser.parse_args()
    tables = Tables(args.output, setting()["machine"], torch.get_num_threads())
    tables.add([row for run in args.runs for row in drifts(run)] if args.drift else list(map(epoch_kept, args.runs)))


if __name__ == "__main__":
    with exit_with_message():
        main()
