"""Small runs through the command line, and what they leave in their folders."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from conftest import REPO

from fastreid_fancl import load_config

SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.PRECISION": "float32",  # alike on all machines
    "MODEL.BACKBONE.DEPTH": "18x",
    "MODEL.BACKBONE.FEAT_DIM": 512,
    "MODEL.BACKBONE.PRETRAIN": False,
    "INPUT.SIZE_TRAIN": "[16,32]",
    "INPUT.SIZE_TEST": "[16,32]",
    "INPUT.PADDING.SIZE": 2,
    "DATASETS.NAMES": "('Stripes',)",
    "DATASETS.TESTS": "('Stripes',)",
    "DATALOADER.NUM_WORKERS": 0,
    "PSEUDO_LABELS.K1": 6,
    "PSEUDO_LABELS.K2": 2,
    "SOLVER.IMS_PER_BATCH": 8,
    "SOLVER.MAX_EPOCH": 2,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "TEST.EVAL_PERIOD": 2,
    "TEST.IMS_PER_BATCH": 16,
}
# SpCL clusters what training has left in its memory: an epoch must reach every image.
OWN = {
    "spcl": {"PSEUDO_LABELS.EPS": 0.5, "SOLVER.ITERS_PER_EPOCH": 12},
    "densenet121": {
        "MODEL.BACKBONE.FEAT_DIM": 1024,
        "INPUT.SIZE_TRAIN": "[32,64]",  # it halves an image five times
        "INPUT.SIZE_TEST": "[32,64]",
    },
}
# A network of 0.4 million weights, for what does not depend on the backbone: a run takes a fifth of the time.
TINY = {
    "MODEL__BACKBONE__NAME": "build_timm_backbone",
    "MODEL__BACKBONE__TIMM": "test_resnet",
    "MODEL__BACKBONE__FEAT_DIM": 0,
}
UNSUPERVISED = ["fancl", "cluster_contrast", "spcl", "ice", "pplr", "jcl"]
METHODS = [*UNSUPERVISED, "resnet50", "densenet121", "pcb"]


def tiny(method: str) -> dict[str, object]:
    """TINY for a method that takes any backbone."""
    return {} if method in ("jcl", "densenet121") else TINY


def arguments(method, output, *flags, **changes):
    keys = {
        **SMALL,
        **OWN.get(method, {}),
        **{key.replace("__", "."): value for key, value in changes.items()},
        "OUTPUT_DIR": os.fspath(output),
    }
    opts = [str(word) for pair in keys.items() for word in pair]
    return ["--config-file", os.fspath(REPO / f"configs/RedPanda/{method}.yml"), *flags, *opts]


def configured(method, output="", **changes):
    _, config_file, *opts = arguments(method, output, **changes)
    return load_config(config_file, opts)


def shell(*args, **changes):
    command = [sys.executable, os.fspath(REPO / "tools/train_net.py"), *arguments(*args, **changes)]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPO, timeout=300)


def weights(output: Path, name: str = "model_final.pth") -> dict[str, torch.Tensor]:
    return torch.load(output / name, weights_only=True)["model"]


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def metrics(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]


def by_name(output: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for line in metrics(output):
        for name, value in line.items():
            found.setdefault(name, []).append(value)
    return found
