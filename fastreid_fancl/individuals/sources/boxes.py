"""MegaDetector's boxes of photographs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...data import plural
from ...errors import UserError
from ...escape import visible
from ...runs.checked import DamagedError, dict_of, fields, finite, list_of, optional, read_json, word
from ..notes import BESIDE, NO_ANIMAL, NOT_OURS
from ..rows import Box, Photograph, box_of
from .places import Places, not_here

CONFIDENCE = 0.2
OVERSHOOT = 0.01  # of a box beyond the photograph, by which detectors round
DETECTIONS = fields(
    {"images": list_of(fields({"file": word}, detections=optional(list_of(fields({})))))},
    detection_categories=dict_of(word),
)


def with_boxes(
    rows: Sequence[Photograph], path: Path, confidence: float = CONFIDENCE, left_out: Iterable[str] = ()
) -> tuple[list[Photograph], str]:
    """Rows for each animal that MegaDetector found, of its JSON file.

    Args:
        rows: of whole photographs.
        path: of the JSON file, format 1.x.
        confidence: boxes below are dropped; a photograph without any is marked as not showing an animal.
        left_out: paths of files that are not used, such as copies.

    Returns:
        The rows, and a sentence for the summary.

    Raises:
        DamagedError: (a ValueError) if the file is not MegaDetector's.
        ValueError: if it names none of the photographs, or these have boxes already.
    """
    if any(row.box for row in rows):
        raise UserError("--camtrapdp gives boxes, and so does --boxes: leave out --boxes, as only one can be right.")
    if not path.is_file():
        raise UserError(f"Expected MegaDetector's JSON file by --boxes, got {visible(path)}: there is no such file.")
    content = read_json(path, DETECTIONS, "Run the detector again")
    animal = _animal(path, content.get("detection_categories", {"1": "animal"}))
    # The detector failed on images without a list of detections.
    looked_at = [image for image in content["images"] if image.get("detections") is not None]
    places = Places(rows, left_out).find(image["file"] for image in looked_at)
    boxes, others = _boxes_by_photograph(path, looked_at, places, animal, confidence)
    if not boxes:
        raise UserError(
            f"{visible(path)} names none of the photographs (such as {visible(rows[0].path)}): run the detector on the "
            "folder that --photos names."
        )
    result = [
        row
        for one in rows
        for row in (boxed(one, boxes[one.path], one.path in others) if one.path in boxes and one.usable else [one])
    ]
    blank = sum(not found for found in boxes.values())
    several = sum(len(found) > 1 for found in boxes.values())
    whole = len(rows) - len(boxes)
    return result, (
        f"Boxes of {path.name}: {plural(sum(map(len, boxes.values())), 'animal')} on "
        f"{plural(len(boxes), 'photograph')}, of which {several} show several animals and {blank} none."
        + f" Not looked at by the detector, and therefore compared whole: {whole}." * bool(whole)
        + not_here(path, len(looked_at) - len(boxes), "image")
    )


def _animal(path: Path, categories: Mapping[str, str]) -> list[str]:
    """The keys of the categories that are animals."""
    animal = [key for key, name in categories.items() if name.strip().lower() == "animal"]
    if not animal:
        got = visible(", ".join(categories.values())) or "none"
        raise UserError(
            f"Expected the category animal in detection_categories of {visible(path)}, got {got}: give the file of "
            "MegaDetector, or call what is to be compared animal there."
        )
    return animal


def _boxes_by_photograph(
    path: Path,
    images: Sequence[dict[str, Any]],
    places: Sequence[str | None],
    animal: list[str],
    confidence: float,
) -> tuple[dict[str, list[Box]], set[str]]:
    """The boxes of animals by the path of their photograph, and the photographs with something else on them.

    Args:
        path: of the JSON file.
        images: of the file, with their detections.
        places: the photograph that each image is; None for none.
        animal, confidence: as for `_boxes`.
    """
    boxes: dict[str, list[Box]] = {}
    others: set[str] = set()
    names: dict[str, str] = {}
    for image, found in zip(images, places, strict=True):
        if found in boxes:
            raise UserError(
                f"{visible(path)} has two images that may be {visible(found)}: {visible(names[found])} and "
                f"{visible(image['file'])}. Leave one of them, or run the detector on the folder that --photos names."
            )
        if found:
            names[found] = image["file"]
            boxes[found], has_others = _boxes(path, image, animal, confidence)
            if has_others:
                others.add(found)
    return boxes, others


def _boxes(path: Path, image: dict[str, Any], animal: list[str], confidence: float) -> tuple[list[Box], bool]:
    """The boxes of animals of an image, and whether something else was detected on it, such as a person."""
    boxes: list[Box] = []
    others = False
    for detection in image.get("detections") or []:
        try:
            score, box = finite(detection["conf"]), [finite(part) for part in detection["bbox"]]
            if score >= confidence and str(detection["category"]) in animal:
                boxes.append(_inside(box))
            others |= score >= confidence and str(detection["category"]) not in animal
        except (KeyError, TypeError, ValueError) as error:
            problem = f"a detection of {image['file']}: {error if isinstance(error, ValueError) else repr(error)}"
            raise DamagedError(path, problem, "Run the detector again") from error
    return boxes, others


def _inside(box: Sequence[float]) -> Box:
    """A box x, y, width, height without what lies beyond the photograph.

    Raises:
        ValueError: if it lies beyond it by more than rounding does, as boxes in pixels do, or has no area.
    """
    shown = " ".join(f"{part:.6g}" for part in box)
    if len(box) != 4 or not all(
        -OVERSHOOT <= part <= 1 + OVERSHOOT for part in (*box, box[0] + box[2], box[1] + box[3])
    ):
        raise UserError(f"expected a box x y width height within the photograph, in shares from 0 to 1, got {shown}")
    left, top = max(0.0, box[0]), max(0.0, box[1])
    right, bottom = min(1.0, box[0] + box[2]), min(1.0, box[1] + box[3])
    return box_of((left, top, right - left, bottom - top))


def boxed(row: Photograph, boxes: Sequence[Box], others: bool = False) -> list[Photograph]:
    """A photograph's rows, one for each box in reading order; without boxes it shows no animal.

    Args:
        row: of the whole photograph.
        boxes: of the animals.
        others: whether people, vehicles or other species are on it, so that without an animal it is not blank.
    """
    if not boxes:
        return [replace(row, status="not_animal", note=NOT_OURS if others else NO_ANIMAL)]
    if others:
        row = replace(row, note="; ".join(filter(None, (row.note, BESIDE))))
    order = sorted(boxes, key=lambda box: (round(box[1] * 3), box[0], box[1]))
    return [replace(row, key=row.key if n == 0 else f"{row.key}-{n + 1}", box=box) for n, box in enumerate(order)]
