"""Log lines that a process writes once."""

import functools
import logging


@functools.lru_cache(maxsize=4096)
def log_once(logger: logging.Logger, level: int, message: str) -> None:
    """Log ``message`` the first time only: fast-reid builds a data set again for every loader and evaluation."""
    logger.log(level, message)
