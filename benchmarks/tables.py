"""What benchmarks print and write: Markdown, and CSV with the machine and the versions beside each row."""

import csv
import os
import platform
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TextIO

PACKAGES = ("torch", "numpy", "scipy", "numba", "scikit-learn", "faiss-cpu", "openvino")


def add_output(parser: ArgumentParser) -> None:
    """The option that `Tables` takes."""
    parser.add_argument("--output", type=Path, help="also write what is printed to OUTPUT.md, and OUTPUT.csv")


class Tables:
    """Prints text and tables as they come and keeps them in two files, where a name for these is given.

    The files are rewritten each time, so that a benchmark that is stopped leaves its results so far; each file is
    complete or absent.
    """

    def __init__(self, output: Path | None, machine: str, threads: int):
        """
        Args:
            output: the files' name without its end, or None.
            machine: processor or GPU.
            threads: of the processor.
        """
        self.output, self.lines, self.rows = output, [], []
        self.machine, self.versions = machine, f"Python {platform.python_version()}, {versions()}"
        self.say(f"{machine}, {threads} threads; {self.versions}\n")

    def say(self, text: str) -> None:
        """Print Markdown."""
        print(text, flush=True)
        self.lines.append(text)
        if self.output:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.output.with_suffix(".md")) as file:
                file.write("\n".join(self.lines) + "\n")

    def add(self, rows: list[dict]) -> None:
        """Show rows, and keep them."""
        self.show(rows)
        self.keep(rows)

    def show(self, rows: list[dict]) -> None:
        """Print a table; a column a key of the first row."""
        names = list(rows[0])
        self.say("\n".join([*head(names), *(line(row, names) for row in rows), ""]))

    def begin(self, names: tuple[str, ...]) -> None:
        """Show the head of a table to which `go_on` adds."""
        self.names = names
        self.say("\n".join(head(names)))

    def go_on(self, row: dict) -> None:
        """Show a row of the table that has begun, and keep it."""
        self.say(line(row, self.names))
        self.keep([row])

    def keep(self, rows: list[dict]) -> None:
        """Write rows to the CSV, after those that are there."""
        self.rows += rows
        if self.output:
            names = list(dict.fromkeys(name for row in self.rows for name in row))
            with replacing(self.output.with_suffix(".csv")) as file:
                table = csv.DictWriter(file, [*names, "machine", "versions"])
                table.writeheader()
                table.writerows({**row, "machine": self.machine, "versions": self.versions} for row in self.rows)


def head(names: list[str] | tuple[str, ...]) -> list[str]:
    """The two lines above a table's rows."""
    return ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * len(names) + "|"]


def line(row: dict, names: list[str] | tuple[str, ...]) -> str:
    """A row of a table."""
    return "| " + " | ".join(text(row.get(name)) for name in names) + " |"


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A file that takes the place of `path` when it is complete.

    The package's own `files.replacing` would import PyTorch, which some benchmarks keep out of their first process.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", newline="") as file:
        yield file
    os.replace(temporary, path)


def text(value: object) -> str:
    """The text of a cell, numbers to three digits."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def versions() -> str:
    """The versions of the packages whose speed is measured."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
