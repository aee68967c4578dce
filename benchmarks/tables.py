"""What benchmarks print and write: Markdown, and CSV with the machine and the versions beside each row."""

import csv
import platform
from argparse import ArgumentParser
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "numpy", "scipy", "numba", "scikit-learn", "faiss-cpu")


def add_output(parser: ArgumentParser) -> None:
    """The option that `Tables` takes."""
    parser.add_argument("--output", type=Path, help="also write what is printed to OUTPUT.md, and OUTPUT.csv")


class Tables:
    """Prints text and tables as they come and keeps them in two files, where a name for these is given.

    The files are written anew each time, so that a benchmark that is stopped leaves what it has found.
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
            self.output.with_suffix(".md").write_text("\n".join(self.lines) + "\n")

    def add(self, rows: list[dict]) -> None:
        """Show rows, and keep them."""
        self.show(rows)
        self.keep(rows)

    def show(self, rows: list[dict]) -> None:
        """Print a table; a column a key of the first row."""
        names = list(rows[0])
        lines = [[name.replace("_", " ") for name in names], *([text(row.get(name)) for name in names] for row in rows)]
        head, *body = ["| " + " | ".join(line) + " |" for line in lines]
        self.say("\n".join([head, "|---" * len(names) + "|", *body, ""]))

    def keep(self, rows: list[dict]) -> None:
        """Write rows to the CSV, after those that are there."""
        self.rows += rows
        if self.output:
            names = list(dict.fromkeys(name for row in self.rows for name in row))
            with self.output.with_suffix(".csv").open("w", newline="") as file:
                table = csv.DictWriter(file, [*names, "machine", "versions"])
                table.writeheader()
                table.writerows({**row, "machine": self.machine, "versions": self.versions} for row in self.rows)


def text(value: object) -> str:
    """Of a cell: numbers to three digits."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def versions() -> str:
    """Of the packages whose speed is measured."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
