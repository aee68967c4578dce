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
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import yaml
from fastreid.engine import default_argument_parser, launch
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng
from torch import nn
from torch.multiprocessing import ProcessExitedException

from .. import compat
from ..compat.engine import set_up_logs, write_config
from ..compat.logs import begin_logs
from ..config.checks import check_config
from ..config.load import load_config
from ..errors import OneProcessError
from ..files import DiskFullError, explained
from ..locks import alone
from ..report.systems import differences, explain
from ..runs.escape import message
from ..runs.read import last_checkpoint, read_config, read_starts
from .complete import CompleteCheckpointer, input_size, modules_run
from .estimate import plan
from .trainer import Trainer, check_data

logger = logging.getLogger(__name__)
# Set by `report.compare` for its runs.
ENDS_WITH_INPUT = "FASTREID_FANCL_ENDS_WITH_INPUT"
# PyTorch's words for a worker that a signal ended, or that is not there any more.
LOST_WORKER = re.compile(r"DataLoader worker \(pid(\(s\))? [\d, ]+\) (is killed by signal|exited unexpectedly)")
# What optimiser, schedule and weights of a checkpoint hold.
OF_CHECKPOINT = (
    *("MODEL.META_ARCHITECTURE", "MODEL.BACKBONE.NAME", "MODEL.BACKBONE.DEPTH", "SOLVER.OPT", "SOLVER.BASE_LR"),
    *("SOLVER.HEADS_LR_FACTOR", "SOLVER.BIAS_LR_FACTOR", "SOLVER.WEIGHT_DECAY", "SOLVER.MOMENTUM", "SOLVER.NESTEROV"),
    *("SOLVER.SCHED", "SOLVER.STEPS", "SOLVER.GAMMA", "SOLVER.WARMUP"),
)


def command_line(argv: list[str] | None = None) -> None:
    """Run `train` in the processes that the arguments ask for; wrong input ends in its message without a traceback."""
    parser = default_argument_parser()
    parser.add_argument("--plan", action="store_true", help="rehearse: print the time, memory and disk to expect")
    args = parser.parse_args(argv)
    if os.environ.get(ENDS_WITH_INPUT):
        threading.Thread(target=end_with_input, daemon=True).start()
    try:
        cfg = load_config(args.config_file, args.opts)
        processes = compat.torchrun_processes() or args.num_gpus * args.num_machines
        check_config(cfg, processes, resume=args.resume and not args.eval_only)
        if args.plan:
            print(plan(cfg, processes))
            return
    except (ValueError, OSError) as error:
        sys.exit(f"error: {message(error)}")
    compat.choose_backend(cfg.MODEL.DEVICE)
    try:
        launch(one_process, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url, args=(args,))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {message(error)}")
    except KeyboardInterrupt:
        sys.exit("stopped: the same command with --resume goes on from the last checkpoint")
    except ProcessExitedException as error:
        if error.exit_code >= 0:  # it has said why
            sys.exit(error.exit_code)
        out_of_memory = ", as the system does when memory runs out" if error.signal_name == "SIGKILL" else ""
        sys.exit(
            f"error: process {error.error_index} was ended by {error.signal_name or f'signal {-error.exit_code}'}"
            f"{out_of_memory}: the same command with --resume goes on from the last checkpoint."
        )


def end_with_input() -> None:
    """Wait for the end of the standard input, a pipe that closes when whoever started this process ends: end, too."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def one_process(args) -> None:
    """`train` in one of the processes; only the first one of a machine says what was wrong with all."""
    try:
        train(args)
    except OneProcessError as error:
        who = f"process {comm.get_rank()}: " if comm.get_world_size() > 1 else ""
        sys.exit(f"error: {who}{message(error)}")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {message(error)}" if comm.get_local_rank() == 0 else 1)
    except RuntimeError as error:
        if not LOST_WORKER.search(str(error)):
            raise
        sys.exit(
            f"error: process {comm.get_rank()} lost a worker that reads photographs ({message(error)}). Where memory "
            "ran out, lower DATALOADER.NUM_WORKERS. The same command with --resume goes on from the last checkpoint."
        )


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
        set_up_logs(cfg, args)
        check_data(cfg, train=not args.eval_only)
        seed_all_rng(cfg.SEED)
        if args.eval_only:
            return evaluate(cfg, begin=lambda: begin(cfg, evaluation=True))
        check_start(cfg)
        if args.resume:
            check_resumed(cfg)
        trainer = Trainer(cfg)
        trainer.resume_or_load(args.resume)
        for name in cfg.DATASETS.TESTS:
            Trainer.build_test_loader(cfg, name)  # decodes what the evaluations need before the clocks run
        trainer.begin = lambda: begin(cfg, anew=not args.resume)
        return trainer.train()


def begin(cfg, anew: bool = False, evaluation: bool = False) -> None:
    """Make OUTPUT_DIR that of this run, after all that may fail: it may hold another run, which stays as it was.

    With `anew` there is nothing to resume from until the run has a checkpoint of its own.
    """
    comm.synchronize()
    write_config(cfg, evaluation, before=lambda: start_over(Path(cfg.OUTPUT_DIR)) if anew else None)
    begin_logs()


def check_start(cfg) -> None:
    """Raise ValueError if MODEL.BACKBONE.PRETRAIN_PATH is given and would not be used."""
    path, start = cfg.MODEL.BACKBONE.PRETRAIN_PATH, cfg.MODEL.WEIGHTS
    if path and (start or not cfg.MODEL.BACKBONE.PRETRAIN):
        raise ValueError(
            f"MODEL.BACKBONE.PRETRAIN_PATH {path} would not be used: with it set MODEL.BACKBONE.PRETRAIN True and "
            f"MODEL.WEIGHTS '', now {cfg.MODEL.BACKBONE.PRETRAIN} and {start!r}."
        )


def check_resumed(cfg) -> None:
    """Warn of settings that a run goes on with and that its folder's config.yaml has otherwise.

    Raises:
        ValueError: on those that its checkpoint keeps, whatever the configuration says, and on damaged files.
    """
    folder = Path(cfg.OUTPUT_DIR)
    last_checkpoint(folder), read_starts(folder)
    if not (folder / "last_checkpoint").exists() or not (folder / "config.yaml").exists():
        return
    found = differences(read_config(folder), yaml.safe_load(cfg.dump()))
    kept = {key: values for key, values in found.items() if key.startswith(OF_CHECKPOINT)}
    if kept:
        raise ValueError(
            f"The run in {folder} has other settings (there, and now): {explain(kept)}. Its checkpoint would keep "
            "them: give those of the run, or start anew without --resume."
        )
    if found:
        logger.warning("The run goes on with other settings (before, and now): %s", explain(found))


def start_over(folder: Path) -> None:
    """Take away what --resume would go on from."""
    last = folder / "last_checkpoint"
    if last.exists():
        logger.warning("An earlier run in %s is written over: --resume would have gone on with it.", folder)
        last.unlink()


@contextmanager
def sole_writer(folder: str) -> Iterator[None]:
    """Keep other runs out of an output folder.

    Raises:
        ValueError: if there is none, or another run is writing to it.
    """
    if not folder:
        raise ValueError("OUTPUT_DIR is empty: name a folder for what the run writes.")
    with ExitStack() as stack:
        path = os.path.join(folder, ".lock")
        try:
            with explained(path):
                stack.enter_context(alone(path, wait=False))
        except DiskFullError:
            raise
        except BlockingIOError as error:
            raise ValueError(
                f"Another run is writing to {folder}: wait for it, stop it, or give this one its own OUTPUT_DIR."
            ) from error
        except OSError as error:
            raise ValueError(f"OUTPUT_DIR {folder} cannot be written to ({error}): choose another.") from error
        yield


def evaluate(cfg, begin: Callable[[], None] = lambda: None) -> dict:
    """Evaluate MODEL.WEIGHTS, or else those that a training would start from, on DATASETS.TESTS: results by name.

    Args:
        cfg: the configuration.
        begin: called when the model is ready, before anything is written.

    Raises:
        ValueError: without tests, and as `load_model`.
    """
    if not cfg.DATASETS.TESTS:
        raise ValueError("DATASETS.TESTS is empty: name a data set to evaluate on.")
    model = load_model(cfg)
    begin()
    logger.info("The scores below are of %s.", weights_named(cfg))
    return Trainer.test(cfg, model)


def load_model(cfg) -> nn.Module:
    """The model in evaluation mode with MODEL.WEIGHTS, or else with those that a training would start from.

    Raises:
        ValueError: if weights lack what the test-time feature is made of, or MODEL.BACKBONE.PRETRAIN_PATH would not be
            used.
    """
    cfg = cfg.clone()
    cfg.defrost()
    if cfg.MODEL.WEIGHTS:
        cfg.MODEL.BACKBONE.PRETRAIN = False
    else:
        check_start(cfg)
        if not cfg.MODEL.BACKBONE.PRETRAIN:
            logger.warning("These are the scores of random weights: name trained ones by MODEL.WEIGHTS.")
    model = Trainer.build_model(cfg).eval()
    if cfg.MODEL.WEIGHTS:
        CompleteCheckpointer(model, modules_run(model, input_size(cfg))).load(cfg.MODEL.WEIGHTS)
    return model


def weights_named(cfg) -> str:
    """The weights that `load_model` takes, in words."""
    backbone = cfg.MODEL.BACKBONE
    if cfg.MODEL.WEIGHTS:
        return f"MODEL.WEIGHTS {cfg.MODEL.WEIGHTS}"
    if not backbone.PRETRAIN:
        return "random weights"
    start = backbone.PRETRAIN_PATH or f"pretrained {backbone.TIMM or backbone.NAME}"
    return f"the frozen start, without training: {start}"
