"""COCO's JSON: images, boxes in pixels, and the individual of each box."""

import json
import os
from collections import Counter
from pathlib import Path

from PIL.ExifTags import Base

from ...data.images import open_header, open_regular
from ...errors import UserError
from ...escape import visible
from ...files import write_text
from ..rows import Photograph
from .contents import Contents, existing_file

SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


def write(contents: Contents, output: Path) -> None:
    """Write the file; boxes are those of upright photographs, the whole photograph where there is none.

    Names are relative to the folder of --photos; where two folders have one name, they are whole paths.
    """
    images: dict[str, dict] = {}
    annotations = []
    files = {row.hash: row.path for row in contents.photographs}
    shared = Counter(files.values())
    for row in contents.photographs:
        if row.hash not in images:
            images[row.hash] = _image(row, len(images) + 1, shared[row.path] > 1)
        if row.usable:
            annotations.append(_annotation(row, images[row.hash], len(annotations) + 1))
    name = contents.species or "animal"
    text = {
        "info": {"description": contents.project.settings["name"]},
        "images": list(images.values()),
        "annotations": annotations,
        "categories": [{"id": 1, "name": name, "supercategory": "animal"}],
    }
    write_text(output, json.dumps(text, indent=1, ensure_ascii=False) + "\n")


def _image(row: Photograph, number: int, shares_path: bool) -> dict:
    width, height = size_of(row)
    return {
        "id": number,
        "file_name": os.fspath(row.file) if shares_path else row.path,
        "width": width,
        "height": height,
        "date_captured": row.date_time.replace("T", " "),
        "location": row.station,
        "season": row.season,
        "seq_id": row.sequence,
    }


def size_of(row: Photograph) -> tuple[int, int]:
    """Width and height of an upright photograph, from its head alone.

    Raises:
        ValueError: if it cannot be read.
    """
    path = existing_file(row)
    try:
        with open_regular(path) as file, open_header(file) as image:
            size = image.size
            return size[::-1] if image.getexif().get(Base.Orientation) in SIDEWAYS else size
    except (OSError, ValueError) as error:
        raise UserError(f"{visible(path)} cannot be read: {error}") from error


def _annotation(row: Photograph, image: dict, number: int) -> dict:
    x, y, width, height = row.box or (0, 0, 1, 1)
    box = [x * image["width"], y * image["height"], width * image["width"], height * image["height"]]
    return {
        "id": number,
        "image_id": image["id"],
        "category_id": 1,
        "bbox": [round(part, 2) for part in box],
        "area": round(box[2] * box[3], 2),
        "iscrowd": 0,
        "individual_id": row.individual if row.counts else "",
        "individual_status": row.status,
        "viewpoint": row.side,
        "key": row.key,
    }
