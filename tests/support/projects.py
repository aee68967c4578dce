"""Projects of individuals."""

import csv
from pathlib import Path


def table(project: Path, name: str = "photographs.csv") -> list[dict[str, str]]:
    """The rows of a project's table."""
    with open(project / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
