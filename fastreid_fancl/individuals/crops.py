"""Crops of animals, made when they are needed; only a training writes them to files (`train.write_crops`)."""

import os
from functools import lru_cache

from PIL import Image

from ..data.datasets.names import FileIndex
from ..data.images import pixels_of, read_image
from .rows import Box


def file_of(path: str | os.PathLike) -> str:
    """The file of a photograph: a table's name is composed (NFC), that on the disk perhaps not."""
    path = os.fspath(path)
    return path if os.path.exists(path) else _files_of(os.path.dirname(path)).find(path) or path


def crop_of(path: str | os.PathLike, box: Box | None = None) -> Image.Image:
    """The upright part of a photograph in a box; all of it without one.

    Boxes are those of the photograph as it is stored upright, which detectors read as we do.

    Raises:
        UnreadableImage: (a ValueError) if the photograph cannot be used.
    """
    image = read_image(file_of(path))
    if box is None:
        return image
    return image.crop(pixels_of((box[0], box[1], box[0] + box[2], box[1] + box[3]), image.size))


def _files_of(folder: str) -> FileIndex:
    """The names in a folder, listed again once it has changed."""
    try:
        changed = os.stat(folder).st_mtime_ns
    except OSError:
        return FileIndex()
    return _listed(folder, changed)


@lru_cache(maxsize=16)
def _listed(folder: str, changed: int) -> FileIndex:
    return FileIndex()
