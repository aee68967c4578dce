"""A table of photographs: where and when each was taken, and which side it shows."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...data import plural
from ...data.datasets.columns import explain_unused
from ...data.datasets.names import clean_name
from ...data.datasets.sequences import read_moment
from ...errors import UserError
from ...escape import visible
from ..rows import SIDES, Photograph
from ..tables import lower, open_table
from .places import Places, not_here

logger = logging.getLogger(__name__)

TOLD = ("path", "station", "camera", "date_time", "date", "time", "sequence", "side")
FORMS = {"time": "2024-06-03 00:30:00, the year first", "side": ", ".join(SIDES)}  # of cells that may be unreadable
SYNONYMS = {"orientation": "side", "camera_id": "camera", "datetime": "date_time", "timestamp": "date_time"}


def with_table(rows: Sequence[Photograph], path: Path, left_out: Iterable[str] = ()) -> tuple[list[Photograph], str]:
    """Rows with what a table says: columns path, station, camera, date_time (or date and time), sequence, side.

    Args:
        rows: of photographs.
        path: of the table.
        left_out: paths of files that are not used, such as copies.

    Returns:
        The rows, and a sentence for the summary.

    Raises:
        ValueError: if the table cannot be read, or names none of the photographs.
    """
    said: dict[str, dict[str, str]] = {}
    lines = list(_table_lines(path))
    places = Places(rows, left_out).find(values["path"] for _, values in lines)
    for (line, values), found in zip(lines, places, strict=True):
        if found and said.setdefault(found, values) != values:
            raise UserError(f"{visible(path)} line {line}: {found} is there twice with other values. Leave one row.")
    if not said:
        raise UserError(f"{visible(path)} names none of the photographs, such as {visible(rows[0].path)}.")
    read = {name: _read(values) for name, values in said.items()}
    result = [_with(row, *read[row.path]) if row.path in read else row for row in rows]
    note = f"Table {path.name}: {len(said)} of {len(rows)} photographs are in it."
    for what, form in FORMS.items():
        cells = [f"{unread[what]!r} of {name}" for name, (_, unread) in read.items() if what in unread]
        note += f" {plural(len(cells), what)} cannot be read, such as {cells[0]}: expected {form}." if cells else ""
    return result, note + not_here(path, places.count(None), "row")


def _table_lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The line and the fields of each row of a table of photographs; columns that are not used are named in the log."""
    columns, rows = open_table(path, lambda name: SYNONYMS.get(lower(name), lower(name)))
    if "path" not in columns:
        raise UserError(f"{visible(path)} needs a column named path, got {', '.join(columns) or 'no columns'}.")
    if twice := sorted({name for name in columns if name in TOLD and columns.count(name) > 1}):
        raise UserError(f"{visible(path)} has several columns for {', '.join(twice)}: leave one of each.")
    warnings, unused = explain_unused(columns, TOLD)
    for text in [*warnings, *([unused] if unused else [])]:
        logger.warning("%s: %s", visible(path), visible(text))
    for line, row in rows:
        yield line, {name: clean_name(cell) or "" for name, cell in row.items()}


def _read(values: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """What a row of a table says, by attributes of `Photograph`; and its time and side where they cannot be read."""
    said: dict[str, Any] = {name: values[name] for name in ("station", "camera", "sequence") if values.get(name)}
    unread = {}
    if said.get("station"):
        said = {"camera": said["station"], "station_source": "table", **said}
    moment = values.get("date_time") or f"{values.get('date', '')} {values.get('time', '')}".strip()
    try:
        said |= {"date_time": read_moment(moment).isoformat(), "date_time_source": "table"} if moment else {}
    except ValueError:
        unread["time"] = moment
    side = values.get("side", "")
    if side.lower() in SIDES:
        said["side"] = side.lower()
    elif side:
        unread["side"] = side
    return said, unread


def _with(row: Photograph, said: dict[str, Any], unread: dict[str, str]) -> Photograph:
    row = replace(row, **said)
    if not row.usable:
        return row  # the note says why it is not
    notes = [row.note, *(f"the table's {what} {text!r} cannot be read" for what, text in unread.items())]
    return replace(row, note="; ".join(filter(None, notes)))
