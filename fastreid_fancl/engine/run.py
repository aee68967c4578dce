"""One run from the command line: configuration, checks, training or evaluation, on one process or several.

`--num-gpus 2` starts two processes on one machine, also with MODEL.DEVICE cpu. Several machines must share OUTPUT_DIR
and have the same images under FASTREID_DATASETS; on each of them, with its own `--machine-rank` from 0, run

    python tools/train_net.py --num-machines 2 --machine-rank 0 --num-gpus 4 --dist-url tcp://FIRST-MACHINE:29500 ...

or use torchrun, which restarts all processes when one is lost. `--resume` then continues from the last checkpoint,
and the final weights equal those of a run that was never stopped (bit for bit on CPUs; GPUs may add in another order):

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
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
import yaml
from fastreid.engine import default_argument_parser, launch
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng
from torch.multiprocessing import ProcessExitedException

from ..config.checks import check_config
from ..config.load import load_config
from ..errors import UserError, exit_with_message
from ..processes import choose_backend, torchrun_processes
from ..runs.folder import FIXED_BY_CHECKPOINT, sole_writer, start_over, write_config
from ..runs.log import begin_logs, log_into, log_setting
from ..runs.read import last_checkpoint, read_config, read_starts
from ..runs.settings import differences, explain_differences
from .estimate import estimate_run
from .starts import check_start, weights_in_use
from .trained_model import input_size, load_model, random_parts, use_runtime
from .trainer import Trainer, check_data

logger = logging.getLogger(__name__)
CONTINUE = "run the same command with --resume to continue from the last checkpoint"
# Set by `compare.command` for its runs.
ENDS_WITH_INPUT = "FASTREID_FANCL_ENDS_WITH_INPUT"
# PyTorch's words for a worker process that a signal ended, or that is gone.
LOST_WORKER = re.compile(r"DataLoader worker \(pid(\(s\))? [\d, ]+\) (is killed by signal|exited unexpectedly)")


def command_line(argv: list[str] | None = None) -> None:
    """Run `train` in the processes that the arguments ask for; wrong input ends in a message without a traceback."""
    parser = default_argument_parser()
    parser.add_argument("--plan", action="store_true", help="rehearse: print the time, memory and disk to expect")
    args = parser.parse_args(argv)
    if os.environ.get(ENDS_WITH_INPUT):
        threading.Thread(target=end_with_input, daemon=True).start()
    with exit_with_message(CONTINUE):
        cfg = load_config(args.config_file, args.opts)
        processes = torchrun_processes() or args.num_gpus * args.num_machines
        check_config(cfg, processes, resume=args.resume and not args.eval_only)
        if args.plan:
            print(estimate_run(cfg, processes))
            return
        choose_backend(cfg.MODEL.DEVICE)
        with exit_with_process():
            launch(one_process, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url, args=(args,))


@contextmanager
def exit_with_process() -> Iterator[None]:
    """Exit with the status of the first process that failed; explain it if a signal ended that process."""
    try:
        yield
    except ProcessExitedException as error:
        if error.exit_code >= 0:  # it has said why
            sys.exit(error.exit_code)
        out_of_memory = ", as the system does when memory runs out" if error.signal_name == "SIGKILL" else ""
        raise UserError(
            f"process {error.error_index} was ended by {error.signal_name or f'signal {-error.exit_code}'}"
            f"{out_of_memory}: {CONTINUE}."
        ) from error


def end_with_input() -> None:
    """End this process when its standard input closes, a pipe from the process that started it."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def one_process(args) -> None:
    """`train` in one of the processes. The first one of a machine reports an error that all of them meet."""
    with exit_with_message(), explain_lost_worker(), reported_once():
        train(args)


@contextmanager
def reported_once() -> Iterator[None]:
    """Report an error of all ranks once per machine; name the rank in an error that only one rank raises."""
    try:
        yield
    except UserError as error:
        if error.one_rank and comm.get_world_size() > 1:
            raise UserError(f"process {comm.get_rank()}: {error}", one_rank=True) from error
        if not error.one_rank and comm.get_local_rank() > 0:
            sys.exit(1)
        raise


@contextmanager
def explain_lost_worker() -> Iterator[None]:
    """Re-raise PyTorch's error on a worker that died as one that names the setting to change."""
    try:
        yield
    except RuntimeError as error:
        if not LOST_WORKER.search(str(error)):
            raise
        raise UserError(
            f"process {comm.get_rank()} lost a worker that reads photographs ({error}). If memory ran out, lower "
            f"DATALOADER.NUM_WORKERS. {CONTINUE[0].upper()}{CONTINUE[1:]}.",
            one_rank=True,
        ) from error


def train(args) -> dict:
    """Train on this process, or evaluate with `--eval-only`.

    Args:
        args: the arguments of fast-reid's parser.

    Returns:
        The last evaluation's results by name; empty on all ranks except the first.

    Raises:
        UserError: on any input that cannot be used.
    """
    cfg = load_config(args.config_file, args.opts)
    with sole_writer(cfg.OUTPUT_DIR) if comm.is_main_process() else nullcontext():
        log_into(cfg.OUTPUT_DIR, comm.get_rank())
        log_setting(comm.get_rank(), comm.get_world_size(), args, cfg)
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK and not args.eval_only
        check_data(cfg, train=not args.eval_only)
        seed_all_rng(cfg.SEED)
        if args.eval_only:
            return evaluate(cfg, begin=lambda: begin(cfg, evaluation=True))
        check_start(cfg)
        if args.resume:
            check_resumed(cfg)
        trainer = Trainer(cfg, args.resume)
        trainer.resume_or_load(args.resume)
        for name in cfg.DATASETS.TESTS:
            Trainer.build_test_loader(cfg, name)  # decodes test photographs before the clocks run
        trainer.begin = lambda: begin(cfg, new=not args.resume)
        return trainer.train()


def begin(cfg, new: bool = False, evaluation: bool = False) -> None:
    """Take over OUTPUT_DIR, once nothing can refuse to start: until then an earlier run in it stays as it was.

    With `new` the earlier run's checkpoints can no longer be resumed from.
    """
    comm.synchronize()
    if comm.is_main_process():
        folder = Path(cfg.OUTPUT_DIR)
        write_config(folder, cfg.dump(), evaluation, before=lambda: start_over(folder) if new else None)
    begin_logs()


def check_resumed(cfg) -> None:
    """Compare the settings with those in the folder's config.yaml; log changes as warnings.

    Raises:
        UserError: on a changed setting that the checkpoint fixes, and on damaged files.
    """
    folder = Path(cfg.OUTPUT_DIR)
    last_checkpoint(folder), read_starts(folder)
    if not (folder / "last_checkpoint").exists() or not (folder / "config.yaml").exists():
        return
    changed = differences(read_config(folder), yaml.safe_load(cfg.dump()))
    kept = {key: values for key, values in changed.items() if key.startswith(FIXED_BY_CHECKPOINT)}
    if kept:
        raise UserError(
            f"The run in {folder} was started with other settings (before, now): {explain_differences(kept)}. The "
            "checkpoint fixes them: use the original settings, or start again without --resume."
        )
    if changed:
        logger.warning("Continuing with changed settings (before, now): %s", explain_differences(changed))


def evaluate(cfg, begin: Callable[[], None] = lambda: None) -> dict:
    """Evaluate MODEL.WEIGHTS, or the weights that a training would start from, on DATASETS.TESTS: results by name.

    Args:
        cfg: the configuration.
        begin: called when the model is ready, before anything is written.

    Raises:
        UserError: without tests, and for the reasons of `load_model` and `use_runtime`.
    """
    if not cfg.DATASETS.TESTS:
        raise UserError("DATASETS.TESTS is empty: name a data set to evaluate on.")
    model = load_model(cfg)
    random = () if cfg.MODEL.WEIGHTS else random_parts(model, input_size(cfg))
    model = use_runtime(model, cfg)
    begin()
    logger.info("The scores below are of %s.", weights_in_use(cfg, random))
    return Trainer.test(cfg, model)
