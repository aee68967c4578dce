"""Logs: the console gets what a person needs, log.txt gets everything once the run has begun."""

import functools
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from fastreid.utils import comm
from fastreid.utils import logger as fastreid_logger

from ..escape import coloured
from ..progress import beside_bars
from .imports import wrap

LOGGERS = ("fastreid", "fastreid_fancl")
# How messages of fast-reid begin that are for the file only: settings, models, what a line of this package says, too.
FOR_THE_FILE = (
    *("Rank of current process", "Environment info", "Command line arguments", "Running with full config", "Model:\n"),
    *("Saving checkpoint to", "Saved in", "Prepare training set", "Prepare testing set", "Starting training from"),
    *("Evaluation results for", "There is no checkpoint to load", "Auto-scaling the num_classes"),
)
TABLE_OF_SCORES = "fastreid.evaluation.testing"
# Loggers whose lines are for the file only: losses every few iterations, the speed of inference, times at the end.
HIDDEN = {
    *("fastreid.utils.events", "fastreid.evaluation.evaluator", "fastreid.engine.hooks"),
    "fastreid_fancl.clustering.neighbors.search",
}
FORMAT = "[%(asctime)s] %(name)s %(levelname)s: %(message)s"


@wrap(fastreid_logger.setup_logger)
def setup_logger(stock, output=None, distributed_rank=0, *, color=True, name="fastreid", abbrev_name=None):
    """Symptom: with two trainers in one process every line appears twice, and in the first one's log file too.

    Cause: utils/logger.py:34 adds handlers for each new output and removes none.
    Fix: the handlers of the previous call are removed first.

    Symptom: the few lines that matter are lost among hundreds of settings; names of files can move the cursor.
    Cause: utils/logger.py:50 sends everything to the console, unescaped.
    Fix: `for_a_person` decides, and the rest comes as `coloured`, beside the bars of `progress`.
    """
    log = logging.getLogger(name)
    for handler in log.handlers[:]:
        log.removeHandler(handler)
    # Without its cache, so that a second call with the same output adds its handlers again.
    log = stock.__wrapped__(output, distributed_rank, color=color, name=name, abbrev_name=abbrev_name)
    for handler in log.handlers:
        handler.setFormatter(EscapingFormatter(handler.formatter))
        if getattr(handler, "stream", None) is sys.stdout:
            handler.addFilter(for_a_person)
            handler.emit = functools.partial(emit_beside_bars, handler.emit)
    return log


def for_a_person(record: logging.LogRecord) -> bool:
    """Whether a line belongs on the console: warnings do, details of `logs.FILE_ONLY` and of HIDDEN loggers do not."""
    if record.levelno >= logging.WARNING:
        return True
    details = getattr(record, "file_only", False) or record.name in HIDDEN
    return not details and not record.getMessage().startswith(FOR_THE_FILE)


def emit_beside_bars(emit: Callable[[logging.LogRecord], None], record: logging.LogRecord) -> None:
    """Write a line to the console without breaking a bar on it."""
    with beside_bars():
        emit(record)


class EscapingFormatter(logging.Formatter):
    """Formats as another formatter does, and escapes the lines by `coloured`."""

    def __init__(self, stock: logging.Formatter):
        super().__init__()
        self.stock = stock

    def format(self, record: logging.LogRecord) -> str:
        return coloured(self.stock.format(record))


class LogFile(logging.FileHandler):
    """A log file that `begin` opens; it then gets the earlier lines, too. Without `begin` no file is written.

    On a full disk the log loses lines, but the run continues.
    """

    def __init__(self, path: Path):
        super().__init__(path, encoding="utf-8", delay=True)
        self.held: list[logging.LogRecord] | None = []
        self.setFormatter(EscapingFormatter(logging.Formatter(FORMAT, datefmt="%m/%d %H:%M:%S")))

    def emit(self, record: logging.LogRecord) -> None:
        if self.held is None:
            super().emit(record)
        else:
            self.held.append(record)

    def begin(self) -> None:
        """Open the file and write the earlier lines."""
        held, self.held = self.held or [], None
        for record in held:
            self.handle(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (of the standard library)
        """Leave the line out."""


def log_into(folder: str) -> None:
    """Log to the console on the first process, and on all processes to log.txt of a folder after `begin_logs`."""
    rank = comm.get_rank()
    file = LogFile(Path(folder, "log.txt" + f".rank{rank}" * bool(rank))) if folder else None
    for name in LOGGERS:
        log = fastreid_logger.setup_logger(None, distributed_rank=rank, name=name)
        if file is not None:
            log.addHandler(file)


def begin_logs() -> None:
    """Write the log file of `log_into` from now on."""
    for handler in logging.getLogger(LOGGERS[0]).handlers:
        if isinstance(handler, LogFile):
            handler.begin()
