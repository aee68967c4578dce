"""Crops of animals, made when they are needed; only a training writes them to files (`train.write_crops`)."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache

from PIL import Image

from ..data.datasets.names import FileIndex
from ..data.images import UnreadableImage, pixels_of, read_image
from ..files import content_hash
from .rows import Box, Photograph


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


def own_crop(row: Photograph, displaced: Mapping[str, str]) -> Image.Image:
    """The crop of an animal from its own photograph.

    Args:
        row: of a project.
        displaced: of the project, see `displaced_in`.

    Raises:
        UnreadableImage: (a ValueError) if the photograph cannot be used, or another one lies in its place.
    """
    if row.key in displaced:
        raise UnreadableImage(f"{row.path}: {displaced[row.key]}", row.path, displaced[row.key])
    return crop_of(row.file, row.box)


def displaced_in(rows: Iterable[Photograph]) -> dict[str, str]:
    """Find photographs whose file now holds another photograph of the project, as two memory cards were read there.

    Args:
        rows: all of a project; only files that belong to several of its photographs are read.

    Returns:
        What helps, by key.
    """
    places: dict[str, list[Photograph]] = defaultdict(list)
    for row in rows:
        places[os.fspath(row.file)].append(row)
    found: dict[str, str] = {}
    for path, there in places.items():
        hashes = {row.hash for row in there}
        if len(hashes) > 1 and os.path.isfile(file_of(path)):
            with open(file_of(path), "rb") as opened:
                content = content_hash(opened)
            # Where it is none of them, another program wrote into it, and nothing tells whose it is.
            found |= {row.key: _was_another(row) for row in there if content in hashes and row.hash != content}
    return found


def _was_another(row: Photograph) -> str:
    return (
        f"{row.path} was another photograph when season {row.season} was added: copy that card to a folder of its own "
        "and give it by --photos, or take its row out of photographs.csv"
    )


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
