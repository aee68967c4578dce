"""The log of a run: the console gets what a person needs, log.txt gets everything once the run has begun."""

import logging
from collections.abc import Callable
from pathlib import Path

from fastreid.utils import logger as fastreid_logger
from fastreid.utils.collect_env import collect_env_info

from ..escape import coloured
from ..progress import beside_bars

LOGGERS = ("fastreid", "fastreid_fancl")
# How fast-reid's messages begin that go to the log file only: settings, models, and what this package logs itself.
FOR_THE_FILE = (
    *("Rank of current process", "Environment info", "Command line arguments", "Running with full config", "Model:\n"),
    *("Saving checkpoint to", "Saved in", "Prepare training set", "Prepare testing set", "Starting training from"),
    *("Evaluation results for", "There is no checkpoint to load", "Auto-scaling the num_classes"),
)
# Loggers whose lines are for the file only: losses every few iterations, the speed of inference, times at the end.
HIDDEN = (
    *("fastreid.utils.events", "fastreid.evaluation.evaluator", "fastreid.engine.hooks"),
    "fastreid_fancl.clustering.neighbors.search",
)
FORMAT = "[%(asctime)s] %(name)s %(levelname)s: %(message)s"


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

    On a full disk the log loses lines, but the run goes on.
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


def log_into(folder: str, rank: int) -> None:
    """Log to the console on the process of rank 0, and on all processes to log.txt of a folder after `begin_logs`."""
    file = LogFile(Path(folder, "log.txt" + f".rank{rank}" * bool(rank))) if folder else None
    for name in LOGGERS:
        log = fastreid_logger.setup_logger(None, distributed_rank=rank, name=name)
        if file is not None:
            log.addHandler(file)


def log_setting(rank: int, processes: int, args: object, cfg: object) -> None:
    """Log how a run was started and where, for the file."""
    log = logging.getLogger(__name__)
    log.info(f"Rank of current process: {rank}. World size: {processes}")
    log.info(f"Environment info:\n{collect_env_info()}")
    log.info(f"Command line arguments: {args}")
    log.info(f"Running with full config:\n{cfg}")


def begin_logs() -> None:
    """Write the log file of `log_into` from now on."""
    for handler in logging.getLogger(LOGGERS[0]).handlers:
        if isinstance(handler, LogFile):
            handler.begin()
