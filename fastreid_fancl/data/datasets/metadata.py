"""Data sets that a metadata.csv describes."""

import csv
import io
import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from ...errors import UserError
from ...logs import log_once
from .. import plural, shorten
from ..images import open_regular
from .columns import box_columns, explain_unused, likely_name
from .names import FileIndex, clean_name, has_break, is_guessed_missing
from .photos import LAYOUT, SPLITS, Photo
from .sequences import assign_sequences, time_of

logger = logging.getLogger(__name__)

# An orientation is the side of the animal, which only projects of individuals read.
COLUMNS = ("path", "identity", "split", "camera", "orientation", "sequence")
COMPARED = ("identity", "split", "camera", "sequence")  # in which two rows of one photograph must agree
# Sequences follow from these columns if the table does not name them.
MOMENTS = ("date", "time", "date_time", "station")
NO_BOXES = "with another box, but boxes are not used: cut the animals out, a file for each"


def read_metadata(path: str) -> list[Photo]:
    """Read a metadata.csv, separated by commas, semicolons or tabs, in UTF-8, UTF-16 with a mark, or Windows-1252.

    Column names may have any letter case; the log names further columns. Identities and cameras in ``names.MISSING``
    are unknown; all others are brought into Unicode's composed form, and files are found in whichever form their names
    are on disk. A row that repeats another is dropped with a warning. Sequences come from their column, or follow from
    date, time and camera (see ``sequences``).

    Raises:
        ValueError: if there is no path column, or if rows cannot be used; the message gives their line numbers.
    """
    rows = table_rows(path)
    columns = _columns(path, next(rows, (1, 1, []))[2])
    photos, fields_of_rows, problems, boxes = [], [], [], {}
    unknown: Counter[str] = Counter()
    for line, last, row in rows:
        where = f"{os.path.basename(path)} line {line}"
        problem = _unusable(columns, row, line, last)
        if problem:
            problems.append(f"{where}: {problem}")
            continue
        fields = {name: value.strip() for name, value in zip(columns, row, strict=True)}
        unknown.update(fields[n] for n in ("identity", "camera") if n in fields and is_guessed_missing(fields[n]))
        boxes[where] = [fields[name] for name in box_columns(columns)]
        photos.append(_photo(os.path.dirname(path), fields, where))
        fields_of_rows.append(fields)
    _warn_of_unknown(path, unknown)
    photos = _on_disk(assign_sequences(photos, fields_of_rows, path), problems)
    photos = _drop_repeated(path, photos, problems, boxes)
    problems += _problems(photos)
    if problems:
        raise UserError(
            f"{path}: {len(problems)} problems\n{shorten(problems)}\n"
            f"Correct or remove these rows; paths are relative to {os.path.dirname(path)}."
        )
    return photos


def _unusable(columns: list[str], row: list[str], line: int, last: int) -> str | None:
    """Say why a row, which spans the lines from `line` to `last`, cannot be used; None if it can."""
    broken = [name for name, value in zip(columns, row, strict=False) if name in COLUMNS and has_break(value.strip())]
    spread = f" (a quote joins the lines {line} to {last}: close it, or take it out)" if last > line else ""
    if len(row) != len(columns):
        return f"{len(row)} fields, but the header has {len(columns)}{spread or ' (quote fields with commas)'}"
    if broken:
        return f"a line break in {' and '.join(broken)}{spread}"
    return None


def _warn_of_unknown(path: str, unknown: Counter[str]) -> None:
    if unknown:
        written = ", ".join(f"{name!r} ({count})" for name, count in unknown.most_common(10))
        message = f"identities and cameras written as {written} count as unknown; rename those that are real names"
        log_once(logger, logging.WARNING, f"{path}: {message}")


def table_rows(path: str) -> Iterator[tuple[int, int, list[str]]]:
    """Yield (first line, last line, fields) of each row that is not blank; warn of rows that span several lines."""
    text = _decode(path)
    header = text.lstrip().split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    last, spread = 0, []
    try:
        for row in reader:
            line, last = last + 1, reader.line_num
            if last > line:
                spread.append(f"lines {line} to {last}")
            if any(field.strip() for field in row):
                yield line, last, row
    except csv.Error as error:
        where = f"{path} line {last + 1} is not CSV"
        raise UserError(f"{where}: {error}; close its quotes, or save the table again as CSV") from error
    if spread:
        message = (
            f"{path}: {plural(len(spread), 'row')} over several lines, which a quote joins; check that each is one row"
        )
        log_once(logger, logging.WARNING, f"{message}\n{shorten(spread)}")


def _decode(path: str) -> str:
    try:
        with open_regular(path) as file:
            data = file.read()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}): expected a table in a file") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise UserError(f"{path} begins as UTF-16, but is not: {error.reason}. Save it as UTF-8") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        message = f"{path} line {line} is not UTF-8; read as Windows-1252. Save it as UTF-8 if names look wrong"
        log_once(logger, logging.WARNING, message)
        return data.decode("cp1252", errors="replace")


def _columns(path: str, header: list[str]) -> list[str]:
    """Return the column names in lower case; log ignored columns, and warn of those that are probably misnamed."""
    columns = [name.strip().lower() for name in header]
    if "path" not in columns:
        likely = next((f" (is it {name.strip()}?)" for name in header if likely_name(name, ("path",))), "")
        got = (", ".join(columns) or "no columns") + likely
        raise UserError(f"{path} needs a column named path, got {got}. {LAYOUT}")
    repeated = [name for name in COLUMNS if columns.count(name) > 1]
    if repeated:
        raise UserError(f"{path} has more than one column named {', '.join(repeated)}; keep one")
    warnings, unused = explain_unused([name.strip() for name in header], (*COLUMNS, *MOMENTS))
    for message in warnings:
        log_once(logger, logging.WARNING, f"{path}: {message}")
    if unused:
        log_once(logger, logging.INFO, f"{path}: {unused}")
    return columns


def _photo(folder: str, fields: dict[str, str], where: str) -> Photo:
    path = fields["path"]
    if "\\" in path and not os.path.exists(os.path.join(folder, path)):
        path = path.replace("\\", "/")  # a path from Windows
    return Photo(
        path=os.path.normpath(os.path.join(folder, path)) if path else "",
        identity=clean_name(fields.get("identity", "")),
        split=(clean_name(fields.get("split", "")) or "").lower() or None,
        camera=clean_name(fields.get("camera", "")),
        sequence=clean_name(fields.get("sequence", "")),
        where=where,
        station=clean_name(fields.get("station", "")),
        taken=time_of(fields) or None,
    )


def _on_disk(photos: list[Photo], problems: list[str]) -> list[Photo]:
    """Replace paths by those on disk; empty paths and missing files are added to the problems."""
    files = FileIndex()
    existing = []
    for photo in photos:
        path = files.find(photo.path) if photo.path else None
        if path:
            existing.append(photo if path == photo.path else replace(photo, path=path))
        elif photo.path:
            problems.append(f"{photo.where}: no file {photo.path}{files.hint(photo.path)}")
        else:
            problems.append(f"{photo.where}: the path is empty")
    return existing


def _drop_repeated(path: str, photos: list[Photo], problems: list[str], boxes: dict[str, list[str]]) -> list[Photo]:
    """Keep the first of several equal rows; rows that contradict each other are added to the problems.

    `boxes` has the fields of the boxes by ``where``: two animals on one photograph are not a repetition.
    """
    first: dict[str, Photo] = {}
    repeated, other_boxes = [], []
    for photo in photos:
        earlier = first.setdefault(photo.path, photo)
        if earlier is photo:
            continue
        different = [n for n in COMPARED if getattr(photo, n) != getattr(earlier, n)]
        boxed = boxes[photo.where] != boxes[earlier.where]
        if different:
            cure = f" ({NO_BOXES})" if boxed else ""
            what = f"same photograph as {earlier.where}, but another {' and '.join(different)}{cure}"
            problems.append(f"{photo.where}: {what}")
        else:
            (other_boxes if boxed else repeated).append(f"{photo.where}, as {earlier.where}")
    if repeated:
        log_once(
            logger, logging.WARNING, f"{path}: {plural(len(repeated), 'repeated row')} dropped\n{shorten(repeated)}"
        )
    if other_boxes:
        message = f"{plural(len(other_boxes), 'row')} dropped for naming the photograph of an earlier row ({NO_BOXES})"
        log_once(logger, logging.WARNING, f"{path}: {message}\n{shorten(other_boxes)}")
    return list(first.values())


def _problems(photos: list[Photo]) -> list[str]:
    """List the rows with an unknown split, and the test photographs without an identity."""
    has_splits = any(photo.split for photo in photos)
    problems = []
    for photo in photos:
        if has_splits and photo.split not in SPLITS:
            problems.append(f"{photo.where}: split {photo.split or ''!r} is not one of {', '.join(SPLITS)}")
        elif photo.split in SPLITS[1:] and photo.identity is None:
            needs = "need an identity; without one they can only be for training"
            problems.append(f"{photo.where}: {photo.split} photographs {needs}")
    return problems
