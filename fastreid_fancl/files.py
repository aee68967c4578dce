"""Files that are there whole or not at all."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

FULL = 2**20  # bytes left on a disk on which a write has just failed
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class DiskFullError(OSError, ValueError):
    """A full disk, told in a message for the user; where the file can be done without, an OSError as any other."""


def looked_for(path: str | os.PathLike) -> str:
    """Where a file was looked for that is not there, as the end of a sentence; empty where the path says it."""
    return "" if os.path.isabs(path) else f" in {os.getcwd()}, which the path is relative to"


class FolderGoneError(OSError, ValueError):
    """A folder that was removed while its run went on."""


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[str]:
    """Yield a temporary name beside `path`; what was written to it becomes `path` on success and goes on an error.

    The data are on the disk before the name changes, so a power cut or kill leaves the old file or the new one.

    Raises:
        DiskFullError: if the disk is full.
        FolderGoneError: if the folder of `path` is not there.
    """
    path = os.fspath(path)
    temporary = f"{path}.{os.getpid()}.tmp"
    with explained(path):
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            if os.path.exists(temporary):
                os.remove(temporary)


@contextmanager
def explained(path: str | os.PathLike) -> Iterator[None]:
    """Say in a message for the user why `path` could not be written, where its disk or its folder is the reason.

    Raises:
        DiskFullError: if the disk is full, which PyTorch tells as an unexpected position in a file.
        FolderGoneError: if the folder of `path` is not there.
    """
    try:
        yield
    except (DiskFullError, FolderGoneError, BlockingIOError):
        raise
    except (OSError, RuntimeError) as error:
        folder = os.path.dirname(os.fspath(path)) or "."
        left = free_bytes(folder)
        if getattr(error, "errno", None) in NO_SPACE or left < FULL:
            raise DiskFullError(
                f"{path} could not be written, as its disk is full ({left // 1024} KiB left): free some and give the "
                "command again, a training with --resume."
            ) from error
        if isinstance(error, FileNotFoundError | RuntimeError) and not os.path.isdir(folder):
            raise FolderGoneError(
                f"{path} could not be written, as its folder is no longer there: it was removed or renamed while the "
                "command ran. Leave it in place, and give the command again."
            ) from error
        raise


def free_bytes(folder: str) -> int:
    """Left on the disk of a folder, or of the nearest one above it that is there."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder) or "."
    return shutil.disk_usage(folder).free
