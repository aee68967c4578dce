"""Locks that processes share, so that one of them works at a time."""

import contextlib
import math
import os
import time
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # not on Windows, where several processes may then do the same work
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def exclusive_lock(path: str, wait: float = math.inf) -> Iterator[None]:
    """Lock ``path`` for the block: other processes that lock it wait.

    The lock ends with its process. Processes that it forks do not inherit the lock, so they block nobody when they
    outlive a killed run.

    Args:
        path: of the file; it is created, and stays.
        wait: seconds to wait until the lock is free; 0 to fail at once.

    Raises:
        OSError: ``path`` cannot be written.
        BlockingIOError: if another process still holds the lock after these seconds.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "a") as file:
        deadline = time.monotonic() + wait
        while fcntl is not None:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX if wait == math.inf else fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.2)
        yield
