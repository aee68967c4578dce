"""camtrapR 3: a record table of individuals and a station table."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from ...escape import visible
from .. import crops
from .contents import Contents, check_seasons, check_within, dated, in_season, new_folder, warn_of_effort, write_csv
from .stations import Station

logger = logging.getLogger(__name__)

RECORDS = (
    "Station", "Species", "Individual", "DateTimeOriginal", "Date", "Time",
    "delta.time.secs", "delta.time.mins", "delta.time.hours", "delta.time.days", "Directory", "FileName",
)  # fmt: skip
STATIONS = ("Station", "X", "Y", "Setup_date", "Retrieval_date")


class Use(NamedTuple):
    """A station in one season, from its setup to its retrieval."""

    season: str
    station: Station
    start: datetime
    end: datetime


def write(contents: Contents, output: Path) -> None:
    """Write record_table.csv and station_table.csv; photographs without a date or an animal are no records.

    With several seasons, a station has a row for each season of use. The column Session numbers them for camtrapR's
    sessionCol, which accepts no names. Only the station table may have it: camtrapR finds the session of a record by
    its date. The column Season names them in both tables.

    Raises:
        ValueError: if there are several seasons, and nothing says of which one a start or an end is; if a photograph is
            of a day on which its station had no camera.
    """
    seasons = sorted({*contents.seasons, *(station.season for station in contents.stations if station.season)})
    check_seasons(contents, seasons)
    check_within(
        contents.stations, dated(contents.identified), datetime.date
    )  # camtrapR cannot assign other records to a session
    uses = _uses(contents, seasons)
    warn_of_effort(use.station for use in uses)
    named = ("Season",) * (len(seasons) > 1)
    numbered = ("Session", *named) if named else ()
    with new_folder(output) as folder:
        write_csv(folder / "record_table.csv", (*RECORDS, *named), _records(contents, bool(named)))
        write_csv(folder / "station_table.csv", (*STATIONS, *numbered), _stations(uses, bool(named)))


def _uses(contents: Contents, seasons: list[str]) -> list[Use]:
    """The stations of each season, those without a record as well; a warning names those of which no day is known."""
    uses, without, moments = [], set(), defaultdict(list)
    for row in dated(contents.photographs):
        moments[row.station, row.season].append(row.moment)
    for season in seasons:
        for station in in_season(contents.stations, season):
            times = moments[station.station, season]
            start, end = station.start or min(times, default=None), station.end or max(times, default=None)
            if start and end:
                uses.append(Use(season, station, start, end))
            else:
                without.add(" in ".join(visible(name) for name in (station.station, season) if name))
    if without:
        logger.warning(
            "Left out of the export, as they have no photograph and no start or end: %s.", ", ".join(sorted(without))
        )
    if one_day := sorted({visible(use.station.station) for use in uses if use.start.date() == use.end.date()}):
        logger.warning(
            "camtrapR refuses a setup and a retrieval on one day, as of %s: give start and end in --stations-table.",
            ", ".join(one_day),
        )
    return uses


def _records(contents: Contents, named: bool) -> Iterator[tuple]:
    """One row for each photograph; delta.time is the time since the animal's last record at the station, first 0."""
    last: dict[tuple[str, str], datetime] = {}
    for row in sorted(
        dated(contents.identified), key=lambda row: (row.station, row.individual, row.date_time, row.path)
    ):
        time, path = row.moment, Path(crops.file_of(row.file))
        seconds = (time - last.get((row.station, row.individual), time)).total_seconds()
        last[row.station, row.individual] = time
        yield (
            row.station, contents.species, row.individual, f"{time:%Y-%m-%d %H:%M:%S}", f"{time:%Y-%m-%d}",
            f"{time:%H:%M:%S}", int(seconds), round(seconds / 60), round(seconds / 3600, 1),
            round(seconds / 86400, 1), str(path.parent), path.name, *(row.season,) * named,
        )  # fmt: skip


def _stations(uses: Iterable[Use], numbered: bool) -> Iterator[tuple]:
    """One row for each use of a station. Seasons are numbered in their order, from 1 and without a gap."""
    numbers = {season: number for number, season in enumerate(dict.fromkeys(use.season for use in uses), 1)}
    for season, station, start, end in uses:
        session = (numbers[season], season) if numbered else ()
        yield (station.station, station.x, station.y, f"{start:%Y-%m-%d}", f"{end:%Y-%m-%d}", *session)
