"""One run from the command line: configuration, checks, training or evaluation, on one process or several."""

import sys

from fastreid.engine import default_argument_parser, default_setup, launch
from fastreid.utils.checkpoint import Checkpointer
from fastreid.utils.env import seed_all_rng

from .. import compat
from ..config import load_config
from .trainer import Trainer


def command_line(argv: list[str] | None = None) -> None:
    """Run `train` with the processes that the arguments ask for; a wrong input ends in its message, without a traceback."""
    parser = default_argument_parser()
    parser.set_defaults(dist_url="auto")
    args = parser.parse_args(argv)
    try:
        cfg = load_config(args.config_file, args.opts)
        compat.check_config(cfg, world_size=args.num_gpus * args.num_machines)
        compat.choose_backend(cfg.MODEL.DEVICE)
        launch(train, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url, args=(args,))
    except ValueError as error:
        sys.exit(f"error: {error}")


def train(args) -> dict:
    """Train by the stock engine, or evaluate with `--eval-only`, on this process.

    Args:
        args: of fast-reid's argument parser.

    Returns:
        The last evaluation's results by name; empty on all ranks but the first.

    Raises:
        ValueError: on any input that cannot be used.
    """
    cfg = load_config(args.config_file, args.opts)
    default_setup(cfg, args)
    seed_all_rng(cfg.SEED)
    if args.eval_only:
        return evaluate(cfg)
    trainer = Trainer(cfg)
    trainer.resume_or_load(args.resume)
    return trainer.train()


def evaluate(cfg) -> dict:
    """Evaluate MODEL.WEIGHTS on DATASETS.TESTS: results by name."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.PRETRAIN = False
    model = Trainer.build_model(cfg)
    Checkpointer(model).load(cfg.MODEL.WEIGHTS)
    return Trainer.test(cfg, model)
