"""Sequences: photographs that a camera took in one burst, which are too similar to test retrieval with.

A table names them in its column `sequence`; where several stations, or cameras without a station, have the same name,
each has its own sequence of it. Otherwise they follow from time and camera: successive photographs of a camera that are
at most ``GAP_SECONDS`` apart belong to one sequence, whatever animals they show.
"""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, time

from ...errors import UserError
from ...logs import log_once
from .. import plural, shorten
from .photos import Photo

logger = logging.getLogger(__name__)

GAP_SECONDS = 60
# Year first, as in ISO 8601 and EXIF: otherwise the order of day and month would be a guess. Fractions of a second and
# time zones are ignored.
MOMENT = re.compile(r"(\d{4})[-:/](\d\d?)[-:/](\d\d?)[T ]+(\d\d?):(\d\d)(?::(\d\d)(?:[.,]\d+)?)?(?: ?(?:Z|[+-]\d.*))?")
Moments = dict[tuple[str, ...], list[tuple[datetime, int]]]


def assign_sequences(photos: Sequence[Photo], rows: Sequence[dict[str, str]], source: str) -> list[Photo]:
    """Give each photograph without a sequence one that follows from its time and camera, if both are known.

    Args:
        photos: one for each row, in the same order; the result does not depend on the order.
        rows: fields by column: date and time, or date_time.
        source: the table, for warnings about names and times that do not serve.
    """
    photos = _of_one_place(photos, source)
    moments, unread = _moments(photos, rows)
    if unread:
        message = f"{source}: {len(unread)} times cannot be read, so these photographs belong to no sequence"
        cure = "Write them as 2024-05-31 23:59:59, the year first."
        log_once(logger, logging.WARNING, f"{message}\n{shorten(unread)}\n{cure}")
    if not moments and not unread and not any(photo.sequence for photo in photos):
        _warn_of_no_bursts(rows, source)
    named = {
        n: f"{' '.join(camera)} {first.isoformat()}"
        for camera, taken in moments.items()
        for n, first in bursts(taken).items()
    }
    return [replace(photo, sequence=named.get(n, photo.sequence)) for n, photo in enumerate(photos)]


def _of_one_place(photos: Sequence[Photo], source: str) -> list[Photo]:
    """Put the station or camera before a sequence's name where several have this name: each counts from 1."""
    places = defaultdict(set)
    for photo in photos:
        if photo.sequence is not None and photo.background is not None:
            places[photo.sequence].add(photo.background)
    several = sorted(name for name, own in places.items() if len(own) > 1)
    if several:
        message = f"{source}: {plural(len(several), 'name')} of sequences at several stations or cameras"
        cure = "Each station has its own sequence of that name, or each camera where no station is given."
        log_once(logger, logging.WARNING, f"{message}\n{shorten(several)}\n{cure}")
    return [
        replace(photo, sequence=f"{photo.background} {photo.sequence}")
        if photo.background and len(places[photo.sequence]) > 1
        else photo
        for photo in photos
    ]


def _warn_of_no_bursts(rows: Sequence[dict[str, str]], source: str) -> None:
    """Say why the dates and times of a table gave no moment at all."""
    given = [name for name in ("date", "time", "date_time") if any(row.get(name) for row in rows)]
    if given:
        timed = any(time_of(row) for row in rows)
        lacks = "a camera or station" if timed else "the time of day" if "date" in given else "the date"
        message = f"{source}: no sequences follow from {' and '.join(given)}, as no row also has {lacks}"
        effect = "Photographs of one burst count as matches of each other, so scores may be too high"
        log_once(logger, logging.WARNING, f"{message}. {effect}: add it, or a column sequence.")


def _moments(photos: Sequence[Photo], rows: Sequence[dict[str, str]]) -> tuple[Moments, list[str]]:
    """Collect (moment, number of the photograph) by station and camera, and the times that cannot be read."""
    moments, unread = defaultdict(list), []
    for n, (photo, row) in enumerate(zip(photos, rows, strict=True)):
        camera = tuple(part for part in (photo.station, photo.camera) if part)
        text = time_of(row)
        if photo.sequence is None and camera and text:
            try:
                moments[camera].append((read_moment(text), n))
            except ValueError:
                unread.append(f"{photo.where}: {text}")
    return moments, unread


def time_of(row: dict[str, str]) -> str:
    """Date and time in the fields of a row, by column; "" where either is missing."""
    return row.get("date_time") or (f"{row['date']} {row['time']}" if row.get("date") and row.get("time") else "")


def read_moment(text: str) -> datetime:
    """Parse a date and a time of day, the year first; the zone is ignored.

    Raises:
        ValueError: if the text is anything else.
    """
    match = MOMENT.fullmatch(text)
    if match is None:
        raise UserError(text)
    return datetime(*(int(part or 0) for part in match.groups()))


def shared_midnights(moments: Iterable[datetime]) -> set[datetime]:
    """Midnights that several photographs share: dates whose time of day a table has lost."""
    counts = Counter(moment for moment in moments if moment.time() == time())
    return {moment for moment, number in counts.items() if number > 1}


def bursts(taken: Sequence[tuple[datetime, int]], gap: float = GAP_SECONDS) -> dict[int, datetime]:
    """Map the numbers of a camera's photographs to the first moment of their burst.

    A burst ends where the next photograph is more than `gap` seconds later. Midnights that photographs share are of no
    burst.
    """
    unknown = shared_midnights(moment for moment, _ in taken)
    found: dict[int, datetime] = {}
    first = before = None
    for moment, n in sorted(taken):
        if moment not in unknown:
            if before is None or (moment - before).total_seconds() > gap:
                first = moment
            found[n] = first
            before = moment
    return found
