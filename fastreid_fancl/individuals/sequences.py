"""Sequences: successive photographs of one camera, taken for one visit of one animal."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from ..data.datasets.sequences import GAP_SECONDS, bursts
from ..escape import visible
from .rows import Photograph

NAMED_BY_TIME = re.compile(r"(?:^| )\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$")  # the end of what `with_sequences` calls one


def with_sequences(rows: Iterable[Photograph], gap: float = GAP_SECONDS) -> list[Photograph]:
    """Rows with their sequence: successive photographs of a camera at most `gap` seconds apart.

    Midnights that several photographs of a camera share are dates without a time of day, and give no sequence.
    A sequence that is found is named after its season, its camera and its first moment, so that the order of files does
    not matter. A given name is kept, after season and camera: names repeat when clocks are reset, and in tables that
    count from 1 at each camera.
    """
    rows, taken = list(rows), defaultdict(list)
    for n, row in enumerate(rows):
        if row.date_time and not row.sequence:
            taken[row.season, row.station, row.camera].append((datetime.fromisoformat(row.date_time), n))
    names = {n: first.isoformat() for moments in taken.values() for n, first in bursts(moments, gap).items()}
    return [
        replace(row, sequence=_sequence(row, name) if (name := names.get(n, row.sequence)) else "")
        for n, row in enumerate(rows)
    ]


def _sequence(row: Photograph, name: str) -> str:
    camera = row.camera if row.camera != row.station else ""
    return " ".join(part for part in (row.season, row.station, camera, name) if part)


def named_by_time(sequence: str) -> bool:
    """Whether a sequence was found by times and cameras, as its name shows; else a table gave it."""
    return bool(NAMED_BY_TIME.search(sequence))


def long_sequences(rows: Iterable[Photograph]) -> list[str]:
    """A sentence if sequences that a table gave span more than a day, as they do where its numbers start again."""
    moments = defaultdict(list)
    for row in rows:
        if row.date_time and row.sequence and not named_by_time(row.sequence):
            moments[row.sequence].append(datetime.fromisoformat(row.date_time))
    days = {name: (max(times) - min(times)).total_seconds() / 86400 for name, times in moments.items()}
    if not any(number > 1 for number in days.values()):
        return []
    longest = max(days, key=lambda name: (days[name], name))
    return [
        f"Given sequences that span more than a day: {sum(number > 1 for number in days.values())}, such as "
        f"{visible(longest)} ({days[longest]:.0f} days). A sequence is taken for one visit of one animal: if their "
        "numbers start again, leave them out."
    ]
