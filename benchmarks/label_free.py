"""Which epoch a run without a test would have kept, against the last and the best one: of runs that had a test.

    FASTREID_DATASETS=FOLDER python benchmarks/label_free.py logs/cats/*/seed_*

The epochs are those with an evaluation; without a test they are the candidates for model_best. Their label-free scores
are those by which EPS auto chose its radius when the next epoch grouped; that of the last epoch is computed here, from
model_final.pth. SpCL groups the features in its memory, so all its scores but the last are of these, and not of the
encoder by which a run without a test chooses. Prints Markdown.
"""

import argparse
import sys
from pathlib import Path

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
from fastreid_fancl.runs.read import FINAL, read_run  # noqa: E402
from fastreid_fancl.runs.tables import SWEEP, read_sweeps  # noqa: E402


def score_of_last(run: Path, epochs: int) -> float:
    """Label-free score of a run's final weights on the photographs that it trained on."""
    cfg = run_config(run, ["MODEL.WEIGHTS", str(run / FINAL)], [])
    images, _, features = encode(cfg)
    distance = distance_alone(features, cfg.PSEUDO_LABELS, local_pairs(cfg, images.img_items))
    seed = derive_seed(cfg.SEED, epochs, Stream.CLUSTERING)
    chosen = clustering.choose_eps(distance, cfg.PSEUDO_LABELS.MIN_SAMPLES, None, seed, images.keys)
    return next(row.score for row in chosen.sweep if row.eps == chosen.eps)


def measure(folder: Path) -> dict:
    """The row of a run: label-free score / mAP after each evaluation, and the mAP kept, last and best.

    Raises:
        UserError: if the run has no evaluations, or as `read_sweeps`.
    """
    run = read_run(folder)
    found = {epoch.number + 1: epoch.scores["mAP"] for epoch in run.epochs if "mAP" in epoch.scores}
    if not found:
        raise UserError(f"{folder} has no evaluations: give a run with a test.")
    sweeps = read_sweeps(folder / SWEEP)
    score = {epoch: row["score"] for epoch, rows in sweeps.items() for row in rows if row["used"]}
    last = max(found)
    score[last] = score_of_last(folder, last)
    kept = max(found, key=lambda epoch: (score[epoch], -epoch))
    row = {"run": f"{run.system}, seed {run.seed}"}
    row |= {f"after {epoch}": f"{score[epoch]:.3f} / {value:.1f}" for epoch, value in found.items()}
    return row | {"epoch kept": kept, "mAP kept": found[kept], "last": found[last], "best": max(found.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    add_output(parser)
    args = parser.parse_args()
    tables = Tables(args.output, setting()["machine"], torch.get_num_threads())
    tables.add([measure(run) for run in args.runs])


if __name__ == "__main__":
    with exit_with_message():
        main()
