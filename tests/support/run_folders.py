"""Folders of runs that are written by hand."""

import csv
import json
import os
from pathlib import Path
from statistics import fmean

import yaml


def settings(seed=0, epochs=2, train="Stripes", test="Stripes", **changes) -> dict:
    """What a run's config.yaml holds; `changes` are keys of SOLVER."""
    return {
        "SEED": seed,
        "OUTPUT_DIR": f"logs/{seed}",
        "DATASETS": {"NAMES": [train], "TESTS": [test]},
        "SOLVER": {"MAX_EPOCH": epochs, "IMS_PER_BATCH": 8, "ITERS_PER_EPOCH": 5, **changes},
        "PSEUDO_LABELS": {"ALGORITHM": "dbscan"},
    }


CLUSTERED = {"clusters": 7.0, "left_out": 3.0, "identities": 6.0, "ari": 0.5, "nmi": 0.75, "seconds_clustering": 1.0}


def write_run(folder, seed=0, scores=((30.0, 50.0), (40.0, 60.0)), clustered=True, config=None, finished=True):
    """A run of 5 iterations an epoch with (mAP, Rank-1) of each epoch; without `finished` the last epoch is not."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config or settings(seed, len(scores))))
    lines = []
    for epoch, (mean, first) in enumerate(scores):
        if clustered:
            lines.append({"iteration": 5 * epoch, **CLUSTERED, "seconds_features": 2.0})
        found = {"mAP": mean, "Rank-1": first, "Rank-5": 80.0, "Rank-10": 90.0, "mINP": 10.0}
        seconds = {"seconds_training": 4.0, "seconds_evaluation": 0.5}
        lines.append({"iteration": 5 * epoch + 4, "loss_cluster": 3.0, "total_loss": 3.0, **seconds, **found})
        lines[-1]["peak_memory_gib"] = 1.0 + epoch
    if not finished:
        lines.pop()
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    last = "model_final.pth" if finished else "model_0000.pth"
    (folder / last).touch()
    (folder / "last_checkpoint").write_text(last)
    return folder


def write_queried_run(folder, precisions, seed=0, root="/data", **keys):
    """A run whose queries are q0, q1, ... with these average precisions; None has no match, 1 is found first."""
    scores = ((100 * fmean(p for p in precisions if p is not None), 50.0),)
    folder = write_run(folder / f"seed_{seed}", seed=seed, scores=scores, **keys)
    with open(folder / "queries.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "identity", "ap", "first_rank"))
        for number, precision in enumerate(precisions):
            found = ("", "") if precision is None else (precision, 1 if precision == 1 else 2)
            table.writerow((f"{root}/q{number}.jpg", number, *found))
    return folder


def add_imports(run: Path, code: Path) -> None:
    """Let a run's configuration import a file of Python."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "IMPORTS": [os.fspath(code)]}))
