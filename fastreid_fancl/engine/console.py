"""What a person sees of a training: the data as they were understood, a bar, one line per epoch."""

import logging
import time

from fastreid.engine.hooks import HookBase

from ..data import UNKNOWN_CAMERA, UNLABELLED, plural
from ..logs import FILE_ONLY
from ..progress import Progress
from .evaluation import protocol

logger = logging.getLogger(__name__)
SCORES_IN_LINE = ("mAP", "Rank-1")
table_of_scores = logging.getLogger("fastreid.evaluation.testing")


def describe_training(names: list[str], items: list[tuple]) -> str:
    """The training images (path, pid, camid) of data sets in words."""
    identities = {pid for _, pid, _ in items} - {UNLABELLED}
    cameras = {camid for *_, camid in items if not str(camid).endswith(UNKNOWN_CAMERA)}
    animals = plural(len(identities), "animal") if identities else "unknown animals"
    unlabelled = sum(pid == UNLABELLED for _, pid, _ in items)
    known = f" ({unlabelled} without identity)" if identities and unlabelled else ""
    seen = plural(len(cameras), "camera") if cameras else "unknown cameras"
    return f"Trains on {', '.join(names)}: {plural(len(items), 'photograph')}{known}, {animals}, {seen}."


def describe_test(cfg, name: str) -> str:
    """What an evaluation on a data set looks up, in words."""
    test = protocol(cfg, name)
    animals = {pid for _, pid, _ in test.query}
    if test.leaves_one_out:
        return f"Tests on {name}: each of {len(test.query)} photographs of {len(animals)} animals among the others."
    return f"Tests on {name}: {len(test.query)} queries of {len(animals)} animals, {len(test.gallery)} in the gallery."


def duration(seconds: float) -> str:
    """Seconds in words, minutes from two on."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


class TrainingProgress(HookBase):
    """Shows the progress of an epoch's training."""

    def __init__(self):
        self.progress: Progress | None = None

    def before_step(self):
        trainer = self.trainer
        if self.progress is None:
            name = f"Epoch {trainer.epoch + 1} of {trainer.max_epoch}"
            self.progress = Progress(name, trainer.iters_per_epoch, "iterations")

    def after_step(self):
        self.progress.advance()

    def after_epoch(self):
        if self.progress is not None:
            self.progress.close()
        self.progress = None

    after_train = after_epoch  # also after a failure in the middle of an epoch


def for_the_file(record: logging.LogRecord) -> bool:
    """A logger's filter that keeps its lines from the console."""
    record.__dict__.update(FILE_ONLY)
    return True


class EpochLine(HookBase):
    """Logs each epoch in one line; it comes after the evaluation.

    The table of all scores is on the console after the last epoch only; log.txt has every one.
    """

    def before_train(self):
        self.began = time.perf_counter()  # and not in before_epoch, which comes after features and clusters

    def before_epoch(self):
        self.first = self.trainer.iter
        last = self.trainer.epoch + 1 == self.trainer.max_epoch
        (table_of_scores.removeFilter if last else table_of_scores.addFilter)(for_the_file)

    def after_epoch(self):
        trainer = self.trainer
        now = time.perf_counter()
        seconds, self.began = now - self.began, now
        parts = [*self._words(), duration(seconds)]
        left = trainer.max_epoch - trainer.epoch - 1
        if left:
            parts.append(f"about {duration(seconds * left)} left")
        logger.info("Epoch %d of %d: %s", trainer.epoch + 1, trainer.max_epoch, ", ".join(parts))

    def after_train(self):
        table_of_scores.removeFilter(for_the_file)

    def _words(self) -> list[str]:
        storage = self.trainer.storage
        put = storage.histories().get("total_loss")
        losses = [value for value, at in put.values() if at >= self.first] if put else []
        now = {name: value for name, (value, at) in storage.latest().items() if at >= self.first}
        words = [f"loss {sum(losses) / len(losses):.3g}"] if losses else []
        if "clusters" in now:
            words.append(f"{now['clusters']:.0f} clusters, {now['left_out']:.0f} photographs left out")
        if "eps" in now:
            words.append(f"eps {now['eps']:g}")
        # With several tests, names begin with that of the test.
        scores = [name for score in SCORES_IN_LINE for name in now if name.rpartition("/")[2] == score]
        return words + [f"{name} {now[name]:.1f}" for name in scores]
