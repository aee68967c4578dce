"""Files that are there whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

FULL = 2**20  # bytes left on a disk on which a write has just failed


class DiskFullError(OSError, ValueError):
    """A full disk, told in a message for the user; where the file can be done without, an OSError as any other."""


def looked_for(path: str | os.PathLike) -> str:
    """Where a file was looked for that is not there, as the end of a sentence; empty where the path says it."""
    return "" if os.path.isabs(path) else f" in {os.getcwd()}, which the path is relative to"


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[str]:
    """Yield a temporary name beside `path`; what was written to it becomes `path` on success and goes on an error.

    The data are on the disk before the name changes, so a power cut or kill leaves the old file or the new one.

    Raises:
        DiskFullError: if the disk is full, which PyTorch tells as an unexpected position in a file.
    """
    path = os.fspath(path)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        left = shutil.disk_usage(os.path.dirname(path) or ".").free
        if left < FULL:
            raise DiskFullError(
                f"{path} could not be written, as its disk is full ({left // 1024} KiB left): free some and give the "
                "command again, a training with --resume."
            ) from error
        raise
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
