"""Crops of animals, made when they are needed: no file of a crop is written for computing."""

import os

from PIL import Image

from ..data.datasets.names import FileIndex
from ..data.images import read_image
from .rows import Box


def file_of(path: str | os.PathLike, index: FileIndex | None = None) -> str:
    """The file of a photograph: a table's name is composed (NFC), that on the disk perhaps not.

    Many photographs share an index, so that it lists each folder once.
    """
    path = os.fspath(path)
    return path if os.path.exists(path) else (index or FileIndex()).find(path) or path


def crop_of(path: str | os.PathLike, box: Box | None = None) -> Image.Image:
    """The upright part of a photograph in a box; all of it without one.

    Boxes are those of the photograph as it is stored upright, which detectors read as we do.

    Raises:
        UnreadableImage: (a ValueError) if the photograph cannot be used.
    """
    image = read_image(file_of(path))
    if box is None:
        return image
    width, height = image.size
    left, top = min(int(box[0] * width), width - 1), min(int(box[1] * height), height - 1)
    right, bottom = round((box[0] + box[2]) * width), round((box[1] + box[3]) * height)
    return image.crop((left, top, min(width, max(left + 1, right)), min(height, max(top + 1, bottom))))
