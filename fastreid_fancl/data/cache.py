"""Cache of decoded and resized photographs, for all epochs, processes and runs.

A training run reads every image twice per epoch, for clustering and for training, and each time it first decodes the
image and resizes it to the input size of the network. A cache file holds N images of H x W pixels as (N, H, W, 3) uint8
in NumPy's format. It is memory-mapped, so processes share it and unread pages take no memory.
"""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

import numpy as np
from PIL import Image
from torchvision.transforms import Compose, Resize

from ..files import replacing
from ..locks import exclusive_lock
from ..logs import FILE_ONLY, log_once
from ..machine import available_cores
from ..progress import Progress
from .check import cache_folder, stamp
from .images import read_image

logger = logging.getLogger(__name__)
GIB = 2**30

_readers: WeakSet["ResizedImages"] = WeakSet()


class ResizedImages:
    """Reads photographs from a file of `write_resized`, in place of `read_image`."""

    def __init__(self, file: Path, paths: Sequence[str]):
        """Open a cache file; `paths` are the photographs in the order of its rows."""
        self.file, self.paths = file, paths
        self._open()

    def _open(self) -> None:
        self._rows = {path: row for row, path in enumerate(self.paths)}
        self._pixels = np.load(self.file, mmap_mode="r")
        _readers.add(self)

    def __call__(self, path: str) -> Image.Image:
        """Read one of the photographs."""
        return Image.fromarray(self._pixels[self._rows[path]])

    def __getstate__(self):
        return self.file, self.paths  # pickling the memory map would copy all pixels

    def __setstate__(self, state):
        self.file, self.paths = state
        self._open()


def image_reader(
    paths: Iterable[str], transforms: Sequence[Compose], limit_gib: float, folder: str | os.PathLike | None = None
) -> Callable[[str], Image.Image]:
    """Return a function that reads photographs for these transforms: from a cache file if possible, else `read_image`.

    Caching is possible if all transforms begin with the same resizing to a fixed height and width. That resizing leaves
    a cached image as it is, so results stay bitwise equal. The file's name depends on the paths, sizes and times of the
    photographs and on the resizing, so a new file is written when any of them changes.

    Args:
        paths: paths of readable photographs.
        transforms: all transforms that will be applied to them.
        limit_gib: limit for all cache files together, in GiB. The files used longest ago are removed first; those that
            this process reads are kept. 0 switches the cache off.
        folder: folder of the cache, by default `check.cache_folder`.
    """
    paths, resize = list(dict.fromkeys(paths)), common_resize(transforms)
    if resize is None or not paths:
        return read_image
    height, width = resize.size
    size = 3 * len(paths) * height * width
    budget = limit_gib * GIB - size
    if budget >= 0:  # otherwise the photographs need not be read
        file = Path(folder or cache_folder(), f"resized-{fingerprint(paths, resize)}.npy")
        in_use = {reader.file for reader in _readers if reader.file.parent == file.parent and reader.file.exists()}
        budget -= sum(other.stat().st_size for other in in_use - {file})
    if budget < 0:
        if limit_gib:
            reason = f"{len(paths)} resized images take {size / GIB:.2g} GiB, DATALOADER.CACHE_GIB is {limit_gib:g}"
            log_once(logger, logging.INFO, f"{reason} for all: photographs are decoded each time")
        return read_image
    try:
        with exclusive_lock(file.with_name("resized.lock")):  # the first of several ranks and runs writes for all
            if not file.exists():
                evict_oldest(file.parent, budget, in_use)
                write_resized(file, paths, resize)
            os.utime(file)
            try:
                return ResizedImages(file, paths)
            except (ValueError, EOFError):  # damaged
                file.unlink()
                write_resized(file, paths, resize)
                return ResizedImages(file, paths)
    except OSError as error:
        log_once(logger, logging.WARNING, f"{file} cannot be used ({error}); photographs are decoded each time")
        return read_image


def fingerprint(paths: Sequence[str], resize: Resize) -> str:
    """Hash the paths, sizes and times of photographs and the way they are resized."""
    return hashlib.blake2b("\0".join([repr(resize), *map(str, map(stamp, paths))]).encode(), digest_size=16).hexdigest()


def common_resize(transforms: Sequence[Compose]) -> Resize | None:
    """Return the resizing to a fixed height and width with which all transforms begin, or None."""
    first, *others = [transform.transforms[0] for transform in transforms]
    fixed = isinstance(first, Resize) and not isinstance(first.size, int) and len(first.size) == 2
    return first if fixed and all(repr(step) == repr(first) for step in others) else None


def write_resized(file: Path, paths: Sequence[str], resize: Resize) -> None:
    """Write the resized photographs in the order of `paths`; an interruption leaves no file behind.

    It writes the file instead of mapping it, so a full disk raises an OSError.
    """
    began = time.monotonic()
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), *resize.size, 3)}
    workers = available_cores()
    with replacing(file) as temporary, open(temporary, "wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        with ThreadPoolExecutor(workers) as pool, Progress("Decoding", len(paths), "photographs") as progress:
            for start in range(0, len(paths), 64 * workers):
                for image in pool.map(lambda path: resize(read_image(path)), paths[start : start + 64 * workers]):
                    stream.write(image.tobytes())
                    progress.advance()
    seconds = time.monotonic() - began
    logger.info("Decoded and resized %d photographs in %.1f s into %s", len(paths), seconds, file, extra=FILE_ONLY)


def evict_oldest(folder: Path, limit: float, kept: set[Path]) -> None:
    """Remove the files used longest ago until the files that are not `kept` take at most `limit` bytes."""
    files = sorted(set(folder.glob("resized-*.npy")) - kept, key=lambda file: file.stat().st_mtime)
    total = sum(file.stat().st_size for file in files)
    for file in files:
        if total <= limit:
            return
        total -= file.stat().st_size
        with suppress(OSError):  # in use, on Windows
            file.unlink()
