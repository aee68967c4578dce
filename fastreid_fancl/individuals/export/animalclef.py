"""AnimalCLEF's submission: `image_id,cluster`, one row for every photograph."""

import csv
from pathlib import Path, PurePosixPath

from ...errors import UserError
from ...escape import visible
from ...files import replacing
from ..rows import Photograph
from .contents import Contents, write_csv


def write(contents: Contents, output: Path) -> None:
    """Write the table; a photograph without an animal is a cluster of its own.

    The image_id is that of --image-ids, a table with the columns image_id and path, else the path.

    Raises:
        ValueError: if that table does not name a photograph.
    """
    rows: dict[str, Photograph] = {}
    for row in contents.project.photographs:
        # Several boxes are several rows, of which the first with an animal speaks for the photograph.
        if row.hash not in rows or (row.counts and not rows[row.hash].counts):
            rows[row.hash] = row
    ids = _image_ids(contents)
    table = sorted((_image_id(ids, row), _cluster(row)) for row in rows.values())
    with replacing(output) as temporary:
        write_csv(Path(temporary), ("image_id", "cluster"), table)


def _cluster(row: Photograph) -> str:
    return row.individual if row.counts and row.individual else f"unmatched-{row.key}"


def _image_ids(contents: Contents) -> dict[str, str] | None:
    path = contents.options.image_ids
    if path is None:
        return None
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        if not {"image_id", "path"} <= set(rows.fieldnames or ()):
            raise UserError(f"--image-ids {visible(path)}: expected the columns image_id and path.")
        return {row["path"]: row["image_id"] for row in rows}


def _image_id(ids: dict[str, str] | None, row: Photograph) -> str:
    if ids is None:
        return row.path
    parts = PurePosixPath(row.path).parts
    for start in range(len(parts)):  # the table's paths may begin at a folder below the project's
        found = ids.get("/".join(parts[start:]))
        if found is not None:
            return found
    ending = [image_id for path, image_id in ids.items() if path.endswith(f"/{row.path}")]
    if len(ending) != 1:
        raise UserError(f"--image-ids does not name {visible(row.path)}.")
    return ending[0]
