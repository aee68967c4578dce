"""camtrapR 3: a record table of individuals and a station table."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from .. import crops
from .contents import Contents, dated, in_season, new_folder, warn_of_effort, write_csv

RECORDS = (
    "Station", "Species", "Individual", "DateTimeOriginal", "Date", "Time",
    "delta.time.secs", "delta.time.mins", "delta.time.hours", "delta.time.days", "Directory", "FileName",
)  # fmt: skip
STATIONS = ("Station", "X", "Y", "Setup_date", "Retrieval_date")


def write(contents: Contents, output: Path) -> None:
    """Write record_table.csv and station_table.csv; photographs without a date or an animal are no records.

    Where --stations-table has a column season and there are several, both have a column Session, and a station has a
    row for each of them.
    """
    seasons = {station.season for station in contents.stations} - {""}
    sessions = sorted(seasons | set(contents.seasons)) if seasons else [""]
    several = len(sessions) > 1
    session = ("Session",) * several
    with new_folder(output) as folder:
        write_csv(folder / "record_table.csv", (*RECORDS, *session), _records(contents, several))
        write_csv(folder / "station_table.csv", (*STATIONS, *session), _stations(contents, sessions))


def _records(contents: Contents, several: bool) -> Iterator[tuple]:
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
            round(seconds / 86400, 1), str(path.parent), path.name, *(row.season,) * several,
        )  # fmt: skip


def _stations(contents: Contents, sessions: Sequence[str]) -> Iterator[tuple]:
    """All stations of the table in each session, those without a record as well."""
    warn_of_effort(contents.stations)
    several = len(sessions) > 1
    for session in sessions:
        for station in in_season(contents.stations, session):
            own = [row for row in contents.photographs if row.station == station.station and row.date_time]
            times = [row.moment for row in own if session in ("", row.season)]
            start, end = station.start or min(times, default=None), station.end or max(times, default=None)
            yield (station.station, station.x, station.y, _day(start), _day(end), *(session,) * several)


def _day(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d}" if time else ""
