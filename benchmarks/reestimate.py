#!/usr/bin/env python3
"""Train on statistics of the batch, but compute all features by statistics estimated again: do they save the encoder?

    FASTREID_DATASETS=FOLDER python benchmarks/reestimate.py --config-file FILE [KEY VALUE ...]

Before the photographs are encoded and before they are scored, the running statistics of every BatchNorm layer become
the mean of those of batches of all training photographs, in random order, by the weights of that moment. Otherwise the
run is that of `tools/train_net.py`, and the last line that it prints is its scores.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fastreid_fancl  # noqa: E402, F401 (fixes fast-reid before it is imported)

# isort: split
from fastreid.data.transforms import build_transforms  # noqa: E402
from fastreid.engine import hooks  # noqa: E402
from fastreid.utils.env import seed_all_rng  # noqa: E402
from fastreid.utils.precision_bn import update_bn_stats  # noqa: E402

from fastreid_fancl.batchnorm import batchnorms  # noqa: E402
from fastreid_fancl.config.load import load_config  # noqa: E402
from fastreid_fancl.data.loaders import ReIDDataset, feature_loader  # noqa: E402
from fastreid_fancl.engine.run import begin  # noqa: E402
from fastreid_fancl.engine.trainer import Trainer, check_data, training_items  # noqa: E402
from fastreid_fancl.errors import exit_with_message  # noqa: E402
from fastreid_fancl.runs.log import log_into  # noqa: E402


def reestimate(model, cfg) -> None:
    """Set the running statistics to the mean of those of batches of the training images, read as at test time."""
    items = training_items(cfg)
    order = np.random.default_rng(cfg.SEED).permutation(len(items))
    images = ReIDDataset([items[n] for n in order], build_transforms(cfg, is_train=False))
    loader = feature_loader(images, cfg.SOLVER.IMS_PER_BATCH)
    model.eval()
    for norm in batchnorms(model):
        norm.train()
    update_bn_stats(model, loader, len(loader))
    model.train()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True)
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    args = parser.parse_args()
    cfg = load_config(args.config_file, args.opts)
    log_into(cfg.OUTPUT_DIR, rank=0)
    check_data(cfg)
    seed_all_rng(cfg.SEED)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.begin = lambda: begin(cfg, new=True)
    again = hooks.CallbackHook(
        before_epoch=lambda trainer: reestimate(trainer.model, cfg),
        after_epoch=lambda trainer: reestimate(trainer.model, cfg),
    )
    trainer.register_hooks([again])
    trainer._hooks.insert(0, trainer._hooks.pop())  # before the photographs are encoded, and before they are scored
    print({name: round(float(value), 2) for name, value in trainer.train().items() if isinstance(value, float)})


if __name__ == "__main__":
    with exit_with_message():
        main()
