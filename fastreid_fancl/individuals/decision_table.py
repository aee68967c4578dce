"""The decisions that the review page saved are read."""

from pathlib import Path

from ..errors import UserError
from ..escape import visible
from .rows import Decision, read_table


def read_decisions(path: Path) -> list[Decision]:
    """The decisions of a file, such as the review page writes.

    Raises:
        ValueError: if it is not a table of decisions.
    """
    if not path.is_file():
        raise UserError(
            f"Expected the file of decisions that the review page saved, got {visible(path)}: there is no such file."
        )
    return read_table(path, Decision, optional=("b", "value"))
