"""Readers for the files of a run's folder that check all types; an error names the file, the place and the problem.

A check is a function of a value: it returns the value, perhaps converted, or raises ValueError with what it expected.
"""

import csv
import gzip
import json
import logging
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import yaml

from ..errors import UserError
from ..escape import visible
from ..logs import log_once

logger = logging.getLogger(__name__)
Check = Callable[[Any], Any]
TRAIN_AGAIN = "Restore it from a copy, or train the run again"
LONGEST_NAME = 255
MOST_VALUES = 100_000  # of a file of settings: one that contains itself is endless
NUMBER = r"-?(\d{1,300}(\.\d{0,300})?(e[-+]?\d{1,9})?|inf|nan)"
# PyYAML raises most of these on tags that do not fit their text.
NO_YAML = (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
UNREADABLE = (csv.Error, EOFError, OSError, UnicodeDecodeError, zlib.error)


class DamagedError(UserError):
    """A file of a run's folder with content that no run writes; `cure` ends the sentence on what to do."""

    def __init__(self, path: Path, problem: object, cure: str = TRAIN_AGAIN):
        super().__init__(f"{visible(path)} is damaged: {visible(problem)}. {cure}.")


def read_text(path: Path, cure: str = TRAIN_AGAIN) -> str:
    """The text of a file.

    Raises:
        DamagedError: with the cure, if it is not a regular file, cannot be read or is not UTF-8.
    """
    return _whole(path, lambda file: file.read(), cure)


def read_json(path: Path, check: Check, cure: str = TRAIN_AGAIN) -> Any:
    """The content of a JSON file, checked.

    Raises:
        DamagedError: with the cure, if it cannot be read, or fails the check.
    """
    text = read_text(path, cure)
    try:
        return check(_json(text))
    except ValueError as error:
        raise DamagedError(path, error, cure) from error


def read_yaml(path: Path, check: Check) -> Any:
    """The content of a YAML file, checked.

    Raises:
        DamagedError: if it cannot be read, or fails the check.
    """
    text = read_text(path)
    try:
        content = yaml.safe_load(text)
        expect(_size(content) < MOST_VALUES, f"less than {MOST_VALUES} values", content)
        return check(content)
    except NO_YAML as error:
        raise DamagedError(path, _deep(error)) from error


def _size(content: object) -> int:
    """Count the values in nested dictionaries and lists, MOST_VALUES at most, as one may contain itself."""
    left, number_of_values = [content], 0
    while left and number_of_values < MOST_VALUES:
        value, number_of_values = left.pop(), number_of_values + 1
        left += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return number_of_values


def read_lines(path: Path, check: Check) -> list:
    """The checked values of a JSON lines file, one per line; [] if there is no file.

    A broken line is skipped with a warning. The last line is skipped silently if it is incomplete: a run is writing it.

    Raises:
        DamagedError: if the file cannot be read.
    """
    values, lines = [], read_text(path).split("\n") if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                values.append(check(_json(line)))
        except ValueError as error:
            if number < len(lines):
                problem = f"{visible(path)} is damaged: line {number}, {visible(error)}. The line is skipped."
                log_once(logger, logging.WARNING, problem)
    return values


def read_table(path: Path, columns: Mapping[str, Check]) -> list[dict[str, Any]]:
    """The rows of a CSV file, gzipped if it is named .gz, with the cells of these columns checked; others are left out.

    Raises:
        DamagedError: if the file cannot be read, lacks a column, or has a row that does not fit.
    """
    return _whole(path, lambda file: list(_rows(path, csv.DictReader(file), columns)))


def read_rows(path: Path) -> list[list[str]]:
    """The rows of a CSV file as text, without empty rows.

    Raises:
        DamagedError: if the file cannot be read.
    """
    return _whole(path, lambda file: [row for row in csv.reader(file) if row])


def _whole(path: Path, read: Callable[[TextIO], Any], cure: str = TRAIN_AGAIN) -> Any:
    try:
        if not path.is_file():
            raise DamagedError(path, "it is not a regular file", cure)
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8", newline="") as file:
            return read(file)
    except UNREADABLE as error:
        raise DamagedError(path, error, cure) from error


def _rows(path: Path, reader: csv.DictReader, columns: Mapping[str, Check]) -> Iterator[dict[str, Any]]:
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise DamagedError(path, f"it has no column {', '.join(missing)}")
    for row in reader:
        where = f"line {reader.line_num}"
        if None in row or None in row.values():
            raise DamagedError(path, f"{where} has another number of cells than the first line")
        yield {name: _cell(path, f"{where}, {name}", check, row[name]) for name, check in columns.items()}


def _cell(path: Path, where: str, check: Check, text: str) -> Any:
    try:
        return check(text)
    except (ValueError, OverflowError) as error:
        raise DamagedError(path, f"{where}: {error}") from error


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(_deep(error)) from error


def _deep(error: Exception) -> object:
    return "it is nested too deeply" if isinstance(error, RecursionError) else error


def shortened(value: object) -> str:
    """A value as text of at most 60 characters, for a message."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # whole numbers of thousands of digits, deep nesting
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."


def expect(right: bool, expected: str, value: object) -> None:
    """Raise ValueError with the value unless it is `right`."""
    if not right:
        raise ValueError(f"expected {expected}, got {shortened(value)}")


def word(value: Any) -> str:
    """A check: text."""
    expect(isinstance(value, str), "text", value)
    return value


def whole(value: Any) -> int:
    """A check: a whole number that fits 64 bits."""
    expect(type(value) is int and abs(value) < 2**63, "a whole number", value)
    return value


def number(value: Any) -> float:
    """A check: a number; infinity and NaN are allowed."""
    expect(type(value) in (int, float), "a number", value)
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"expected a number, got one of {value.bit_length()} bits") from None


def finite(value: object) -> float:
    """A check: a number, neither infinite nor NaN."""
    checked = number(value)
    expect(math.isfinite(checked), "a finite number", value)
    return checked


def optional(check: Check) -> Check:
    """A check that accepts None, too."""
    return lambda value: None if value is None else check(value)


def cell_of(check: Check, empty: bool = False) -> Check:
    """A check of a table's cell: a number as text, which must pass another check; with `empty`, "" becomes None."""

    def checked(text: str) -> Any:
        if empty and text == "":
            return None
        expect(re.fullmatch(NUMBER, text) is not None, "a number", text)
        return check(int(text) if text.lstrip("-").isdigit() else float(text))

    return checked


def list_of(check: Check) -> Check:
    """A check: a list whose entries pass another check."""

    def checked(value: Any) -> list:
        expect(isinstance(value, (list, tuple)), "a list", value)
        return [_part(f"entry {place}", check, entry) for place, entry in enumerate(value, start=1)]

    return checked


def dict_of(check: Check) -> Check:
    """A check: a dictionary whose values pass another check."""

    def checked(value: Any) -> dict:
        expect(isinstance(value, dict), "names with values", value)
        return {word(name): _part(visible(name), check, entry) for name, entry in value.items()}

    return checked


def fields(checks: Mapping[str, Check], **others: Check) -> Check:
    """A check: a dictionary with these names, perhaps with the `others`, whose values pass their checks."""

    def checked(value: Any) -> dict:
        expect(isinstance(value, dict), "names with values", value)
        missing = [name for name in checks if name not in value]
        if missing:
            raise ValueError(f"{', '.join(missing)} is missing")
        known = {name: check for name, check in {**checks, **others}.items() if name in value}
        return {**value, **{name: _part(name, check, value[name]) for name, check in known.items()}}

    return checked


def _part(where: str, check: Check, value: object) -> Any:
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def plain_name(name: Any) -> str:
    """A check: the name of a file without a folder, so that it cannot point outside the run's folder."""
    expect(isinstance(name, str), "the name of a file", name)
    wrong = name in ("", ".", "..") or re.search(r"[/\\:\0]", name) or len(os_bytes(name)) > LONGEST_NAME
    expect(not wrong, "the plain name of a file in the same folder", name)
    return name


def os_bytes(name: str) -> bytes:
    """A name as the bytes that a file system stores."""
    return name.encode("utf-8", "surrogatepass")


def member(folder: Path, name: object) -> Path:
    """The path of a file in a folder, from its plain name.

    Raises:
        ValueError: on a name with a folder in it, and on a link that points outside the folder.
    """
    path = folder / plain_name(name)
    if path.resolve().parent != folder.resolve():
        raise ValueError(f"expected a file of the same folder, got {shortened(name)}, a link to another place")
    return path
