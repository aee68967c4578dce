"""How this package logs."""

import functools
import logging

FILE_ONLY = {"file_only": True}
"""`logger.info(..., extra=FILE_ONLY)`: details for log.txt that are not for the console."""


@functools.lru_cache(maxsize=4096)
def log_once(logger: logging.Logger, level: int, message: str) -> None:
    """Log ``message`` the first time only: fast-reid builds a data set again for every loader and evaluation."""
    logger.log(level, message)
