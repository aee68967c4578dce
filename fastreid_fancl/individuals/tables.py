"""Tables that people and other programs hand in, by their columns. `storage` reads a project's own tables."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from typing import NamedTuple

from ..data.datasets.metadata import table_rows
from ..errors import UserError
from ..escape import visible


class Table(NamedTuple):
    """A table that is read row by row.

    Attributes:
        columns: in their order.
        rows: (line, cells by column) of each row.
    """

    columns: list[str]
    rows: Iterator[tuple[int, dict[str, str]]]


def open_table(path: Path, name_of: Callable[[str], str] = str.strip) -> Table:
    """Read a table as `data.datasets.metadata.table_rows` does, in any encoding and with any separator that it knows.

    Args:
        path: of the file.
        name_of: what a column is called here, by its name in the table.

    Raises:
        UserError: if the file cannot be read; while rows are read, if one is no CSV, or has another number of cells
            than the header.
    """
    lines = table_rows(os.fspath(path))
    columns = [name_of(name) for name in next(lines, (1, 1, []))[2]]
    return Table(columns, _by_column(path, columns, lines))


def clock_time(time: datetime, zone: tzinfo | None) -> datetime:
    """A time as the cameras' clocks showed it, in whole seconds; one without a zone is taken for theirs.

    Args:
        time: with or without a zone.
        zone: of the cameras' clocks; None leaves a time as it is written, without its zone.
    """
    shown = time.astimezone(zone) if zone and time.tzinfo else time
    return shown.replace(tzinfo=None, microsecond=0)


def lower(name: str) -> str:
    """A column's name in any letter case, without blanks around it."""
    return name.strip().lower()


def _by_column(
    path: Path, columns: Sequence[str], lines: Iterable[tuple[int, int, list[str]]]
) -> Iterator[tuple[int, dict[str, str]]]:
    for line, _, cells in lines:
        if len(cells) != len(columns):
            raise UserError(
                f"{visible(path)} line {line}: {len(cells)} cells, but the header has {len(columns)} (quote cells with "
                "commas)."
            )
        yield line, dict(zip(columns, cells, strict=True))
