"""What a Camtrap DP folder says of photographs."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from pathlib import Path

from ...data import plural
from ...errors import UserError
from ...escape import visible
from ..notes import SEEN
from ..rows import Box, Photograph, box_of, iso_time
from ..tables import clock_time, open_table
from .boxes import boxed
from .places import Places, not_here

CAMTRAPDP = {
    "deployments": ("deploymentID",),
    "media": ("mediaID", "deploymentID", "timestamp", "filePath"),
    "observations": ("mediaID", "observationType"),
}
OTHER_SPECIES = "other species"
# Of observationType; "unknown" and "unclassified" say nothing yet.
NOT_ANIMALS = {"blank", "human", "vehicle", OTHER_SPECIES}


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
    return result, note + not_here(folder / "media.csv", lost, "row") + events_only


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
