"""secr 5: captures and traps of `proximity` detectors, a session for each season."""

import logging
import re
from collections.abc import Collection
from datetime import date, datetime, timedelta
from pathlib import Path

from ...errors import UserError
from ...escape import visible
from .contents import Contents, check_seasons, check_within, dated, in_season, new_folder, warn_of_effort
from .stations import Station

logger = logging.getLogger(__name__)


def write(contents: Contents, output: Path) -> None:
    """Write captures.txt and traps.txt; with several seasons traps_<session>.txt for each.

    An occasion is --occasion-days days; the first begins on the first day of the season: the earliest start in the
    stations' table, else that of the first photograph. An animal is captured once by a detector in an occasion.

    Raises:
        ValueError: if two stations, or two seasons, have one name once characters that secr forbids are replaced; if
            there are several seasons, and nothing says of which one a start or an end is; if a photograph is of a day
            on which its station had no camera.
    """
    if contents.options.occasion_days < 1:
        raise UserError(f"Expected --occasion-days to be 1 or more, got {contents.options.occasion_days}.")
    detectors = legal_names([station.station for station in contents.stations])
    sessions = legal_names(sorted({row.season for row in dated(contents.identified)}))
    check_seasons(contents, sessions)
    warn_of_effort(contents.stations, "the first or the last day of the season stands in for it")
    _warn_of_seasons(contents, sessions)
    captures = ["# Session ID Occasion Detector"]
    with new_folder(output) as folder:
        for season, session in sessions.items():
            captures += _captures(contents, season, session, detectors)
            name = "traps.txt" if len(sessions) == 1 else f"traps_{session}.txt"
            (folder / name).write_text("\n".join(_traps(contents, season, detectors)) + "\n", encoding="utf-8")
        (folder / "captures.txt").write_text("\n".join(captures) + "\n", encoding="utf-8")


def _warn_of_seasons(contents: Contents, sessions: Collection[str]) -> None:
    without = sorted(set(contents.seasons) - set(sessions))
    if without:
        logger.warning(
            "No animal is identified in %s: the export has no session for it, so secr does not know its effort.",
            ", ".join(visible(season) or "the season without a name" for season in without),
        )


def legal_names(names: list[str]) -> dict[str, str]:
    """Names without blanks, commas, underscores, # and /, each of which becomes a dash; an empty one is 1."""
    renamed = {name: re.sub(r"[\s,_#/]+", "-", name) or "1" for name in names}
    taken: dict[str, str] = {}
    for name, legal in renamed.items():
        if taken.setdefault(legal, name) != name:
            raise UserError(
                f"{visible(name)} and {visible(taken[legal])} would both be called {legal} in secr: rename one of them."
            )
    return renamed


def _first_day(contents: Contents, season: str) -> date:
    starts = [station.start for station in in_season(contents.stations, season) if station.start]
    times = [row.moment for row in contents.photographs if row.season == season and row.date_time]
    return min([*starts, *times]).date()


def _last_day(contents: Contents, season: str) -> date:
    ends = [station.end for station in in_season(contents.stations, season) if station.end]
    times = [row.moment for row in contents.photographs if row.season == season and row.date_time]
    return max([*ends, *times]).date()


def _captures(contents: Contents, season: str, session: str, detectors: dict[str, str]) -> list[str]:
    rows = [row for row in dated(contents.identified) if row.season == season]
    check_within(contents.stations, rows, datetime.date)  # secr refuses captures by a detector that is not used
    first, length = _first_day(contents, season), contents.options.occasion_days
    captures = {
        (row.individual, (row.moment.date() - first).days // length + 1, detectors[row.station]) for row in rows
    }
    return [f"{session} {animal} {occasion} {detector}" for animal, occasion, detector in sorted(captures)]


def _traps(contents: Contents, season: str, detectors: dict[str, str]) -> list[str]:
    """One line for each detector, with its usage, 1 or 0 for each occasion.

    Without usage, secr takes the last capture for the last occasion.
    """
    lines = ["# Detector X Y Usage"]
    for station in in_season(contents.stations, season):
        usage = _usage(contents, season, station)
        lines.append(f"{detectors[station.station]} {station.x:.10g} {station.y:.10g} {usage}")
    return lines


def _usage(contents: Contents, season: str, station: Station) -> str:
    """An occasion is used if the camera was up on one of its days; a station without dates is taken to be always up."""
    first, last, length = _first_day(contents, season), _last_day(contents, season), contents.options.occasion_days
    start = station.start.date() if station.start else first
    end = station.end.date() if station.end else last
    occasions = (last - first).days // length + 1
    begins = [first + timedelta(days=number * length) for number in range(occasions)]
    return "".join("1" if start <= day + timedelta(days=length - 1) and end >= day else "0" for day in begins)
