"""Logs: the console gets what a person needs, log.txt gets everything once the run has begun."""

import logging
import sys
from pathlib import Path

from fastreid.utils import comm
from fastreid.utils import logger as fastreid_logger

from ..escape import coloured
from .imports import wrap

LOGGERS = ("fastreid", "fastreid_fancl")
# The beginnings of messages with settings, models and the like: hundreds of lines, for the file only.
FOR_THE_FILE = (
    *("Rank of current process", "Environment info", "Command line arguments", "Running with full config", "Model:\n"),
    *("Saving checkpoint to", "Saved in", "Prepare training set", "Prepare testing set"),
)
FORMAT = "[%(asctime)s] %(name)s %(levelname)s: %(message)s"


@wrap(fastreid_logger.setup_logger)
def setup_logger(stock, output=None, distributed_rank=0, *, color=True, name="fastreid", abbrev_name=None):
    """Symptom: with two trainers in one process every line appears twice, and in the first one's log file too.

    Cause: utils/logger.py:34 adds handlers for each new output and removes none.
    Mend: the handlers of the previous call are removed first.

    Symptom: the few lines that matter are lost among hundreds of settings; names of files can move the cursor.
    Cause: utils/logger.py:50 sends everything to the console, unescaped.
    Mend: lines that begin as in FOR_THE_FILE go to the file only, and the rest is escaped by `coloured`.
    """
    log = logging.getLogger(name)
    for handler in log.handlers[:]:
        log.removeHandler(handler)
    # Without its cache, so that a second call with the same output adds its handlers again.
    log = stock.__wrapped__(output, distributed_rank, color=color, name=name, abbrev_name=abbrev_name)
    for handler in log.handlers:
        handler.setFormatter(Safe(handler.formatter))
        if getattr(handler, "stream", None) is sys.stdout:
            handler.addFilter(lambda record: not record.getMessage().startswith(FOR_THE_FILE))
    return log


class Safe(logging.Formatter):
    """Formats as another formatter does, and escapes the lines by `coloured`."""

    def __init__(self, stock: logging.Formatter):
        super().__init__()
        self.stock = stock

    def format(self, record: logging.LogRecord) -> str:
        return coloured(self.stock.format(record))


class LogFile(logging.FileHandler):
    """A log file that `begin` opens; it then gets the earlier lines, too. Without `begin` no file is written.

    On a full disk the log loses lines, but the run goes on.
    """

    def __init__(self, path: Path):
        super().__init__(path, encoding="utf-8", delay=True)
        self.held: list[logging.LogRecord] | None = []
        self.setFormatter(Safe(logging.Formatter(FORMAT, datefmt="%m/%d %H:%M:%S")))

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
