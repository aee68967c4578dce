"""Sequences: photographs that a camera took in one burst, and that are too alike to test a search.

A table names them in its column `sequence`. Elsewhere they follow from the time and the camera: successive photographs
of a camera that are at most ``GAP_SECONDS`` apart are of one sequence, whatever animals they show.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from ...logs import log_once
from .. import shorten
from .names import known
from .photos import Photo

logger = logging.getLogger(__name__)

GAP_SECONDS = 60
# Year first, as in ISO 8601 and EXIF; the order of day and month is a guess otherwise. Fractions and zones are ignored.
MOMENT = re.compile(r"(\d{4})[-:/](\d\d?)[-:/](\d\d?)[T ]+(\d\d?):(\d\d)(?::(\d\d)(?:[.,]\d+)?)?(?: ?(?:Z|[+-]\d.*))?")
Moments = dict[str, list[tuple[datetime, int]]]


def assign_sequences(photos: Sequence[Photo], rows: Sequence[dict[str, str]], source: str) -> list[Photo]:
    """Give photographs without a sequence one by their time and camera, where both are known.

    Args:
        photos: of the rows, in the same order; no result depends on which order that is.
        rows: fields by column: date and time, or date_time; station where the photograph has no camera.
        source: the table, for a warning of times that cannot be read.
    """
    moments, unread = _moments(photos, rows)
    if unread:
        message = f"{source}: {len(unread)} times cannot be read, so these photographs are of no sequence"
        cure = "Write them as 2024-05-31 23:59:59, the year first."
        log_once(logger, logging.WARNING, f"{message}\n{shorten(unread)}\n{cure}")
    named = {n: name for camera, taken in moments.items() for n, name in _bursts(camera, sorted(taken)).items()}
    return [replace(photo, sequence=named.get(n, photo.sequence)) for n, photo in enumerate(photos)]


def _moments(photos: Sequence[Photo], rows: Sequence[dict[str, str]]) -> tuple[Moments, list[str]]:
    """Camera -> (moment, number of the photograph), and the times that cannot be read."""
    moments, unread = defaultdict(list), []
    for n, (photo, row) in enumerate(zip(photos, rows, strict=True)):
        camera = photo.camera or known(row.get("station", ""))
        text = row.get("date_time") or (f"{row['date']} {row['time']}" if row.get("date") and row.get("time") else "")
        if photo.sequence is None and camera is not None and text:
            try:
                moments[camera].append((_moment(text), n))
            except ValueError:
                unread.append(f"{photo.where}: {text}")
    return moments, unread


def _moment(text: str) -> datetime:
    """Raises ValueError unless the text is a date and a time of day, the year first."""
    found = MOMENT.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return datetime(*(int(part or 0) for part in found.groups()))


def _bursts(camera: str, taken: list[tuple[datetime, int]]) -> dict[int, str]:
    """Number of a photograph -> its sequence, named by the camera and the first moment; `taken` is in order."""
    names, name, before = {}, "", None
    for moment, n in taken:
        if before is None or (moment - before).total_seconds() > GAP_SECONDS:
            name = f"{camera} {moment.isoformat()}"
        names[n], before = name, moment
    return names
