"""A project's own tables as CSV: how their rows are written, read and checked."""

import csv
import io
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..data.datasets.metadata import table_rows
from ..errors import UserError
from ..escape import csv_cell, visible
from ..runs.checked import DamagedError, finite
from .rows import (
    INDIVIDUAL_STATUSES,
    KINDS,
    KINDS_OF_INDIVIDUALS,
    SEXES,
    SIDES,
    STATUSES,
    Box,
    Change,
    Decision,
    Individual,
    Photograph,
    box_of,
    iso_time,
)

CURE = "Correct it there, or restore the file from a copy"
QUOTED = re.compile(r"'*\s*[=+\-@＝＋－＠]")  # what spreadsheets take for a formula, and the same behind apostrophes
NUMBERS = ("score", "second_score")
COUNTS = ("photographs", "sequences", "stations")
LATER = {"station_source"}  # columns that the tables of older projects lack
EVENTS = ("new", "joins", "moved", "split", "merged", "status", "side", "name", "sex")


def table_text(rows: Sequence[Any], kind: type) -> str:
    """The rows of one kind as CSV."""
    text, names = io.StringIO(newline=""), [field.name for field in fields(kind)]
    table = csv.writer(text, lineterminator="\n")
    table.writerow(names)
    table.writerows([_cell(getattr(row, name)) for name in names] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return " ".join(f"{part:.6g}" for part in value)
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, str) and value.startswith("'") and QUOTED.match(value):
        return "'" + str(csv_cell(value))  # so that reading takes away one apostrophe in any case
    return csv_cell(value)


def read_table(path: Path, kind: type, optional: Collection[str] = ()) -> list[Any]:
    """The rows of a table, perhaps saved again by a spreadsheet; none without the file.

    Columns may have another order, and another separator (see `data.datasets.metadata`).

    Args:
        path: of the table.
        kind: of the rows.
        optional: columns that may be missing, in all rows or at the end of one.

    Raises:
        DamagedError: (a ValueError) if a column or a row is not as `table_text` writes it.
    """
    if not path.exists():
        return []
    optional = LATER.union(optional)
    table = table_rows(os.fspath(path))
    header = [name.strip() for name in next(table, (1, 1, []))[2]]
    _check_header(path, header, [field.name for field in fields(kind)], optional)
    return [_row(path, (line, last), kind, header, cells, optional) for line, last, cells in table]


def read_decisions(path: Path) -> list[Decision]:
    """The decisions of a file, such as the review page writes.

    Raises:
        ValueError: if it is no such table, or a sex is another word. Tables of a project may have others.
    """
    if not path.is_file():
        raise UserError(
            f"Expected the file of decisions that the review page saved, got {visible(path)}: there is no such file."
        )
    decisions = read_table(path, Decision, optional=("b", "value"))
    for one in decisions:
        if one.kind == "sex" and one.value not in (*SEXES, ""):
            words = ", ".join((*SEXES, "unknown"))
            raise DamagedError(path, f"expected a sex to be one of {words}, got {one.value!r} of {one.when}", CURE)
    return decisions


def _check_header(path: Path, header: list[str], names: list[str], optional: Collection[str]) -> None:
    missing = [name for name in names if name not in header and name not in optional]
    others = [name for name in header if name and (name not in names or header.count(name) > 1)]
    if missing or others:
        lacks = f", lacks {', '.join(missing)}" * bool(missing) + f", has also {', '.join(others)}" * bool(others)
        raise DamagedError(path, f"expected the columns {', '.join(names)}; it{lacks.removeprefix(',')}", CURE)


def _row(
    path: Path, lines: tuple[int, int], kind: type, header: list[str], cells: list[str], optional: Collection[str]
) -> Any:
    number, last = lines
    if last > number:  # no cell is written with a line break, so it hides other rows
        raise DamagedError(path, f"a quote joins the lines {number} to {last}", CURE)
    named = [(name, cell) for name, cell in zip(header, cells, strict=False) if name]
    lacks = [name for name in header[len(cells) :] if name not in optional]
    if lacks or sum(map(bool, cells)) > sum(bool(cell) for _, cell in named):
        raise DamagedError(path, f"row {number} has {len(cells)} cells, expected {len(header)}", CURE)
    try:
        return checked(kind(**{name: _value(name, kind, cell) for name, cell in named}))
    except ValueError as error:
        raise DamagedError(path, f"row {number}: {error}", CURE) from error


def _value(name: str, kind: type, cell: str) -> Any:
    cell = cell[1:] if cell.startswith("'") and QUOTED.match(cell) else cell
    if name in NUMBERS and kind is Photograph:
        return finite(float(cell)) if cell else None
    if name in COUNTS and kind is Individual:
        return int(cell)
    return parse_box(cell) if name == "box" else cell


def parse_box(text: str) -> Box | None:
    """`x y w h` as numbers; None for an empty text.

    Raises:
        ValueError: unless it is a box within the photograph.
    """
    if not text:
        return None
    return box_of([float(part) for part in text.split()])


def checked(row: Any) -> Any:
    """Check a row. Returns it with sides and sexes in lower case.

    Raises:
        ValueError: if a column has another value than it may have.
    """
    choices: dict[str, Collection[str]] = {}
    row = _in_words(row)
    if isinstance(row, Photograph):
        choices = {"status": STATUSES, "side": SIDES}
        _check_photograph(row)
    elif isinstance(row, Individual):
        choices = {"status": INDIVIDUAL_STATUSES}
        _check_filled(row, "individual")
    elif isinstance(row, Decision):
        choices = {"kind": (*KINDS, *KINDS_OF_INDIVIDUALS, "undo")}
        _check_filled(row, "when", "a")
        _check_time("when", row.when, "2024-06-03T10:00:00Z")
        if row.kind == "side":
            choices["value"] = SIDES
    elif isinstance(row, Change):
        choices = {"kind": EVENTS}
    for name, allowed in choices.items():
        if getattr(row, name) not in allowed:
            raise UserError(f"expected {name} to be one of {', '.join(allowed)}, got {getattr(row, name)!r}")
    return row


def _in_words(row: Any) -> Any:
    """Write sides and sexes in lower case; F means female, M male, and unknown is empty."""
    if isinstance(row, Individual):
        return replace(row, sex=_sex(row.sex))
    if isinstance(row, Decision) and row.kind in ("side", "sex"):
        return replace(row, value=_sex(row.value) if row.kind == "sex" else row.value.strip().lower())
    if isinstance(row, Change) and row.kind == "sex":  # so that an undo finds what older versions wrote
        return replace(row, before=_sex(row.before), after=_sex(row.after))
    return row


def _sex(text: str) -> str:
    known = {"f": "female", "m": "male", "unknown": "", **{name: name for name in (*SEXES, "")}}
    return known.get(text.strip().lower(), text)


def _check_photograph(row: Photograph) -> None:
    if not re.fullmatch(r"[0-9a-f]{16}(-[1-9]\d{0,5})?", row.key):
        raise UserError(f"expected a key of 16 hexadecimal digits, got {row.key!r}")
    if not (re.fullmatch(r"[0-9a-f]{64}", row.hash) and row.hash.startswith(row.key[:16])):
        raise UserError(f"expected a hash of 64 hexadecimal digits that begins as the key {row.key}, got {row.hash!r}")
    if row.counts and not row.individual:
        raise UserError(f"expected an individual for the status {row.status}, got none")
    moment = _check_time("date_time", row.date_time or "2024-06-03", "2024-06-03T00:30:00")
    if moment.tzinfo is not None:
        raise UserError(f"expected date_time as 2024-06-03T00:30:00, local and without a zone, got {row.date_time!r}")


def _check_time(name: str, text: str, example: str) -> datetime:
    try:
        return iso_time(text)
    except ValueError:
        raise UserError(f"expected {name} as {example}, got {text!r}: spreadsheets change times on opening") from None


def _check_filled(row: Any, *names: str) -> None:
    for name in names:
        if not getattr(row, name).strip():
            raise UserError(f"expected {name}, got an empty cell")
