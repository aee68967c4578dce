"""What other programs know of photographs: a detector's boxes, a Camtrap DP folder, a table."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..data.datasets.metadata import table_rows
from ..data.datasets.names import clean_name
from ..data.datasets.sequences import read_moment
from ..errors import UserError
from ..escape import visible
from ..runs.checked import DamagedError, fields, finite, list_of, read_json, word
from .rows import SIDES, Box, Photograph, box_of

CONFIDENCE = 0.2
SYNONYMS = {"orientation": "side", "camera_id": "camera", "datetime": "date_time", "timestamp": "date_time"}
DETECTIONS = fields({"images": list_of(fields({"file": word}))}, detection_categories=lambda value: value)


class Places:
    """Photographs by the ends of their paths, as other programs name them from other folders."""

    def __init__(self, rows: Iterable[Photograph]):
        self.of: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            parts = row.path.split("/")
            for n in range(len(parts)):
                self.of["/".join(parts[n:])].add(row.path)

    def find(self, name: str) -> str | None:
        """The only path that ends as a name does, by as many of its parts as it takes; None if there is none."""
        parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
        found = (self.of.get("/".join(parts[n:]), set()) for n in range(len(parts)))
        return next((next(iter(paths)) for paths in found if len(paths) == 1), None)


def with_boxes(rows: Sequence[Photograph], path: Path, confidence: float = CONFIDENCE) -> tuple[list[Photograph], str]:
    """Rows for each animal that MegaDetector found, of its JSON file.

    Args:
        rows: of whole photographs.
        path: of the JSON file, format 1.x.
        confidence: boxes below are dropped; a photograph without any is marked as not showing an animal.

    Returns:
        The rows, and a sentence for the summary.

    Raises:
        DamagedError: (a ValueError) if the file is no such file.
        ValueError: if it names none of the photographs.
    """
    content, places = read_json(path, DETECTIONS), Places(rows)
    animal = [key for key, name in content.get("detection_categories", {"1": "animal"}).items() if name == "animal"]
    boxes: dict[str, list[Box]] = {}
    for image in content["images"]:
        found = places.find(image["file"])
        if found:
            boxes[found] = _boxes(path, image, animal, confidence)
    if not boxes:
        raise UserError(
            f"{visible(path)} names none of the photographs (such as {visible(rows[0].path)}): run the detector on the "
            "folder that --photos names."
        )
    result = [row for one in rows for row in (boxed(one, boxes[one.path]) if one.path in boxes else [one])]
    blank = sum(not found for found in boxes.values())
    several = sum(len(found) > 1 for found in boxes.values())
    whole = len(rows) - len(boxes)
    return result, (
        f"Boxes of {path.name}: {sum(map(len, boxes.values()))} animals on {len(boxes)} photographs, {several} show "
        f"several, {blank} none; {whole} photographs are not in it and are compared whole."
    )


def _boxes(path: Path, image: dict[str, Any], animal: list[str], confidence: float) -> list[Box]:
    """The boxes of animals of an image, in reading order."""
    found: list[Box] = []
    for detection in image.get("detections") or []:
        try:
            score, corners = finite(detection["conf"]), [min(1.0, max(0.0, finite(part))) for part in detection["bbox"]]
            if str(detection["category"]) in animal and score >= confidence:
                found.append(box_of(corners))
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(path, f"a detection of {visible(image['file'])}: {error!r}") from error
    return sorted(found, key=lambda box: (round(box[1] * 3), box[0], box[1]))


def boxed(row: Photograph, boxes: Sequence[Box]) -> list[Photograph]:
    """A photograph's rows, one for each box; without boxes it shows no animal."""
    if not boxes:
        return [replace(row, status="not_animal", note="no animal detected")]
    return [replace(row, key=row.key if n == 0 else f"{row.key}-{n + 1}", box=box) for n, box in enumerate(boxes)]


def with_table(rows: Sequence[Photograph], path: Path) -> tuple[list[Photograph], str]:
    """Rows with what a table says: columns path, station, camera, date_time (or date and time), sequence, side.

    Returns:
        The rows, and a sentence for the summary.

    Raises:
        ValueError: if the table cannot be read, or names none of the photographs.
    """
    table, places, said = table_rows(os.fspath(path)), Places(rows), {}
    header = [SYNONYMS.get(name.strip().lower(), name.strip().lower()) for name in next(table, (1, 1, []))[2]]
    if "path" not in header:
        raise UserError(f"{visible(path)} needs a column named path, got {', '.join(header) or 'no columns'}.")
    for _, _, cells in table:
        values = {name: clean_name(cell) or "" for name, cell in zip(header, cells, strict=False)}
        found = places.find(values.get("path", ""))
        if found:
            said[found] = values
    if not said:
        raise UserError(f"{visible(path)} names none of the photographs, such as {visible(rows[0].path)}.")
    result = [_with_values(row, said.get(row.path, {})) for row in rows]
    return result, f"Table {path.name}: {len(said)} of {len(rows)} photographs are in it."


def _with_values(row: Photograph, values: dict[str, str]) -> Photograph:
    moment = values.get("date_time") or f"{values.get('date', '')} {values.get('time', '')}".strip()
    changes: dict[str, Any] = {name: values[name] for name in ("station", "camera", "sequence") if values.get(name)}
    if changes.get("station") and not changes.get("camera"):
        changes["camera"] = changes["station"]
    try:
        changes |= {"date_time": read_moment(moment).isoformat(), "date_time_source": "table"} if moment else {}
    except ValueError:
        changes["note"] = f"the table's time {moment!r} cannot be read"
    side = values.get("side", "").lower()
    if side in SIDES:
        changes["side"] = side
    return replace(row, **changes)


def with_camtrapdp(rows: Sequence[Photograph], folder: Path) -> tuple[list[Photograph], str]:
    """Rows with what a Camtrap DP folder says: stations, times, sequences, boxes, which photographs show no animal.

    Times lose their zone: they are local, as cameras have them.

    Raises:
        ValueError: if a table is missing or broken, or names none of the photographs.
    """
    try:
        return _with_camtrapdp(rows, folder)
    except (KeyError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{visible(folder)} is no Camtrap DP folder as expected: {error!r}.") from error


def _with_camtrapdp(rows: Sequence[Photograph], folder: Path) -> tuple[list[Photograph], str]:
    tables = {name: _records(folder / f"{name}.csv") for name in ("deployments", "media", "observations")}
    stations = {
        one["deploymentID"]: one.get("locationID") or one.get("locationName") or one["deploymentID"]
        for one in tables["deployments"]
    }
    places, media, path_of = Places(rows), {}, {}
    for one in tables["media"]:
        found = places.find(one.get("filePath", ""))
        if found:
            media[found], path_of[one["mediaID"]] = one, found
    if not media:
        raise UserError(f"{visible(folder)}/media.csv names none of the photographs, such as {visible(rows[0].path)}.")
    boxes: dict[str, list[Box]] = defaultdict(list)
    shown: dict[str, set[str]] = defaultdict(set)
    events: dict[str, str] = {}
    for one in tables["observations"]:
        for path in [path_of[one["mediaID"]]] if one.get("mediaID") in path_of else []:
            shown[path].add(one.get("observationType", ""))
            events[path] = one.get("eventID", "") or events.get(path, "")
            if one.get("observationType") == "animal" and one.get("bboxX"):
                boxes[path].append(box_of([float(one[f"bbox{name}"]) for name in ("X", "Y", "Width", "Height")]))
    result = []
    for row in rows:
        if row.path in media:
            one = media[row.path]
            station = stations.get(one["deploymentID"], one["deploymentID"])
            moment = datetime.fromisoformat(one["timestamp"].replace("Z", "+00:00")).replace(tzinfo=None, microsecond=0)
            row = replace(row, station=station, camera=one["deploymentID"], sequence=events.get(row.path, ""))
            row = replace(row, date_time=moment.isoformat(), date_time_source="table")
        if shown[row.path] and "animal" not in shown[row.path]:
            result += boxed(row, [])
        else:
            order = sorted(boxes[row.path], key=lambda box: (round(box[1] * 3), box[0]))
            result += boxed(row, order) if order else [row]
    return result, f"Camtrap DP: {len(media)} of {len(rows)} photographs are in {folder.name}/media.csv."


def _records(path: Path) -> list[dict[str, str]]:
    rows = table_rows(os.fspath(path))
    header = [name.strip() for name in next(rows, (1, 1, []))[2]]
    return [dict(zip(header, cells, strict=False)) for _, _, cells in rows]
