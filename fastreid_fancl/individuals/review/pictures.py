"""The small and large pictures that the review page shows, written only where they are missing or changed."""

import json
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image

from ...data import shorten
from ...escape import message, visible
from ...files import replacing, write_text
from ...progress import Progress
from ...runs.checked import dict_of, read_json, word

logger = logging.getLogger(__name__)

SIZES = {"thumbnails": 240, "large": 1200}  # pixels of the longer side
# The same of a large picture of a box, which holds coat and little else: an animal of a fifth of a frame keeps its own.
CROP = 2400
THREADS = 4
BOXES = "boxes.json"  # in thumbnails/: the box that each picture shows
QUALITY = 88
SAVED_EVERY = 500  # pictures; an interrupted run draws at most so many again


def write_pictures(folder: Path, photographs: Iterable[dict], image_of: Callable[[str], Image.Image]) -> int:
    """Write thumbnails/<key>.jpg and large/<key>.jpg; returns how many photographs were drawn.

    A photograph is drawn if one of its two files is missing or its "box" is another than the one drawn before. Those
    that cannot be read are left out, and the page shows an empty frame. One warning names them, without those of status
    "unreadable", which the summary of the discovery names.
    """
    for name in SIZES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    boxes = _read_boxes(folder / "thumbnails" / BOXES)
    missing = [photograph for photograph in photographs if _is_missing(folder, photograph, boxes)]
    drawn, problems = 0, []
    with Progress("Pictures", len(missing), "photographs") as progress, ThreadPoolExecutor(THREADS) as pool:
        try:
            for photograph, problem in zip(missing, pool.map(partial(_draw, folder, image_of), missing), strict=True):
                progress.advance()
                if problem:
                    problems.append(f"{visible(photograph.get('path', photograph['key']))}: {problem}")
                    continue
                boxes[photograph["key"]] = _box(photograph)
                drawn += 1
                if drawn % SAVED_EVERY == 0:
                    _write_boxes(folder / "thumbnails" / BOXES, boxes)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # else a person who stops it waits for all of them
            raise
    if drawn:
        _write_boxes(folder / "thumbnails" / BOXES, boxes)
    if problems:
        logger.warning("The review page is without %d pictures:\n%s", len(problems), shorten(problems))
    return drawn


def _is_missing(folder: Path, photograph: dict, boxes: dict[str, str]) -> bool:
    key = photograph["key"]
    shown = boxes.get(key) == _box(photograph) and all(_picture(folder, name, key).exists() for name in SIZES)
    return not shown and photograph.get("status") != "unreadable"


def _box(photograph: dict) -> str:
    return str(photograph.get("box", ""))


def _picture(folder: Path, name: str, key: str) -> Path:
    return folder / name / f"{key}.jpg"


def _draw(folder: Path, image_of: Callable[[str], Image.Image], photograph: dict) -> str:
    """Write the pictures of a photograph; why it cannot be read, or ""."""
    key = photograph["key"]
    try:
        image = image_of(key).convert("RGB")
    except (OSError, ValueError) as error:
        return message(error)
    sizes = {**SIZES, "large": CROP} if photograph.get("box") else SIZES
    for name, size in reversed(sizes.items()):  # the small one is made from the large one
        image.thumbnail((size, size))
        with replacing(_picture(folder, name, key)) as temporary:
            image.save(temporary, "JPEG", quality=QUALITY)
    return ""


def _read_boxes(path: Path) -> dict[str, str]:
    try:
        return read_json(path, dict_of(word)) if path.exists() else {}
    except ValueError as error:
        logger.warning("All pictures of the review page are drawn again: %s", message(error))
        return {}


def _write_boxes(path: Path, boxes: dict[str, str]) -> None:
    write_text(path, json.dumps(boxes, sort_keys=True, indent=0))
