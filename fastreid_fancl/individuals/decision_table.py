"""The decisions.csv that the review page saved is read."""

import os
from pathlib import Path

from ..data.datasets.metadata import table_rows
from ..errors import UserError
from ..escape import visible
from ..runs.checked import DamagedError
from .rows import CURE, Decision, checked, one_line

COLUMNS = ("when", "who", "kind", "a", "b", "value")


def read_decisions(path: Path) -> list[Decision]:
    """The decisions of a file, such as the review page writes.

    Raises:
        ValueError: if it is no such table.
    """
    if not path.is_file():
        raise UserError(
            f"Expected the decisions.csv that the review page saved, got {visible(path)}: there is no such file."
        )
    table = table_rows(os.fspath(path))
    header = [name.strip() for name in next(table, (1, 1, []))[2]]
    missing = [name for name in COLUMNS[:4] if name not in header]
    if missing:
        raise UserError(f"{visible(path)} has no column {', '.join(missing)}: expected {', '.join(COLUMNS)}.")
    found = []
    for line, last, cells in table:
        one_line(path, line, last)
        found.append(_decision(path, line, header, cells))
    return found


def _decision(path: Path, line: int, header: list[str], cells: list[str]) -> Decision:
    if any(cell.strip() for cell in cells[len(header) :]):
        raise DamagedError(path, f"row {line} has {len(cells)} cells, expected {len(header)}", CURE)
    row = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
    try:
        return checked(Decision(**{name: row.get(name, "") for name in COLUMNS}))
    except ValueError as error:
        raise DamagedError(path, f"row {line}: {error}", CURE) from error
