"""Folders of photographs with a table, and the data sets that they become."""

import os

import pytest
from PIL import Image

from fastreid_fancl.data.datasets import resolve


def photograph(path):
    """Write a black photograph of 4 x 4 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)


def table(root, *rows, name="Wild", files=("a", "b", "c", "d"), encoding="utf-8"):
    """A data set of photographs a.png ... and a metadata.csv of the given lines."""
    for file in files:
        photograph(root / name / f"{file}.png")
    (root / name / "metadata.csv").write_bytes("\n".join(rows).encode(encoding))
    return root / name


def tree(root, *files, name="Wild"):
    """A data set of folders with these photographs."""
    for file in files:
        photograph(root / name / file)
    return root / name


def wild(name="Wild"):
    return resolve(name)()


def names(items):
    """{file name: (pid, camid)}."""
    return {os.path.basename(path): (pid, camid) for path, pid, camid in items}


def rejected(match):
    return pytest.raises(ValueError, match=match)
