"""Photographs decoded and resized once, for all epochs, processes and runs.

A training run reads every image twice an epoch, to cluster and to train, and begins each time by making it as small as
the network wants it. Files hold N images of 3 x H x W pixels as (N, H, W, 3) uint8 in NumPy's format, memory-mapped, so
that processes share them and pages that nobody reads take no memory.
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
from ..logs import log_once
from .check import cache_folder, stamp
from .images import read_image

logger = logging.getLogger(__name__)
GIB = 2**30

_readers: WeakSet["ResizedImages"] = WeakSet()


class ResizedImages:
    """Reads photographs from a file of `write_resized`, in the place of `read_image`."""

    def __init__(self, file: Path, paths: Sequence[str]):
        self.file, self.paths = file, paths
        self._open()

    def _open(self) -> None:
        self._rows = {path: row for row, path in enumerate(self.paths)}
        self._pixels = np.load(self.file, mmap_mode="r")
        _readers.add(self)

    def __call__(self, path: str) -> Image.Image:
        return Image.fromarray(self._pixels[self._rows[path]])

    def __getstate__(self):
        return self.file, self.paths  # a pickled memory map would be the pixels themselves

    def __setstate__(self, state):
        self.file, self.paths = state
        self._open()


def image_reader(
    paths: Iterable[str], transforms: Sequence[Compose], limit_gib: float, folder: str | os.PathLike | None = None
) -> Callable[[str], Image.Image]:
    """What reads the photographs for these transforms: from a file of resized ones where there can be one.

    There can where all transforms begin with the same resizing to a fixed height and width, which leaves an image of
    that size as it is: results stay equal to the bit. The file is named by the paths, sizes and times of the
    photographs and by the resizing, so that another one is written when any of them has changed.

    Args:
        paths: of readable photographs.
        transforms: all that will be applied to them.
        limit_gib: of all such files together, in GiB; those used longest ago go first, but for those that this process
            reads. 0 switches this off.
        folder: by default that of `check.cache_folder`.
    """
    paths, resize = list(dict.fromkeys(paths)), common_resize(transforms)
    if resize is None or not paths:
        return read_image
    height, width = resize.size
    size = 3 * len(paths) * height * width
    room = limit_gib * GIB - size
    if room >= 0:  # else the photographs need not be looked at
        file = Path(folder or cache_folder(), f"resized-{fingerprint(paths, resize)}.npy")
        in_use = {reader.file for reader in _readers if reader.file.parent == file.parent and reader.file.exists()}
        room -= sum(other.stat().st_size for other in in_use - {file})
    if room < 0:
        if limit_gib:
            reason = f"{len(paths)} resized images take {size / GIB:.2g} GiB, DATALOADER.CACHE_GIB is {limit_gib:g}"
            log_once(logger, logging.INFO, f"{reason} for all: photographs are decoded each time")
        return read_image
    try:
        with exclusive_lock(file.with_name("resized.lock")):  # of several ranks and runs the first writes for all
            if not file.exists():
                make_room(file.parent, room, in_use)
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
    """Of the paths, sizes and times of photographs and how they are resized."""
    return hashlib.blake2b("\0".join([repr(resize), *map(str, map(stamp, paths))]).encode(), digest_size=16).hexdigest()


def common_resize(transforms: Sequence[Compose]) -> Resize | None:
    """The resizing to a fixed height and width that all transforms begin with, if they do."""
    first, *others = [transform.transforms[0] for transform in transforms]
    fixed = isinstance(first, Resize) and not isinstance(first.size, int) and len(first.size) == 2
    return first if fixed and all(repr(step) == repr(first) for step in others) else None


def write_resized(file: Path, paths: Sequence[str], resize: Resize) -> None:
    """Write the resized photographs in the order of `paths`; nothing is left of a writing that was interrupted.

    Written, not mapped: a full disk is then an OSError.
    """
    began = time.monotonic()
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), *resize.size, 3)}
    workers = os.cpu_count() or 1
    with replacing(file) as temporary, open(temporary, "wb") as stream, ThreadPoolExecutor(workers) as pool:
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, len(paths), 64 * workers):
            for image in pool.map(lambda path: resize(read_image(path)), paths[start : start + 64 * workers]):
                stream.write(image.tobytes())
    seconds = time.monotonic() - began
    logger.info("Decoded and resized %d photographs in %.1f s into %s", len(paths), seconds, file)


def make_room(folder: Path, room: float, kept: set[Path]) -> None:
    """Remove the resized photographs that were used longest ago, until those that are not `kept` take `room` bytes."""
    files = sorted(set(folder.glob("resized-*.npy")) - kept, key=lambda file: file.stat().st_mtime)
    total = sum(file.stat().st_size for file in files)
    for file in files:
        if total <= room:
            return
        total -= file.stat().st_size
        with suppress(OSError):  # in use, on Windows
            file.unlink()
