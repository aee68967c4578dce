"""AnimalCLEF's submission: `image_id,cluster`, one row for every photograph."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ...errors import UserError
from ...escape import visible
from ...files import replacing
from ..rows import Photograph
from ..sources import Places
from ..tables import lower, open_table
from .contents import Contents, distinct, write_csv


def write(contents: Contents, output: Path) -> None:
    """Write the table; a photograph without an animal is a cluster of its own.

    The image_id is that of --image-ids, a table with the columns image_id and path, else the path.

    Raises:
        ValueError: if that table does not name a photograph, or names one twice.
    """
    rows: dict[str, Photograph] = {}
    for row in contents.project.photographs:
        # Several boxes are several rows, of which the first with an animal speaks for the photograph.
        if row.hash not in rows or (row.counts and not rows[row.hash].counts):
            rows[row.hash] = row
    ids = _image_ids(contents, rows.values())
    table = sorted((ids[row.hash], _cluster(row)) for row in rows.values())
    with replacing(output) as temporary:
        write_csv(Path(temporary), ("image_id", "cluster"), table)


def _cluster(row: Photograph) -> str:
    return row.individual if row.counts and row.individual else f"unmatched-{row.key}"


def _image_ids(contents: Contents, rows: Iterable[Photograph]) -> dict[str, str]:
    """The image_id of each photograph by its hash: that of --image-ids, else the path."""
    rows, path = list(rows), contents.options.image_ids
    if path is None:
        return distinct({row.hash: row.path for row in rows})
    columns, lines = open_table(Path(path), lower)
    if not {"image_id", "path"} <= set(columns):
        raise UserError(f"--image-ids {visible(path)}: expected the columns image_id and path.")
    ids: dict[str, str] = {}
    told = list(lines)
    places = Places(rows).find(cells["path"].strip() for _, cells in told)  # its paths may begin at another folder
    for (line, cells), name in zip(told, places, strict=True):
        if name and ids.setdefault(name, cells["image_id"].strip()) != cells["image_id"].strip():
            raise UserError(f"--image-ids {visible(path)} line {line}: {visible(name)} is there twice. Leave one row.")
    if without := [row.path for row in rows if not ids.get(row.path)]:
        raise UserError(f"--image-ids does not name {visible(without[0])}.")
    if twice := next((name for name, number in Counter(row.path for row in rows).items() if number > 1), ""):
        raise UserError(f"Several photographs have the path {visible(twice)}, which --image-ids cannot tell apart.")
    return {row.hash: ids[row.path] for row in rows}
