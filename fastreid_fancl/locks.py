"""One process at a time."""

import contextlib
import os
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # not on Windows, where several processes may then do the same work
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def exclusive_lock(path: str, wait: bool = True) -> Iterator[None]:
    """Hold the other processes that lock ``path`` until the block ends; the lock goes with its process.

    Processes that this one forks do not hold it, so those that outlive a killed run keep nobody out.

    Raises:
        OSError: ``path`` cannot be written.
        BlockingIOError: without ``wait``, if another process holds it.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "a") as file:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
