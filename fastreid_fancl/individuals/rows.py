"""The rows of a project's tables: what they hold, how they are written, and how they are checked when they are read."""

import csv
import io
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..data.datasets.metadata import table_rows
from ..errors import UserError
from ..escape import csv_cell, visible
from ..runs.checked import DamagedError, finite

STATUSES = ("confirmed", "proposed", "unsure", "single", "not_animal", "unreadable")
COUNTED = ("confirmed", "proposed", "single")  # statuses of a photograph that is evidence of its animal
INDIVIDUAL_STATUSES = ("confirmed", "proposed", "single", "merged")
SIDES = ("left", "right", "both", "unknown")
KINDS = ("same", "different", "unsure", "is", "is_not", "new", "not_animal", "side")
KINDS_OF_INDIVIDUALS = ("merge", "name", "sex", "confirm")
NUMBERS = ("score", "second_score")
COUNTS = ("photographs", "sequences", "stations")
LATER = {"station_source"}  # columns that the tables of older projects lack
EVENTS = ("new", "joins", "moved", "split", "merged", "status", "side", "name", "sex")
CURE = "Correct it there, or restore the file from a copy"
QUOTED = re.compile(r"'*\s*[=+\-@＝＋－＠]")  # what spreadsheets take for a formula, and the same behind apostrophes
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Photograph:
    """One animal on one photograph.

    Attributes:
        key: first 16 hexadecimal digits of the content's SHA-256, and `-2`, `-3` for further boxes in reading order.
        hash: SHA-256 of the file's content.
        path: relative to `root`, with forward slashes.
        station_source: found (in the folders, by the program), named (by --stations), table (or Camtrap DP); empty if
            that is not known, as in older projects.
        date_time: local, `2024-06-03T00:30:00`, or empty; `date_time_source` is exif, table, file name or none.
        box: x, y, width, height as shares of the photograph, from its upper left corner; None for all of it.
        individual: its animal. Of an unsure photograph the likeliest one, which does not count it.
        score, second, second_score: similarity to the nearest photograph of its animal and of the next likeliest one.
    """

    key: str
    hash: str
    path: str
    root: str = ""
    season: str = ""
    station: str = ""
    station_source: str = ""
    camera: str = ""
    date_time: str = ""
    date_time_source: str = "none"
    sequence: str = ""
    box: Box | None = None
    side: str = "unknown"
    individual: str = ""
    status: str = "unsure"
    score: float | None = None
    second: str = ""
    second_score: float | None = None
    note: str = ""

    @property
    def file(self) -> Path:
        """Where the photograph lies."""
        return Path(self.root, self.path)

    @property
    def moment(self) -> datetime | None:
        """When it was taken, in local time; None if it is not known."""
        return iso_time(self.date_time).replace(tzinfo=None) if self.date_time else None

    @property
    def occasion(self) -> str:
        """Its sequence, or its file where none is known. Photographs of one occasion are no evidence for each other."""
        return self.sequence or self.hash[:16]

    @property
    def counts(self) -> bool:
        """Whether it is evidence of its animal: in exports, numbers of photographs and matches."""
        return self.status in COUNTED

    @property
    def usable(self) -> bool:
        """Whether it shows an animal that can be compared."""
        return self.status not in ("not_animal", "unreadable")


@dataclass(frozen=True)
class Individual:
    """One animal; `individual` is its ID, which is never reused or changed."""

    individual: str
    name: str = ""
    sex: str = ""
    first_seen: str = ""
    last_seen: str = ""
    photographs: int = 0
    sequences: int = 0
    stations: int = 0
    sides: str = ""
    status: str = "proposed"
    merged_into: str = ""
    note: str = ""


@dataclass(frozen=True)
class Decision:
    """What a person decided; `when` is ISO 8601 in UTC. The kinds are those of KINDS and KINDS_OF_INDIVIDUALS, undo."""

    when: str
    who: str
    kind: str
    a: str
    b: str = ""
    value: str = ""


@dataclass(frozen=True)
class Change:
    """One photograph that moved, or one animal that changed, with its reason.

    Attributes:
        event: the `when` of the decision, or the time at which a season was added.
        kind: new, joins, moved, split, merged, status, side, name or sex.
        item: key of a photograph or ID of an animal.
        before, after: what it was and what it became.
    """

    event: str
    kind: str
    item: str
    before: str
    after: str
    reason: str


def restored_animals(
    photographs: Sequence[Photograph], decisions: Sequence[Decision], changes: Sequence[Change]
) -> list[Individual]:
    """The animals that a project's other tables name, if its individuals.csv is lost; their numbers are counted later.

    Names, sexes and merges are the last ones on record. Without changes.csv nothing says what was merged.
    """
    named = {name for row in photographs for name in (row.individual, row.second)}
    named |= {name for one in decisions if one.kind in KINDS_OF_INDIVIDUALS for name in (one.a, one.b)}
    named |= {one.b for one in decisions if one.kind in ("is", "is_not")}
    named |= {one.item for one in changes if one.kind == "new"}
    found = {name: Individual(name) for name in sorted(named - {""})}
    for decision in decisions:
        if decision.kind in ("name", "sex"):
            change: dict[str, Any] = {decision.kind: decision.value}
            found[decision.a] = replace(found[decision.a], **change)
    for one in changes:
        if one.item in found and one.kind in ("name", "sex"):
            change = {one.kind: one.after}
            found[one.item] = replace(found[one.item], **change)
        elif one.item in found and one.kind == "merged":
            found[one.item] = replace(found[one.item], merged_into=one.after if one.after != one.item else "")
    return list(found.values())


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
        ValueError: if it is no such table.
    """
    if not path.is_file():
        raise UserError(
            f"Expected the file of decisions that the review page saved, got {visible(path)}: there is no such file."
        )
    return read_table(path, Decision, optional=("b", "value"))


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


def box_of(numbers: Sequence[float]) -> Box:
    """The box x, y, width, height.

    Raises:
        ValueError: unless it is a box within the photograph.
    """
    if len(numbers) == 4:
        x, y, width, height = (round(number, 6) for number in numbers)
        if 0 <= x <= 1 and 0 <= y <= 1 and 0 < width <= 1 and 0 < height <= 1:
            return x, y, width, height
    raise UserError(f"expected a box of four numbers from 0 to 1 (x y width height), got {list(numbers)}")


def iso_time(text: str) -> datetime:
    """The time of ISO 8601, in which "Z" is UTC: Python 3.10 does not know it.

    Raises:
        ValueError: if it is no such time.
    """
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def checked(row: Any) -> Any:
    """The row itself.

    Raises:
        ValueError: if a column has another value than it may have.
    """
    choices = {}
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
