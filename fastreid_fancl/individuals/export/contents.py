"""What all exports share: rows in their order, the user's options, and output that is there whole or not at all."""

import csv
import logging
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone, tzinfo
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ...data import plural
from ...errors import UserError
from ...escape import csv_cell, visible
from ...files import explained
from ...logs import log_once
from .. import crops
from ..rows import Photograph
from .stations import Station, read_stations

if TYPE_CHECKING:
    from ..project import Project


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What the user says beside the project; each is a flag of the same name, with dashes."""

    timezone: str = ""
    species: str = ""
    stations_table: str | os.PathLike | None = None
    contributor: str = ""
    files: str = ""
    occasion_days: int = 1
    image_ids: str | os.PathLike | None = None


@dataclass(frozen=True)
class Contents:
    """A project as an export sees it."""

    project: "Project"
    options: Options = field(default_factory=Options)

    @cached_property
    def photographs(self) -> list[Photograph]:
        """All rows that are readable, by time and then by path."""
        rows = (row for row in self.project.photographs if row.status != "unreadable")
        return sorted(rows, key=lambda row: (row.season, row.date_time, row.path, row.key))

    @cached_property
    def identified(self) -> list[Photograph]:
        """The rows that count for an animal."""
        return [row for row in self.photographs if row.counts and row.individual]

    @property
    def species(self) -> str:
        """Genus and epithet; empty if not known."""
        return (self.options.species or self.project.settings.get("species", "")).strip()

    @property
    def zone(self) -> tzinfo | None:
        """The time zone of the cameras' clocks.

        Raises:
            ValueError: if its name is not known.
        """
        return parse_zone(self.options.timezone or self.project.settings.get("timezone", ""))

    @cached_property
    def stations(self) -> list[Station]:
        """The rows of --stations-table, none without."""
        return read_stations(Path(self.options.stations_table), self.zone) if self.options.stations_table else []

    @cached_property
    def seasons(self) -> list[str]:
        """The seasons with photographs, in their order."""
        return sorted({row.season for row in self.photographs})


def parse_zone(text: str) -> tzinfo | None:
    """`+03:00`, `Z` or `Africa/Nairobi` as a time zone; None for an empty text.

    Raises:
        ValueError: on anything else.
    """
    if not text:
        return None
    offset = re.fullmatch(r"([+-])(\d\d):?([0-5]\d)", text)
    if text == "Z" or (offset and int(offset[2]) <= 14):
        minutes = 0 if text == "Z" else int(f"{offset[1]}{60 * int(offset[2]) + int(offset[3])}")
        return timezone(timedelta(minutes=minutes))
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UserError(f"Expected --timezone such as +03:00 or Africa/Nairobi, got {visible(text)}.") from None


def dated(rows: Sequence[Photograph]) -> list[Photograph]:
    """The rows that have a date; a warning gives the number of the others."""
    with_date = [row for row in rows if row.date_time]
    if len(with_date) < len(rows):
        left_out = plural(len(rows) - len(with_date), "photograph")
        log_once(logger, logging.WARNING, f"Left out of the export, as they have no date: {left_out}.")
    return with_date


PHOTOGRAPHS_STAND_IN = (
    "their first and last photographs of a season stand in for them, so days without a photograph before and after do "
    "not count as effort"
)


def warn_of_effort(stations: Iterable[Station], instead: str = PHOTOGRAPHS_STAND_IN) -> None:
    """Say which stations have no time of setup or retrieval, and what is taken instead."""
    names = sorted({visible(station.station) for station in stations if not (station.start and station.end)})
    if names:
        log_once(
            logger,
            logging.WARNING,
            f"--stations-table has no start or end of {', '.join(names)}: {instead}.",
        )


def station_of(stations: Iterable[Station], row: Photograph) -> Station | None:
    """The row of a station for a photograph's season, else its row without a season."""
    return next((station for station in in_season(stations, row.season) if station.station == row.station), None)


def in_season(stations: Iterable[Station], season: str) -> list[Station]:
    """One row for each station: that of a season, else the one without a season."""
    by_name = {station.station: station for station in stations if not station.season}
    return list((by_name | {station.station: station for station in stations if station.season == season}).values())


def check_seasons(contents: Contents, sessions: Collection[str]) -> None:
    """Raise UserError if a start or an end without a season would make the days of all seasons the effort of each.

    Args:
        contents: with a table of stations.
        sessions: the seasons that are written.
    """
    used = [station for season in sessions if season for station in in_season(contents.stations, season)]
    without = sorted({visible(row.station) for row in used if not row.season and (row.start or row.end)})
    several = sorted({*contents.seasons, *sessions})
    if without and len(several) > 1:
        seasons = ", ".join(visible(season) or "one without a name" for season in several)
        raise UserError(
            f"--stations-table has a start or an end of {', '.join(without)} without a season, and there are several "
            f"seasons: {seasons}. Each would count the days of the others as effort: add a column season, with a row "
            "for each season of a station."
        )


def check_within(
    stations: Sequence[Station], rows: Iterable[Photograph], part: Callable[[datetime], date] = lambda time: time
) -> None:
    """Raise UserError if a photograph was taken before the start or after the end of its station.

    Args:
        stations: of the table.
        rows: photographs with a date.
        part: of the times that is compared: all of them, or the days.
    """
    for row in rows:
        station = station_of(stations, row)
        taken, start, end = (moment and part(moment) for moment in (row.moment, station.start, station.end))
        if (start and taken < start) or (end and taken > end):
            span = f" from {start}" * bool(start) + f" until {end}" * bool(end)
            raise UserError(
                f"{visible(row.path)} was taken on {taken}, but --stations-table has {visible(row.station)}{span}: "
                "correct one of them."
            )


def existing_file(row: Photograph) -> Path:
    """The photograph's file.

    Raises:
        ValueError: if it is not there.
    """
    path = Path(crops.file_of(row.file))
    if not path.is_file():
        raise UserError(
            f"There is no {visible(path)}: put the photographs back there, or run discover with their new folder. If "
            "it was deleted on purpose, take its rows out of photographs.csv."
        )
    return path


def distinct(paths: Mapping[str, str]) -> dict[str, str]:
    """Unique paths by the hashes of their photographs.

    Equal paths, as from two memory cards or two seasons, get the hash added to their names.
    """
    taken = Counter(path.lower() for path in paths.values())  # some file systems do not tell A.jpg from a.jpg
    return {content: path if taken[path.lower()] == 1 else _with_hash(path, content) for content, path in paths.items()}


def _with_hash(path: str, content: str) -> str:
    name = PurePosixPath(path)
    return os.fspath(name.with_name(f"{name.stem}-{content[:16]}{name.suffix}"))


def place_file(row: Photograph, target: Path, how: str = "copy") -> None:
    """Copy a photograph, or link to it."""
    source = existing_file(row)
    target.parent.mkdir(parents=True, exist_ok=True)
    if how == "link":
        target.symlink_to(source.resolve())
    else:
        shutil.copy2(source, target)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table in UTF-8, its text by `csv_cell`: only names that a spreadsheet would run or hide change."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows([csv_cell(value) for value in row] for row in rows)


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `output` that becomes `output` on success and goes on an error.

    Raises:
        ValueError: if `output` is there already and is not an empty folder.
    """
    output = Path(os.path.abspath(output))
    check_output(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    with explained(output):
        try:
            temporary.mkdir()
            yield temporary
            if output.exists():
                output.rmdir()
            temporary.rename(output)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def check_output(output: Path) -> None:
    """Raise UserError if a file or folder cannot be written as `output` without losing what is there."""
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"{visible(output)} is there already: remove it, or give another name.")
