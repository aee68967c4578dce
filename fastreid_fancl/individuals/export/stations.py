"""A table of camera stations that the user gives: where they are, and from when to when their cameras were up."""

import logging
import math
from dataclasses import dataclass, replace
from datetime import date, datetime, time, tzinfo
from pathlib import Path

from ...errors import UserError
from ...escape import visible
from ...logs import log_once
from ...runs.checked import shortened
from ..rows import iso_time
from ..tables import clock_time, lower, open_table

logger = logging.getLogger(__name__)

# Our name of a column, and the names that other programs give it, in lower case.
COLUMNS = {
    "station": ("station", "locationname", "detector", "placename"),
    "season": ("season", "session"),
    "latitude": ("latitude", "lat"),
    "longitude": ("longitude", "lon", "long"),
    "x": ("x", "utm_x", "easting"),
    "y": ("y", "utm_y", "northing"),
    "start": ("start", "setup_date", "deploymentstart"),
    "end": ("end", "retrieval_date", "deploymentend"),
}
RANGES = {"latitude": 90.0, "longitude": 180.0, "x": math.inf, "y": math.inf}


@dataclass(frozen=True)
class Station:
    """A station: degrees (WGS 84), projected metres, local times of setup and retrieval; None is not known."""

    station: str
    season: str = ""
    latitude: float | None = None
    longitude: float | None = None
    x: float | None = None
    y: float | None = None
    start: datetime | None = None
    end: datetime | None = None


def read_stations(path: Path, zone: tzinfo | None = None) -> list[Station]:
    """The rows of a table as `tables.open_table` reads it; columns that are not known are skipped.

    Args:
        path: of the table.
        zone: of the cameras' clocks, to which times with a zone are converted.

    Raises:
        ValueError: if it cannot be read, or has no column station, a station twice in a season, or a cell that does not
            fit.
    """
    names, rows = open_table(Path(path), lower)
    known = {column: other for column, others in COLUMNS.items() for other in reversed(others) if other in names}
    if "station" not in known:
        got = visible(", ".join(names))
        raise UserError(f"--stations-table {visible(path)}: expected a column station, got {got!r}.")
    told = [(line, {column: row[name].strip() for column, name in known.items()}) for line, row in rows]
    stations = [_station(path, line, row, zone) for line, row in told]
    places = [(row.station, row.season) for row in stations]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice:
        raise UserError(f"--stations-table {visible(path)}: the station {visible(twice[0])} is there twice.")
    return stations


def _station(path: Path, line: int, row: dict[str, str], zone: tzinfo | None) -> Station:
    try:
        station = Station(**{column: _cell(column, text) for column, text in row.items()})
        if zone is None and any(moment and moment.tzinfo for moment in (station.start, station.end)):
            log_once(
                logger,
                logging.WARNING,
                f"--stations-table {visible(path)}: times with a zone are taken as they are written, as the project "
                "has no time zone: discover --timezone sets that of the cameras' clocks.",
            )
        start, end = (moment and clock_time(moment, zone) for moment in (station.start, station.end))
        return replace(station, start=start, end=end)
    except ValueError as error:
        raise UserError(f"--stations-table {visible(path)}, line {line}: {error}") from None


def _cell(column: str, text: str) -> str | float | datetime | None:
    """The value of a cell; None without any. A day without a time is taken from its beginning, or to its end."""
    if column in ("station", "season"):
        return text
    if not text:
        return None
    try:
        value = _moment(column, text) if column in ("start", "end") else float(text)
    except ValueError:
        expected = "a date such as 2024-06-03" if column in ("start", "end") else "a number with a decimal point"
        raise UserError(f"expected {column} to be {expected}, got {shortened(text)}") from None
    if isinstance(value, datetime):
        return value
    if not (math.isfinite(value) and abs(value) <= RANGES[column]):
        raise UserError(f"expected {column} to be within {RANGES[column]:g} of zero, got {shortened(text)}")
    return value


def _moment(column: str, text: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(text), time(23, 59, 59) if column == "end" else time())
    except ValueError:
        return iso_time(text)
