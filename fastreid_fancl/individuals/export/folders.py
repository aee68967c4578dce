"""A folder for each animal, and `Unmatched`; each holds copies of photographs or links to them."""

from collections import Counter, defaultdict
from pathlib import Path

from ..rows import Photograph
from .contents import Contents, new_folder, place_file

UNMATCHED = "Unmatched"


def write(contents: Contents, output: Path) -> None:
    """Write the folders. Names stay; where two files of an animal share one, the key is added to both.

    A photograph of two animals is in both folders. One without an animal on it is in none.
    """
    animals: dict[str, dict[str, Photograph]] = defaultdict(dict)
    for row in contents.photographs:
        if row.usable:
            animals[row.individual if row.counts and row.individual else UNMATCHED].setdefault(row.hash, row)
    with new_folder(output) as folder:
        (folder / UNMATCHED).mkdir()
        for animal, rows in animals.items():
            names = Counter(row.file.name.lower() for row in rows.values())
            for row in rows.values():
                place_file(row, folder / animal / _name(row, names), contents.options.files or "copy")


def _name(row: Photograph, names: Counter) -> str:
    alone = names[row.file.name.lower()] == 1
    return row.file.name if alone else f"{row.file.stem}-{row.key}{row.file.suffix}"
