"""One run from the command line: configuration, checks, training or evaluation, on one process or several.

Several processes of one machine: `--num-gpus 2`, with MODEL.DEVICE cpu too. Several machines, which share OUTPUT_DIR
and have the same images under FASTREID_DATASETS: on each, with its own `--machine-rank` from 0,

    python tools/train_net.py --num-machines 2 --machine-rank 0 --num-gpus 4 --dist-url tcp://FIRST-MACHINE:29500 ...

or by torchrun, which starts all processes again when one is lost; `--resume` then goes on from the last checkpoint, to
the weights of a run never stopped (to the bit on CPUs; GPUs do not always add in one order):

    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun --nnodes 2 --nproc-per-node 4 --max-restarts 3 \
        --rdzv-backend c10d --rdzv-endpoint FIRST-MACHINE:29500 tools/train_net.py --resume ...
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from fastreid.engine import default_argument_parser, default_setup, launch
from fastreid.utils import comm
from fastreid.utils.checkpoint import Checkpointer
from fastreid.utils.env import seed_all_rng
from torch.multiprocessing import ProcessExitedException

from .. import compat
from ..config import load_config
from ..data.locks import alone
from .plan import plan
from .trainer import Trainer, check_data

logger = logging.getLogger(__name__)


def command_line(argv: list[str] | None = None) -> None:
    """Run `train` in the processes that the arguments ask for; wrong input ends in its message without a traceback."""
    parser = default_argument_parser()
    parser.add_argument("--plan", action="store_true", help="rehearse: print the time, memory and disk to expect")
    args = parser.parse_args(argv)
    try:
        cfg = load_config(args.config_file, args.opts)
        processes = compat.torchrun_processes() or args.num_gpus * args.num_machines
        compat.check_config(cfg, processes, resume=args.resume and not args.eval_only)
        if args.plan:
            print(plan(cfg, processes))
            return
    except ValueError as error:
        sys.exit(f"error: {error}")
    compat.choose_backend(cfg.MODEL.DEVICE)
    try:
        launch(one_process, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url, args=(args,))
    except ValueError as error:
        sys.exit(f"error: {error}")
    except ProcessExitedException as error:
        sys.exit(error.exit_code)


def one_process(args) -> None:
    """`train` in one of the processes; only the first one of a machine says what was wrong."""
    try:
        train(args)
    except ValueError as error:
        sys.exit(f"error: {error}" if comm.get_local_rank() == 0 else 1)


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
    with sole_writer(cfg.OUTPUT_DIR) if comm.is_main_process() else nullcontext():
        default_setup(cfg, args)
        check_data(cfg, train=not args.eval_only)
        seed_all_rng(cfg.SEED)
        if args.eval_only:
            return evaluate(cfg)
        if not args.resume and comm.is_main_process():
            start_over(Path(cfg.OUTPUT_DIR))
        trainer = Trainer(cfg)
        trainer.resume_or_load(args.resume)
        for name in cfg.DATASETS.TESTS:
            Trainer.build_test_loader(cfg, name)  # decodes what the evaluations need before the clocks run
        return trainer.train()


def start_over(folder: Path) -> None:
    """Until a new run has a checkpoint of its own there is none to resume from."""
    last = folder / "last_checkpoint"
    if last.exists():
        logger.warning("An earlier run in %s is written over: --resume would have gone on with it.", folder)
        last.unlink()


@contextmanager
def sole_writer(folder: str) -> Iterator[None]:
    """Keep other runs out of an output folder.

    Raises:
        ValueError: if another run is writing to it.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(alone(os.path.join(folder, ".lock"), wait=False))
        except BlockingIOError as error:
            raise ValueError(
                f"Another run is writing to {folder}: wait for it, stop it, or give this one its own OUTPUT_DIR."
            ) from error
        except OSError as error:
            raise ValueError(f"OUTPUT_DIR {folder} cannot be written to ({error}): choose another.") from error
        yield


def evaluate(cfg) -> dict:
    """Evaluate MODEL.WEIGHTS, or else those that a training would start from, on DATASETS.TESTS: results by name."""
    cfg = cfg.clone()
    cfg.defrost()
    if cfg.MODEL.WEIGHTS:
        cfg.MODEL.BACKBONE.PRETRAIN = False
    elif not cfg.MODEL.BACKBONE.PRETRAIN:
        logger.warning("These are the scores of random weights: name trained ones by MODEL.WEIGHTS.")
    model = Trainer.build_model(cfg)
    Checkpointer(model).load(cfg.MODEL.WEIGHTS)
    return Trainer.test(cfg, model)
