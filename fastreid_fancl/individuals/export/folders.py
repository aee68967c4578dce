"""A folder for each animal, and `Unmatched`; each holds copies of photographs or links to them."""

from collections import defaultdict
from pathlib import Path

from ..rows import Photograph
from .contents import Contents, distinct, new_folder, place_file

UNMATCHED = "Unmatched"


def write(contents: Contents, output: Path) -> None:
    """Write the folders. Names stay; where two files of an animal share one, the hash is added to both.

    A photograph of two animals is in both folders. One without an animal on it is in none.
    """
    animals: dict[str, dict[str, Photograph]] = defaultdict(dict)
    for row in contents.photographs:
        if row.usable:
            animals[row.individual if row.counts and row.individual else UNMATCHED].setdefault(row.hash, row)
    with new_folder(output) as folder:
        (folder / UNMATCHED).mkdir()
        for animal, rows in animals.items():
            names = distinct({content: row.file.name for content, row in rows.items()})
            for content, row in rows.items():
                place_file(row, folder / animal / names[content], contents.options.files or "copy")
