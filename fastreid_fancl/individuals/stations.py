"""Which folders are stations of camera traps, found by running numbers and times that cross them."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..data import plural
from ..errors import UserError
from ..escape import visible
from .rows import Photograph

RUNNING_NUMBER = re.compile(r"\d{3,}")
SEASON = re.compile(r"(?:19|20)\d\d(?!\d)")  # how the names of folders of years and seasons begin
STATIONS_BY = {  # station_source -> how a note says it
    "found": "folders of level {level} (found, as running numbers or times cross its folders)",
    "named": "folders of level {level} (as named)",
    "table": "by what a table or Camtrap DP says",
}
REPEATED = 0.2  # share of file names that several folders must have in common, so that they are cameras


def station_level(rows: Sequence[Photograph]) -> int:
    """The level of folders that are stations: where cameras count on their own, so names or times cross folders.

    Folders are stations if a good part of the file names with running numbers is in several of them, or if
    photographs of different folders were taken at the same second, which one camera cannot do. 0 if no level is so.
    Outer folders that are all named by years, such as 2024 or 2024_dry, hold stations and are none themselves: a camera
    may count from 1 in each of them.
    """
    depth = max(row.path.count("/") for row in rows)
    years = next((level - 1 for level in range(1, depth + 1) if not _are_seasons(rows, level)), depth)
    return next((level for level in range(years + 1, depth + 1) if _crossing(rows, level, years)), 0)


def _are_seasons(rows: Sequence[Photograph], level: int) -> bool:
    folders = {parts[level - 1] for row in rows if len(parts := row.path.split("/")) > level}
    return all(map(SEASON.match, folders))


def _crossing(rows: Sequence[Photograph], level: int, years: int) -> bool:
    """Whether running numbers, each within its `years` outer folders, or times cross the folders of a level."""
    names, seconds = defaultdict(set), defaultdict(set)
    for row in rows:
        parts = row.path.split("/")
        if len(parts) > level:
            folder = "/".join(parts[:level])
            if RUNNING_NUMBER.search(parts[-1]):
                name = (*parts[:years], parts[-1].lower())
                names[name].add(folder)
            if row.date_time_source == "exif":
                seconds[row.date_time].add(folder)
    repeated = sum(len(folders) > 1 for folders in names.values())
    together = sum(len(folders) > 1 for folders in seconds.values())
    return repeated > max(1, REPEATED * len(names)) or together > max(1, 0.02 * len(seconds))


def with_stations(rows: list[Photograph], level: int, named: bool) -> list[Photograph]:
    """Rows with their station, and with their folder as the camera where nothing else names one."""
    depth = max(row.path.count("/") for row in rows)
    if level > depth or level < 0:
        raise UserError(f"Expected --stations to be a level of folders, 0 to {depth}, got {level}.")
    photographs = []
    for row in rows:
        folders = row.path.split("/")[:-1]
        station = folders[level - 1] if 0 < level <= len(folders) else ""
        source, camera = "named" if named else "found" if station else "", row.camera or station or "/".join(folders)
        photographs.append(replace(row, station=station, station_source=source, camera=camera))
    return photographs


def stations_note(came: Sequence[Photograph], level: int, project: Iterable[Photograph] = ()) -> str:
    """Which stations there are and who says so, once all sources are read; `project` is what was known before."""
    rows = [row for row in came if row.station]
    if not rows:
        if {row.hash for row in came} & {row.hash for row in project if row.station}:
            return "No stations this time: photographs keep those that they have."
        return "No stations: name the level of their folders by --stations if there are some."
    names, sources = sorted({visible(row.station) for row in rows}), {row.station_source for row in rows}
    how = " and ".join(text.format(level=level) for source, text in STATIONS_BY.items() if source in sources)
    shown = ", ".join(names[:10]) + f" and {len(names) - 10} more" * (len(names) > 10)
    return f"{plural(len(names), 'station')}: {how}: {shown}. They are never taken for animals."
