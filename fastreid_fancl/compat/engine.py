"""The trainer, its optimiser and its set-up."""

import argparse
import logging
import math
import time
import warnings
from pathlib import Path

import torch
from fastreid.engine import defaults, hooks, train_loop
from fastreid.solver import build as solver_build
from fastreid.utils import comm, events
from fastreid.utils.env import seed_all_rng
from fastreid.utils.params import ContiguousParams
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import UserError
from ..runs.folder import write_config
from ..runs.log import begin_logs, log_into, log_setting
from .imports import replace, wrap

logger = logging.getLogger(__name__)


class KeepGradients:
    """Replaces an optimiser's `zero_grad`: it fills the gradients with zeros and never drops them."""

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.zero_grad = optimizer.zero_grad

    def __call__(self, set_to_none: bool = False) -> None:
        self.zero_grad(set_to_none=False)


@wrap(solver_build.build_optimizer)
def build_optimizer(stock, cfg, model: nn.Module, contiguous: bool = True):
    """Symptom: nothing is learned, silently: weights stay bit for bit and gradients grow from step to step.

    Cause: utils/params.py:70 binds one flat gradient to the flat parameters that the optimiser holds;
    engine/train_loop.py:248 and :346 call `zero_grad`, which since PyTorch 2 drops that gradient, so that `step`
    finds none, while backward goes on filling the old views.
    Fix: `zero_grad` of this optimiser writes zeros.
    """
    try:
        optimizer, params = stock(cfg, model, contiguous)
    except ValueError as error:  # PyTorch checks the numbers
        raise UserError(f"SOLVER.OPT {cfg.SOLVER.OPT} cannot use these settings: {error}.") from error
    optimizer.zero_grad = KeepGradients(optimizer)
    return optimizer, params


@wrap(solver_build.build_lr_scheduler)
def build_lr_scheduler(stock, cfg, optimizer, iters_per_epoch: int) -> dict:
    """Symptom: ``ZeroDivisionError`` with fewer images than IMS_PER_BATCH, or when warm-up takes all epochs (cosine).

    Cause: engine/defaults.py:218 rounds the iterations of an epoch down to 0; solver/build.py:313 divides by them,
    :328 makes a cosine of 0 epochs.
    Fix: a UserError with the numbers.
    """
    solver = cfg.SOLVER
    if iters_per_epoch < 1:
        raise UserError(
            f"Expected at least one batch per epoch, got fewer training images than SOLVER.IMS_PER_BATCH "
            f"{solver.IMS_PER_BATCH}: lower it."
        )
    before = max(math.ceil(solver.WARMUP_ITERS / iters_per_epoch), solver.DELAY_EPOCHS)
    if solver.SCHED == "CosineAnnealingLR" and before >= solver.MAX_EPOCH:
        raise UserError(
            f"Warm-up and delay take {before} of SOLVER.MAX_EPOCH {solver.MAX_EPOCH} epochs ({iters_per_epoch} "
            "iterations each), which leaves none for CosineAnnealingLR: lower SOLVER.WARMUP_ITERS or DELAY_EPOCHS."
        )
    try:
        return stock(cfg, optimizer, iters_per_epoch)
    except ValueError as error:  # an unknown SOLVER.WARMUP_METHOD, for one
        raise UserError(f"SOLVER.SCHED {solver.SCHED} cannot use these settings: {error}.") from error


def write_metrics(self, loss_dict: dict[str, torch.Tensor], data_time: float) -> None:
    """Symptom and cause: see `EventStorage`; engine/train_loop.py:271 also copies losses on a stream that waits for
    nothing, so it can log losses before they are computed.

    Fix: the storage takes them.
    """
    events.get_event_storage().put_step(loss_dict, data_time)


train_loop.SimpleTrainer._write_metrics = write_metrics


def without_traceback(record: logging.LogRecord) -> bool:
    """Symptom: a wrong input that shows in the middle of training is a traceback in the log before its one message.

    Cause: engine/train_loop.py:150 logs each exception with its traceback.
    Fix: a filter that leaves only the message of a `UserError`; others may be bugs and keep their traceback.
    """
    error = record.exc_info and record.exc_info[1]
    if isinstance(error, UserError):
        record.msg, record.exc_info = f"Training stopped: {error}", None
    return True


logging.getLogger(train_loop.__name__).addFilter(without_traceback)


@replace(train_loop.AMPTrainer)
class AMPTrainer(train_loop.AMPTrainer):
    """Symptom: ``AssertionError: CUDA is required`` at the first step; deprecation warnings at each.

    Cause: engine/train_loop.py:325-346 uses torch.cuda.amp.
    Fix: torch.amp; a UserError when the model is not on a GPU.
    """

    def __init__(self, model, data_loader, optimizer, param_wrapper, grad_scaler=None):
        device = next(model.parameters()).device
        if device.type != "cuda":
            raise UserError(f"SOLVER.AMP needs a GPU, the model is on {device}: use SOLVER.AMP.ENABLED False.")
        super().__init__(model, data_loader, optimizer, param_wrapper, grad_scaler or torch.amp.GradScaler("cuda"))

    def run_step(self) -> None:
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with torch.autocast("cuda"):
            loss_dict = self.model(data)
            loss = sum(loss_dict.values())
        self.optimizer.zero_grad()
        self.grad_scaler.scale(loss).backward()
        self._write_metrics(loss_dict, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        if isinstance(self.param_wrapper, ContiguousParams):
            self.param_wrapper.assert_buffer_is_valid()


class DataParallel(DistributedDataParallel):
    """Symptom: ``ValueError: DistributedDataParallel device_ids ... only work with ... GPU modules`` on the CPU; each
    step on several GPUs waits for the step before; PyTorch 2.15 warns of `broadcast_buffers`.

    Cause: engine/defaults.py:211 always names a GPU, to which PyTorch then copies each batch and waits for it, and sets
    `broadcast_buffers`, which PyTorch has renamed; older versions know only this name.
    Fix: no GPU is named; `compat.model.own_batch` copies the batch without waiting; the warning is left out.
    """

    def __init__(self, module: nn.Module, device_ids: list[int] | None = None, **kwargs):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*broadcast_buffers. is deprecated", FutureWarning)
            super().__init__(module, **kwargs)


defaults.DistributedDataParallel = DataParallel


def stateful(trainer: train_loop.TrainerBase) -> dict:
    """The state besides model, optimiser and schedules that a resumed run needs: hooks with a state, the AMP scaler.

    Returns:
        Name -> object with `state_dict` and `load_state_dict`, for `trainer.checkpointer.checkpointables`.
    """
    states = {type(hook).__name__: hook for hook in trainer._hooks if hasattr(hook, "load_state_dict")}
    if trainer.grad_scaler is not None:
        states["grad_scaler"] = trainer.grad_scaler
    return states


@replace(defaults.DefaultTrainer)
class DefaultTrainer(defaults.DefaultTrainer):
    """Symptom: resuming forgets the best metric and the AMP scale; resuming a finished run ends in an AttributeError;
    scalars that a hook logs before an epoch never reach metrics.json, nor do those of an epoch when the run is killed
    just after its checkpoint.

    Cause: engine/defaults.py:223 saves neither, :350 expects an evaluation; engine/train_loop.py:199 sets the
    iteration of the storage only in `before_step`, so that those scalars get one that is already written;
    engine/defaults.py:313 writes after the checkpoint, from which a resumed run begins the next epoch.
    Fix: the checkpoint contains `stateful`, a finished run is evaluated again, and the iteration is set in time. The
    checkpoint comes last; `compat.hooks.rewind` removes lines that were written without one. The last losses of an
    epoch are checked before anything is written or saved.
    """

    def __init__(self, cfg):
        super().__init__(cfg)
        self.checkpointer.checkpointables.update(stateful(self))

    def build_hooks(self) -> list[hooks.HookBase]:
        return sorted(super().build_hooks(), key=lambda hook: isinstance(hook, hooks.PeriodicCheckpointer))

    def before_epoch(self) -> None:
        self.storage.begin_epoch(self.iter)
        super().before_epoch()

    def after_epoch(self) -> None:
        self.storage.settle()
        super().after_epoch()

    def train(self):
        if self.start_epoch >= self.max_epoch:
            logger.info(f"Training had finished its {self.max_epoch} epochs before; evaluating its weights")
            self._last_eval_results = self.test(self.cfg, self.model)
        return super().train()

    @staticmethod
    def auto_scale_hyperparams(cfg, num_classes: int):
        """Symptom: a start that fails has written over the config.yaml of the run that its folder holds.

        Cause: engine/defaults.py:485 writes it, straight onto its name, as soon as the identities are counted.
        Fix: only the number is set; `default_setup` below writes the file.
        """
        cfg, frozen = cfg.clone(), cfg.is_frozen()
        cfg.defrost()
        cfg.MODEL.HEADS.NUM_CLASSES = cfg.MODEL.HEADS.NUM_CLASSES or num_classes
        if frozen:
            cfg.freeze()
        return cfg


@replace(defaults.default_setup)
def default_setup(cfg, args) -> None:
    """Symptom: `--eval-only` overwrites the config.yaml of the training; each run draws another seed.

    Cause: engine/defaults.py:105 and :113.
    Fix: evaluation writes config_eval.yaml; the seed is cfg.SEED, another one for each process. The log of this
    package goes where fast-reid's goes.
    """
    evaluation = getattr(args, "eval_only", False)
    if cfg.OUTPUT_DIR and comm.is_main_process():
        write_config(Path(cfg.OUTPUT_DIR), cfg.dump(), evaluation)
    log_into(cfg.OUTPUT_DIR, comm.get_rank())
    log_setting(comm.get_rank(), comm.get_world_size(), args, cfg)
    begin_logs()
    seed_all_rng(cfg.SEED + comm.get_rank() if "SEED" in cfg else None)
    if not evaluation:
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK


@wrap(defaults.default_argument_parser)
def default_argument_parser(stock) -> argparse.ArgumentParser:
    """Symptom: two jobs of one user collide on a port.

    Cause: engine/defaults.py:61 derives it from the user's number.
    Fix: `--dist-url auto` is the default, a free port.
    """
    parser = stock()
    parser.set_defaults(dist_url="auto")
    return parser
