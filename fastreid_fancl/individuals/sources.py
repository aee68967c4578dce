"""What other programs know of photographs: a detector's boxes, a Camtrap DP folder, a table."""

import logging
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

from ..data import plural
from ..data.datasets.columns import explain_unused
from ..data.datasets.names import clean_name
from ..data.datasets.sequences import read_moment
from ..errors import UserError
from ..escape import visible
from ..runs.checked import DamagedError, dict_of, fields, finite, list_of, optional, read_json, word
from .rows import SIDES, Box, Photograph, box_of, iso_time
from .tables import clock_time, lower, open_table

logger = logging.getLogger(__name__)

CONFIDENCE = 0.2
NO_ANIMAL = "no animal detected"  # note of a photograph without a box
NOT_OURS = "no animal of this project"  # note of one on which others say that people, vehicles or other species are
BESIDE = "people, vehicles or other species beside the animal"  # note of one that has a box of an animal as well
SEEN = "an animal without a box, by Camtrap DP"  # note of one that is compared whole
OVERSHOOT = 0.01  # of a box beyond the photograph, by which detectors round
TOLD = ("path", "station", "camera", "date_time", "date", "time", "sequence", "side")
FORMS = {"time": "2024-06-03 00:30:00, the year first", "side": ", ".join(SIDES)}  # of cells that may be unreadable
SYNONYMS = {"orientation": "side", "camera_id": "camera", "datetime": "date_time", "timestamp": "date_time"}
CAMTRAPDP = {
    "deployments": ("deploymentID",),
    "media": ("mediaID", "deploymentID", "timestamp", "filePath"),
    "observations": ("mediaID", "observationType"),
}
OTHER_SPECIES = "other species"
# Of observationType; "unknown" and "unclassified" say nothing yet.
NOT_ANIMALS = {"blank", "human", "vehicle", OTHER_SPECIES}
DETECTIONS = fields(
    {"images": list_of(fields({"file": word}, detections=optional(list_of(fields({})))))},
    detection_categories=dict_of(word),
)


class Places:
    """Photographs by the ends of their paths, as other programs name them from other folders.

    Attributes:
        of: the paths by each of their ends.
        roots: the folders from which a path begins.
        homes: names of the folder before a path: of its root, or of its season, as our exports write it.
        left_out: paths of files that are not used; a name that means one of them means no photograph.
    """

    def __init__(self, rows: Iterable[Photograph], left_out: Iterable[str] = ()):
        self.of: dict[str, set[str]] = defaultdict(set)
        self.roots: dict[str, set[str]] = defaultdict(set)
        self.homes: dict[str, set[str]] = defaultdict(set)
        self.left_out = {unicodedata.normalize("NFC", path) for path in left_out}
        for row in rows:
            parts = row.path.split("/")
            for n in range(len(parts)):
                self.of["/".join(parts[n:])].add(row.path)
            self.roots[row.path].add(row.root)
            self.homes[row.path] |= {unicodedata.normalize("NFC", os.path.basename(row.root)), row.season} - {""}

    def find(self, names: Iterable[str]) -> list[str | None]:
        """The photograph that each name of a file means, None for those of other files.

        It is the only path that is the end of a name, or that ends as the whole name does. A name and a path that
        differ in a folder are two photographs, as cameras give the same numbers again, and so do two seasons: where the
        file has the path itself, or names with the folder of the photographs, names with another folder are others.
        """
        found = [self._match(name) for name in names]
        exact = {path for path, before in found if path and before == ""}
        own = {before for path, before in found if path and before and before in self.homes[path]}
        return [None if path and self._is_other(path, before, exact, own) else path for path, before in found]

    def _match(self, name: str) -> tuple[str | None, str | None]:
        """The path, and the folder before it in the name: "" if there is none, None if the name is the shorter one."""
        plain = unicodedata.normalize("NFC", name).replace("\\", "/")
        parts = [part for part in plain.split("/") if part not in ("", ".")]
        for n in range(len(parts)):
            end = "/".join(parts[n:])
            if end in self.left_out:
                return None, None
            if end in self.of.get(end, ()):
                return end, parts[n - 1] if n else ""
        longer = self.of.get("/".join(parts), ())
        return (next(iter(longer)) if len(longer) == 1 else None), None

    def _is_other(self, path: str, before: str | None, exact: set[str], own: set[str]) -> bool:
        """Whether a name with this folder before a path, or a part of the path, means another file."""
        if before == "" or before in self.homes[path]:
            return False
        return path in exact or (before is not None and (bool(own & self.homes[path]) or self._is_beside(path, before)))

    def _is_beside(self, path: str, before: str) -> bool:
        """Whether the photographs' folder stands beside one of that name, which has a file of that path."""
        return any(_has_other(os.path.join(os.path.dirname(root), before), path, root) for root in self.roots[path])


def _has_other(folder: str, path: str, root: str) -> bool:
    """Whether a folder is another one than the root of photographs, and has a file of this path, too."""
    if not (root and os.path.exists(os.path.join(folder, path))):
        return False
    return not (os.path.exists(root) and os.path.samefile(folder, root))


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
    boxes: dict[str, list[Box]] = {}
    others: set[str] = set()
    names: dict[str, str] = {}
    # The detector failed on images without a list of detections.
    looked_at = [image for image in content["images"] if image.get("detections") is not None]
    places = Places(rows, left_out).find(image["file"] for image in looked_at)
    for image, found in zip(looked_at, places, strict=True):
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
        + _not_here(path, len(looked_at) - len(boxes), "image")
    )


def _not_here(path: Path, number: int, what: str) -> str:
    """A sentence on what a file names and --photos does not have; "" if there is none."""
    return f" Not among the photographs: {plural(number, what)} of {path.name}." if number else ""


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


def with_table(rows: Sequence[Photograph], path: Path, left_out: Iterable[str] = ()) -> tuple[list[Photograph], str]:
    """Rows with what a table says: columns path, station, camera, date_time (or date and time), sequence, side.

    Args:
        rows: of photographs.
        path: of the table.
        left_out: paths of files that are not used, such as copies.

    Returns:
        The rows, and a sentence for the summary.

    Raises:
        ValueError: if the table cannot be read, or names none of the photographs.
    """
    said: dict[str, dict[str, str]] = {}
    lines = list(_table_lines(path))
    places = Places(rows, left_out).find(values["path"] for _, values in lines)
    for (line, values), found in zip(lines, places, strict=True):
        if found and said.setdefault(found, values) != values:
            raise UserError(f"{visible(path)} line {line}: {found} is there twice with other values. Leave one row.")
    if not said:
        raise UserError(f"{visible(path)} names none of the photographs, such as {visible(rows[0].path)}.")
    read = {name: _read(values) for name, values in said.items()}
    result = [_with(row, *read[row.path]) if row.path in read else row for row in rows]
    note = f"Table {path.name}: {len(said)} of {len(rows)} photographs are in it."
    for what, form in FORMS.items():
        cells = [f"{unread[what]!r} of {name}" for name, (_, unread) in read.items() if what in unread]
        note += f" {plural(len(cells), what)} cannot be read, such as {cells[0]}: expected {form}." if cells else ""
    return result, note + _not_here(path, places.count(None), "row")


def _table_lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The line and the fields of each row of a table of photographs; columns that are not used are named in the log."""
    columns, rows = open_table(path, lambda name: SYNONYMS.get(lower(name), lower(name)))
    if "path" not in columns:
        raise UserError(f"{visible(path)} needs a column named path, got {', '.join(columns) or 'no columns'}.")
    if twice := sorted({name for name in columns if name in TOLD and columns.count(name) > 1}):
        raise UserError(f"{visible(path)} has several columns for {', '.join(twice)}: leave one of each.")
    warnings, unused = explain_unused(columns, TOLD)
    for text in [*warnings, *([unused] if unused else [])]:
        logger.warning("%s: %s", visible(path), visible(text))
    for line, row in rows:
        yield line, {name: clean_name(cell) or "" for name, cell in row.items()}


def _read(values: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """What a row of a table says, by attributes of `Photograph`; and its time and side where they cannot be read."""
    said: dict[str, Any] = {name: values[name] for name in ("station", "camera", "sequence") if values.get(name)}
    unread = {}
    if said.get("station"):
        said = {"camera": said["station"], "station_source": "table", **said}
    moment = values.get("date_time") or f"{values.get('date', '')} {values.get('time', '')}".strip()
    try:
        said |= {"date_time": read_moment(moment).isoformat(), "date_time_source": "table"} if moment else {}
    except ValueError:
        unread["time"] = moment
    side = values.get("side", "")
    if side.lower() in SIDES:
        said["side"] = side.lower()
    elif side:
        unread["side"] = side
    return said, unread


def _with(row: Photograph, said: dict[str, Any], unread: dict[str, str]) -> Photograph:
    row = replace(row, **said)
    if not row.usable:
        return row  # the note says why it is not
    notes = [row.note, *(f"the table's {what} {text!r} cannot be read" for what, text in unread.items())]
    return replace(row, note="; ".join(filter(None, notes)))


def common_offset(folder: Path) -> str:
    """The offset from UTC that all times of a Camtrap DP folder have, such as +03:00.

    It is empty if they have several or none, and for UTC itself: many programs write Z whatever the clocks showed.
    """
    try:
        times = {iso_time(one["timestamp"]) for one in _records(folder / "media.csv", CAMTRAPDP["media"])}
    except ValueError:  # `with_camtrapdp` says what is wrong
        return ""
    offsets = {time.utcoffset() for time in times}
    return min(times).isoformat()[-6:] if len(offsets) == 1 and offsets.pop() else ""


def with_camtrapdp(
    rows: Sequence[Photograph],
    folder: Path,
    zone: tzinfo | None = None,
    species: str = "",
    left_out: Iterable[str] = (),
) -> tuple[list[Photograph], str]:
    """Rows with what a Camtrap DP folder says: stations, times, sequences, boxes, which photographs show no animal.

    Args:
        rows: of whole photographs.
        folder: with deployments.csv, media.csv and observations.csv.
        zone: of the cameras' clocks, to which times are converted; None leaves each as it is written, without its zone.
        species: whose observations are animals; those with another scientific name show none. Empty takes all.
        left_out: paths of files that are not used, such as copies.

    Returns:
        The rows, and sentences for the summary.

    Raises:
        ValueError: if a table is missing or broken, or names none of the photographs.
    """
    try:
        return _with_camtrapdp(rows, folder, zone, species, left_out)
    except (KeyError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{visible(folder)} is not a Camtrap DP folder as expected: {visible(error)}.") from error


def _with_camtrapdp(
    rows: Sequence[Photograph], folder: Path, zone: tzinfo | None, species: str, left_out: Iterable[str]
) -> tuple[list[Photograph], str]:
    tables = {name: _records(folder / f"{name}.csv", columns) for name, columns in CAMTRAPDP.items()}
    stations = {
        one["deploymentID"]: one.get("locationID") or one.get("locationName") or one["deploymentID"]
        for one in tables["deployments"]
    }
    media = _media(rows, folder, tables["media"], left_out)
    observed, others = _observed(tables["observations"], media, species)
    result = []
    for row in rows:
        seen = observed.get(row.path, Observed())
        if row.path in media:
            one = media[row.path]
            row = replace(
                row,
                station=stations.get(one["deploymentID"], one["deploymentID"]),
                station_source="table",
                camera=one["deploymentID"],
                date_time=clock_time(iso_time(one["timestamp"]), zone).isoformat(),
                date_time_source="table",
                sequence=seen.event,
            )
        if seen.types and seen.types <= NOT_ANIMALS:
            result += boxed(row, [], others=seen.types != {"blank"})
        elif seen.boxes:
            result += boxed(row, seen.boxes, bool(seen.types & NOT_ANIMALS - {"blank"}))
        else:
            result.append(replace(row, note=SEEN) if "animal" in seen.types else row)
    note = f"Camtrap DP: {len(media)} of {len(rows)} photographs are in {folder.name}/media.csv."
    note += _zones([iso_time(one["timestamp"]) for one in media.values()], zone) + _of_others(others, species)
    lost = len(tables["media"]) - len(media)
    whole = sum(not one["mediaID"] for one in tables["observations"])
    events_only = f" Not used, as no photograph is named: {plural(whole, 'observation')} of an event." if whole else ""
    return result, note + _not_here(folder / "media.csv", lost, "row") + events_only


def _media(
    rows: Sequence[Photograph], folder: Path, table: Sequence[dict[str, str]], left_out: Iterable[str]
) -> dict[str, dict[str, str]]:
    """The rows of media.csv by the path of the photograph that each names."""
    media: dict[str, dict[str, str]] = {}
    places = Places(rows, left_out).find(one["filePath"] for one in table)
    for one, found in zip(table, places, strict=True):
        if found in media:
            raise UserError(f"{visible(folder)}/media.csv names {found} twice: leave one row.")
        if found:
            media[found] = one
    if not media:
        raise UserError(f"{visible(folder)}/media.csv names none of the photographs, such as {visible(rows[0].path)}.")
    return media


@dataclass
class Observed:
    """What the observations of a photograph say.

    Attributes:
        types: of observationType, or OTHER_SPECIES.
        boxes: of the animals.
        event: eventID.
    """

    types: set[str] = field(default_factory=set)
    boxes: list[Box] = field(default_factory=list)
    event: str = ""


def _observed(
    table: Sequence[dict[str, str]], media: Mapping[str, dict[str, str]], species: str
) -> tuple[dict[str, Observed], Counter[str]]:
    """What is observed by the photograph's path, and the scientific names of other species with their numbers."""
    path_of = {one["mediaID"]: path for path, one in media.items()}
    observed: dict[str, Observed] = defaultdict(Observed)
    others: Counter[str] = Counter()
    for one in table:
        if one["mediaID"] not in path_of:
            continue
        seen, kind, name = observed[path_of[one["mediaID"]]], one["observationType"], one.get("scientificName", "")
        seen.event = one.get("eventID", "") or seen.event
        if kind == "animal" and not _is_of(name, species):
            kind = OTHER_SPECIES
            others[name] += 1
        seen.types.add(kind)
        if kind == "animal" and one.get("bboxX"):
            seen.boxes.append(box_of([float(one[f"bbox{part}"]) for part in ("X", "Y", "Width", "Height")]))
    return observed, others


def _is_of(name: str, species: str) -> bool:
    """Whether a scientific name may be one of a species: itself, a subspecies, or none, which says nothing yet."""
    return not name or f"{name} ".lower().startswith(f"{species} ".lower().lstrip())


def _of_others(others: Counter[str], species: str) -> str:
    """A sentence on observations of other species; "" without any."""
    if not others:
        return ""
    names = ", ".join(f"{visible(name)} ({number})" for name, number in others.most_common(5))
    more = f" and {len(others) - 5} more" * (len(others) > 5)
    return f" Observations of other species than {visible(species)} show no animal of this project: {names}{more}."


def _zones(times: Sequence[datetime], zone: tzinfo | None) -> str:
    """A sentence on the time zone that times with an offset are taken to be in; "" if they have none."""
    offsets = sorted({time.isoformat()[-6:].replace("+00:00", "UTC") for time in times if time.tzinfo})
    if not offsets:
        return ""
    if zone:
        return f" Their times are converted to the time zone {zone}."
    return (
        f" Their times are taken as they are written, in {', '.join(offsets)}, as the project has no time zone: if the "
        "cameras' clocks had another one, begin a new project with --timezone."
    )


def _records(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table by column.

    Raises:
        UserError: if it lacks one of the columns, or a row has another number of cells.
    """
    header, rows = open_table(path)
    if missing := [name for name in columns if name not in header]:
        raise UserError(f"{visible(path)} lacks the columns {', '.join(missing)} of Camtrap DP.")
    return [row for _, row in rows]
