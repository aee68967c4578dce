"""Files that are written whole or not at all."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import OUTSIDE, UserError

FULL = 2**20  # bytes left on a disk on which a write has just failed
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
TORCH_STOPPED = "unexpected pos"  # PyTorch's words for a file that did not take all that was written


class CannotWriteError(OSError, UserError):
    """A file or folder that cannot be written, explained; also an OSError, for callers that can do without it."""


class DiskFullError(CannotWriteError):
    """A full disk."""


class FolderGoneError(CannotWriteError):
    """A folder that was removed while its run went on."""


def looked_for(path: str | os.PathLike) -> str:
    """The end of a sentence on a missing file: the folder that a relative path starts from; "" for an absolute one."""
    return "" if os.path.isabs(path) else f" in {os.getcwd()}, which the path is relative to"


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[str]:
    """Yield a temporary name beside `path`; the file written there becomes `path`, or is removed on an error.

    The data are on the disk before the name changes, so a power cut or kill leaves the old file or the new one.

    Raises:
        CannotWriteError: if the disk is full, the folder of `path` is gone or may not be written to.
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


def content_hash(opened: BinaryIO) -> str:
    """SHA-256 of what an opened file holds from here on, without holding all of it in memory."""
    digest = hashlib.sha256()
    while block := opened.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def write_arrays(path: str | os.PathLike, compressed: bool = False, **arrays: Any) -> None:
    """Write NumPy arrays by name (.npz) in one step, as `replacing` does."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        (np.savez_compressed if compressed else np.savez)(file, **arrays)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a UTF-8 file in one step, as `replacing` does."""
    with replacing(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")


def make_folder(path: str | os.PathLike) -> None:
    """Make a folder and those above it, unless they exist.

    Raises:
        CannotWriteError: if the disk is full, the place may not be written to, or a file is in the way.
    """
    with explained(path):
        os.makedirs(path, exist_ok=True)


@contextmanager
def explained(path: str | os.PathLike) -> Iterator[None]:
    """Explain to the user why `path` could not be written, where the reason lies outside the program.

    Raises:
        DiskFullError: if the disk is full, which PyTorch reports as an unexpected position in a file.
        FolderGoneError: if the folder of `path` does not exist.
        CannotWriteError: for permissions, or a folder and a file in each other's place.
    """
    try:
        yield
    except (CannotWriteError, BlockingIOError):
        raise
    except (OSError, RuntimeError) as error:
        folder = os.path.dirname(os.fspath(path)) or "."
        left = free_bytes(folder)
        number = getattr(error, "errno", None)
        if number in NO_SPACE or left < FULL:
            raise DiskFullError(
                f"{path} could not be written, as its disk is full ({left // 1024} KiB left): free some space and run "
                "the command again, a training with --resume."
            ) from error
        if isinstance(error, FileNotFoundError | RuntimeError) and not os.path.isdir(folder):
            raise FolderGoneError(
                f"{path} could not be written, as its folder is no longer there: it was removed or renamed while the "
                "command ran. Leave it in place, and run the command again."
            ) from error
        if isinstance(error, RuntimeError) and TORCH_STOPPED in str(error):
            raise CannotWriteError(
                f"{path} could not be written whole, with space left on its disk ({str(error).splitlines()[0]}): the "
                "disk or a limit (ulimit -f) keeps files small. Choose another place, or lift the limit."
            ) from error
        if number in OUTSIDE or isinstance(error, FileExistsError):
            raise CannotWriteError(
                f"{path} cannot be written ({error}): choose another path, or remove what is in the way."
            ) from error
        raise


def free_bytes(folder: str) -> int:
    """Bytes left on the disk of a folder, or of the nearest existing one above it."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder) or "."
    return shutil.disk_usage(folder).free
