"""What a format demands and a project may lack: each check returns what to give, or nothing."""

from collections.abc import Callable, Iterable, Sequence

from ...data import plural
from ...escape import visible
from ..crops import displaced_in
from ..rows import Photograph
from .contents import Contents, station_of
from .stations import Station

Check = Callable[[Contents], str]


def species(contents: Contents) -> str:
    """A genus and an epithet."""
    if len(contents.species.split()) >= 2:
        return ""
    return 'the species, as genus and epithet: --species "Panthera leo"'


def timezone(contents: Contents) -> str:
    """The time zone of the cameras' clocks."""
    return "" if contents.zone else "the time zone of the cameras' clocks: --timezone +03:00 (or Africa/Nairobi)"


def contributor(contents: Contents) -> str:
    """Somebody who stands for the data."""
    return "" if names_of_contributors(contents) else 'who contributes the data: --contributor "Ada Lovelace"'


def names_of_contributors(contents: Contents) -> list[str]:
    """The contributor that the user names, else the people who decided."""
    people = {decision.who for decision in contents.project.decisions if decision.who}
    return [contents.options.contributor] if contents.options.contributor else sorted(people)


def dates(contents: Contents) -> str:
    """A date for one photograph at least; those without are left out by the formats that need one."""
    if any(row.date_time for row in contents.photographs):
        return ""
    return "dates of photographs: discover --photos FOLDER --table metadata.csv with a column date_time"


def stations(contents: Contents) -> str:
    """A station for every photograph that is written."""
    return _stations(contents, contents.photographs)


def stations_of_animals(contents: Contents) -> str:
    """A station for every photograph that is not marked as showing no animal."""
    return _stations(contents, [row for row in contents.photographs if row.usable])


def stations_of_identified(contents: Contents) -> str:
    """A station for every photograph of a known animal."""
    return _stations(contents, contents.identified or contents.photographs)


def _stations(contents: Contents, rows: Sequence[Photograph]) -> str:
    rows = [row for row in rows if row.date_time] or rows  # those without a date are left out, if others have one
    without = [row for row in rows if not row.station]
    if not without:
        return ""
    # No level of folders gives these a station: they lie in none, or beside those of their season.
    seasons = {row.season for row in contents.photographs if row.station}
    beside = [row for row in without if "/" not in row.path or row.season in seasons]
    cure = "--table metadata.csv with the columns path, station" if beside else "--stations 1"
    shown = visible((beside or without)[0].path)
    return f"the station of {plural(len(without), 'photograph')}, such as {shown}: discover --photos FOLDER {cure}"


def degrees(contents: Contents) -> str:
    """Latitude and longitude of every station."""
    return _places(contents, "latitude", "longitude", "in decimal degrees")


def metres(contents: Contents) -> str:
    """X and Y of every station."""
    return _places(contents, "x", "y", "in metres, projected (such as UTM)")


def _places(contents: Contents, first: str, second: str, unit: str) -> str:
    table = contents.stations
    missing: list[str] = []
    absent: list[Photograph] = []
    for row in contents.photographs:
        station = station_of(table, row)
        known = station and getattr(station, first) is not None and getattr(station, second) is not None
        if row.station and not known:
            missing.append(visible(row.station))
            if station is None:
                absent.append(row)
    missing += [visible(row.station) for row in table if getattr(row, first) is None or getattr(row, second) is None]
    if not missing:
        return ""
    names = sorted(set(missing))
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    columns = f"station, {first}, {second}"
    lacks = f"the coordinates of {listed}: --stations-table stations.csv with the columns {columns} {unit}"
    return lacks + _of_other_seasons(table, absent)


def _of_other_seasons(table: Sequence[Station], absent: Sequence[Photograph]) -> str:
    """Say that the table has the stations of these photographs for other seasons only; otherwise ""."""
    names = {row.station for row in absent}
    has = ", ".join(sorted({visible(station.season) for station in table if station.station in names}))
    if not has:
        return ""
    lacks = ", ".join(sorted({visible(row.season) or "one without a name" for row in absent}))
    return f". It has them for the season {has}, not for {lacks}: correct its column, or leave it empty for all seasons"


def own_files(contents: Contents) -> str:
    """Files that still hold their photographs, of all photographs."""
    return _own_files(contents, contents.photographs)


def own_files_of_animals(contents: Contents) -> str:
    """As `own_files`, of photographs that show an animal."""
    return _own_files(contents, [row for row in contents.photographs if row.usable])


def own_files_brought_along(contents: Contents) -> str:
    """As `own_files`, if --files copies or links them."""
    return own_files(contents) if contents.options.files else ""


def _own_files(contents: Contents, rows: Iterable[Photograph]) -> str:
    displaced = displaced_in(contents.project.photographs)
    lost = [displaced[row.key] for row in rows if row.key in displaced]
    return f"the files of {plural(len(lost), 'photograph')}. {visible(lost[0])}" if lost else ""


def features(contents: Contents) -> str:
    """Stored features of one photograph at least."""
    if contents.project.stored_features()[0]:
        return ""
    return f"features of its photographs: fancl discover {visible(contents.project.folder)} --photos FOLDER"


def animals(contents: Contents) -> str:
    """One photograph of a known animal at least."""
    return "" if contents.identified else "photographs with an animal: discover finds none in this project"
