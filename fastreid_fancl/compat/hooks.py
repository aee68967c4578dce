"""fast-reid's hooks and writers: when a training evaluates, writes metrics and saves checkpoints."""

import contextlib
import functools
import json
import logging
import os
from pathlib import Path

import numpy as np
import torch
from fastreid.engine import hooks
from fastreid.utils import comm, events

from ..errors import UserError
from ..files import explained, replacing
from .imports import replace

logger = logging.getLogger(__name__)
STEPS_TOGETHER = 20


@replace(hooks.EvalHook)
class EvalHook(hooks.EvalHook):
    """Symptom: EVAL_PERIOD 0: ZeroDivisionError, which hides a failed run's own error; -1: "No evaluation results";
    a period that does not divide MAX_EPOCH: no metric in the last checkpoint, no model_best, and an evaluation after
    a failure in the last epoch; resuming a finished run: ``'DefaultTrainer' object has no attribute 'epoch'``.

    Cause: engine/hooks.py:376-383 evaluates last in `after_train`, which also runs after a failure.
    Fix: it evaluates every `period` epochs and after the last one, in `after_epoch`; period 0 or less: only then.
    """

    def after_epoch(self) -> None:
        done = self.trainer.epoch + 1
        if done >= self.trainer.max_epoch or (self._period > 0 and done % self._period == 0):
            self._do_eval()

    def after_train(self) -> None:
        del self._func  # it may hold the trainer


@replace(hooks.LayerFreeze)
class LayerFreeze(hooks.LayerFreeze):
    """Symptom: BatchNorm statistics of MODEL.FREEZE_LAYERS move after the first evaluation; a resumed run freezes them
    for SOLVER.FREEZE_ITERS again; a misspelt layer trains; parts such as backbone.blocks.0 stay in training mode.

    Cause: engine/hooks.py:486 puts them into evaluation mode once, and each evaluation ends in `model.train()`;
    solver/build.py:131 counts the steps of the process, not of the run; engine/hooks.py:481 only logs unknown names,
    and knows none but those of the model's own parts.
    Fix: evaluation mode before each step, the optimiser's groups opened by the run's iteration, a UserError.
    """

    def before_train(self) -> None:
        known = {name for name, _ in self.model.named_modules()}
        unknown = [name for name in self.freeze_layers if name not in known]
        if unknown:
            parts = ", ".join(name for name, _ in self.model.named_children())
            wrong = ", ".join(unknown)
            raise UserError(f"Expected MODEL.FREEZE_LAYERS to be of {parts}, or parts of these; got {wrong}.")

    def before_step(self) -> None:
        names = ", ".join(self.freeze_layers)
        if self.trainer.iter < self.freeze_iters:
            for name in self.freeze_layers:
                self.model.get_submodule(name).eval()
            if not self.is_frozen:
                self._logger.info(f'Freeze layer group "{names}" training for {self.freeze_iters:d} iterations')
            self.is_frozen = True
            return
        if self.is_frozen:
            self.model.train()
            self.is_frozen = False
            self._logger.info(f'Open layer group "{names}" training')
        for group in self.trainer.optimizer.param_groups:
            group["freeze_status"] = "normal"


@replace(events.EventStorage)
class EventStorage(events.EventStorage):
    """Symptom: every training step waits for the GPU, and of several processes for each other; a loss that diverges
    ends in a traceback.

    Cause: engine/train_loop.py:272 and modeling/losses/cross_entroy_loss.py:28 make numbers of losses and accuracy,
    train_loop.py:277 gathers the losses, :294 raises FloatingPointError.
    Fix: losses and accuracy stay on their device until `settle`, which reads several steps at once and records the
    iteration of each; a diverging loss is a UserError with the cure.

    Symptom: the losses in metrics.json of a resumed run differ from those of a run that was never stopped.
    Cause: utils/events.py:436 smooths over values of the epochs before, which a resumed run does not have.
    Fix: the median is over values of the epoch that began with `begin_epoch`.
    """

    def __init__(self, start_iter: int = 0):
        super().__init__(start_iter)
        self._first_iter = start_iter
        self._later: list[tuple[int, str, torch.Tensor]] = []
        self._steps: list[tuple[int, dict[str, torch.Tensor], float]] = []

    def begin_epoch(self, iteration: int) -> None:
        """Begin an epoch at this iteration; later values belong to it."""
        self.iter = self._first_iter = iteration

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """As fast-reid's, over values of this epoch; a name without any gives its latest value."""
        losses = {}
        for name, (value, iteration) in self.latest().items():
            if self.smoothing_hints()[name] and iteration >= self._first_iter:
                values = [put for put, at in self.history(name).values()[-window_size:] if at >= self._first_iter]
                value = float(np.median(values))
            losses[name] = value, iteration
        return losses

    def put_later(self, name: str, value: torch.Tensor) -> None:
        """`put_scalar` for a tensor of one element, read later; for this process only."""
        self._later.append((self.iter, name, value.detach()))

    def put_step(self, losses: dict[str, torch.Tensor], data_time: float) -> None:
        """Record a step's losses (scalars) and the seconds that its batch took; settle every STEPS_TOGETHER steps."""
        self._steps.append((self.iter, {name: loss.detach() for name, loss in losses.items()}, data_time))
        if (self.iter + 1) % STEPS_TOGETHER == 0:
            self.settle()

    def settle(self) -> None:
        """Put the recorded values; all processes call it at the same iteration and get the losses of all.

        Raises:
            UserError: on all processes, if a loss is infinite or not a number; it names the first such iteration.
        """
        now, later, steps = self.iter, self._later, self._steps
        self._later, self._steps = [], []
        own = [(data_time, {name: loss.item() for name, loss in losses.items()}) for _, losses, data_time in steps]
        of_processes = comm.all_gather(own)
        for self.iter, name, value in later:
            self.put_scalar(name, value.item())
        for (self.iter, *_), *of_step in zip(steps, *of_processes, strict=True):
            self._put_losses(*zip(*of_step, strict=True))
        self.iter = now

    def _put_losses(self, data_times: tuple[float], losses: tuple[dict[str, float]]) -> None:
        """Put the mean of each loss over the processes, and the longest time."""
        means = {name: np.mean([own[name] for own in losses]) for name in losses[0]}
        total = sum(means.values())
        if not np.isfinite(total):
            raise UserError(
                f"Loss became infinite or NaN at iteration={self.iter}!\nloss_dict = {means}\n"
                "Lower SOLVER.BASE_LR, or raise SOLVER.WARMUP_ITERS."
            )
        self.put_scalars(data_time=np.max(data_times), total_loss=total)
        if len(means) > 1:
            self.put_scalars(**means)


@replace(hooks.PeriodicWriter)
class PeriodicWriter(hooks.PeriodicWriter):
    """Symptom: the last epoch's evaluation is never in metrics.json or TensorBoard; a resumed run repeats iterations.

    Cause: engine/hooks.py:175 writes the last iteration before `after_epoch` evaluates, and utils/events.py:105 and
    :147 write no iteration twice; utils/events.py:92 appends to what there is.
    Fix: an epoch's last iteration is written after its evaluation. Before training, the lines that the run will write
    again are removed from metrics.json; a new run moves an older file to metrics.previous.json. A period at which the
    storage has no losses yet (`EventStorage.put_step`) is refused.
    """

    def __init__(self, writers: list[events.EventWriter], period: int = STEPS_TOGETHER):
        if period % STEPS_TOGETHER:
            raise UserError(f"Expected to write at a multiple of {STEPS_TOGETHER} iterations, got {period}.")
        super().__init__(writers, period)

    def before_train(self) -> None:
        for writer in self._writers:
            if isinstance(writer, events.JSONWriter):
                rewind(writer, self.trainer.start_iter)

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self._period == 0 and done % getattr(self.trainer, "iters_per_epoch", done + 1):
            self.after_epoch()

    def after_epoch(self) -> None:
        for writer in self._writers:
            with explained(getattr(writer, "path", "")):
                writer.write()

    def after_train(self) -> None:
        for writer in self._writers:
            with contextlib.suppress(OSError):  # the lines that a full disk did not take; the error has been reported
                writer.close()


@replace(events.JSONWriter)
class JSONWriter(events.JSONWriter):
    """See `PeriodicWriter`; the file is opened when it is first needed."""

    def __init__(self, json_file: str, window_size: int = 20):
        self.path, self._window_size, self._last_write = json_file, window_size, -1

    @functools.cached_property
    def _file_handle(self):
        return open(self.path, "a")  # noqa: SIM115 (`close` closes it)

    def write(self) -> None:
        if not os.path.exists(self.path):  # removed while the run went on: its lines would be lost
            self.close()
        super().write()

    def close(self) -> None:
        if "_file_handle" in vars(self):
            super().close()
            del self._file_handle


@replace(events.TensorboardXWriter)
class TensorboardXWriter(events.TensorboardXWriter):
    """See `PeriodicWriter`; the file is opened when it is first needed."""

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs):
        self.path, self._window_size, self._last_write = os.path.join(log_dir, "events"), window_size, -1
        from torch.utils.tensorboard import SummaryWriter  # late, as in fast-reid: the import takes seconds

        self._open = functools.partial(SummaryWriter, log_dir, **kwargs)

    @functools.cached_property
    def _writer(self):
        return self._open()

    def close(self) -> None:
        if "_writer" in vars(self):
            super().close()


def rewind(writer: events.JSONWriter, start_iter: int) -> None:
    """Remove the lines of iteration `start_iter` and later, and a line that was cut off, from a writer's file."""
    path = writer.path
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = file.readlines()
    kept = [line for line in lines if _iteration(line) < start_iter]
    if len(kept) == len(lines):
        return
    if start_iter == 0:
        os.replace(path, os.path.join(os.path.dirname(path), "metrics.previous.json"))
    else:
        with replacing(path) as temporary:
            Path(temporary).write_text("".join(kept), encoding="utf-8", errors="surrogateescape", newline="")
    logger.info(f"{path}: {len(lines) - len(kept)} lines of an earlier run from iteration {start_iter} removed")


def _iteration(line: str) -> float:
    try:
        iteration = json.loads(line)["iteration"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return float("inf")
    return iteration if isinstance(iteration, int) else float("inf")


@replace(hooks.PeriodicCheckpointer)
class PeriodicCheckpointer(hooks.PeriodicCheckpointer):
    """Symptom: a resumed run may replace model_best by a worse model; so may an epoch that was not evaluated, with an
    earlier one's metric; the best epoch is not kept if CHECKPOINT_PERIOD does not save it; CHECKPOINT_PERIOD 0:
    ZeroDivisionError; an IndexError with no test set.

    Cause: utils/checkpoint.py:317 starts from -1 each time, :336 divides; engine/hooks.py:201 takes the first of no
    results, :210 the latest metric of any epoch.
    Fix: the best metric is state, which `compat.stateful` saves; any epoch may be the best; period 0 or less saves no
    other but the last; an epoch without an evaluation has the metric -1, which is never the best. A run that resumes
    with another metric, such as the label-free score, begins without a best.
    """

    metric_of = None  # in words; checkpoints of before do not have it

    def before_train(self) -> None:
        self.max_epoch = self.trainer.max_epoch
        cfg = self.trainer.cfg
        tests = cfg.DATASETS.TESTS
        self.metric_name = f"{tests[0]}/metric" if len(tests) > 1 else "metric"
        transductive = " (transductive)" * getattr(
            cfg.TEST, "TRANSDUCTIVE", False
        )  # stock configurations have no such key
        metric_of = f"{tests[0]}{transductive}" if tests else "the label-free score"
        if self.metric_of not in (None, metric_of) and self.best_metric >= 0:
            logger.warning(
                "The best epoch so far was chosen by %s, which cannot be compared with %s: the next epoch that is "
                "evaluated becomes model_best.",
                *(self.metric_of, metric_of),
            )
            self.best_metric = -1
        self.metric_of = metric_of

    def after_epoch(self) -> None:
        storage = events.get_event_storage()
        metric, iteration = storage.latest().get(self.metric_name, (-1, None))
        self.step(self.trainer.epoch, metric=metric if iteration == storage.iter else -1)

    def step(self, epoch: int, **kwargs) -> None:
        if kwargs["metric"] > self.best_metric:
            self.best_metric = kwargs["metric"]
            self.checkpointer.save("model_best", epoch=int(epoch), **kwargs)
        last = epoch >= self.max_epoch - 1
        if not last and (self.period <= 0 or (epoch + 1) % self.period):
            return
        self.checkpointer.save("model_final" if last else f"model_{epoch:04d}", epoch=int(epoch), **kwargs)

    def state_dict(self) -> dict:
        return {"best_metric": self.best_metric, "metric_of": self.metric_of}

    def load_state_dict(self, state: dict) -> None:
        self.best_metric, self.metric_of = state["best_metric"], state.get("metric_of")


@replace(events.CommonMetricPrinter)
class CommonMetricPrinter(events.CommonMetricPrinter):
    """Symptom: ``ZeroDivisionError: float division by zero`` in a run of one or two iterations.

    Cause: utils/events.py:220 estimates the time left from two writes at one iteration.
    Fix: no estimate then.
    """

    def write(self) -> None:
        if self._last_write is not None and self._last_write[0] == events.get_event_storage().iter:
            self._last_write = None
        super().write()
