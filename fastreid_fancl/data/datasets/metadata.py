"""Data sets that a metadata.csv describes."""

import csv
import difflib
import io
import logging
import os
from collections import defaultdict
from collections.abc import Iterator

from ...logs import log_once
from .. import shorten
from ..images import open_regular
from .photos import LAYOUT, NO_IDENTITY, SPLITS, Photo

logger = logging.getLogger(__name__)

COLUMNS = ("path", "identity", "split", "camera", "orientation")


def read_metadata(path: str) -> list[Photo]:
    """Read a metadata.csv: comma, semicolon or tab; UTF-8, UTF-16 with a mark, or Windows-1252.

    Column names may be in any letter case, further columns are ignored. Identities and cameras that are empty,
    "unknown" or "unlabelled" are not known. A row that repeats another is dropped with a warning.

    Raises:
        ValueError: no path column, or rows that cannot be used, with their line numbers.
    """
    rows = _rows(path)
    columns = _columns(path, next(rows, (1, []))[1])
    photos, problems = [], []
    for line, row in rows:
        where = f"{os.path.basename(path)} line {line}"
        if len(row) != len(columns):
            problems.append(f"{where}: {len(row)} fields, but the header has {len(columns)} (quote fields with commas)")
            continue
        fields = {name: value.strip() for name, value in zip(columns, row, strict=True)}
        photos.append(_photo(os.path.dirname(path), fields, where))
    photos = _drop_repeated(path, photos, problems)
    problems += _problems(photos)
    if problems:
        raise ValueError(
            f"{path}: {len(problems)} problems\n{shorten(problems)}\n"
            f"Correct or remove these rows; paths are relative to {os.path.dirname(path)}."
        )
    return photos


def _rows(path: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each line that is not blank."""
    text = _decode(path)
    header = text.lstrip().split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            if any(field.strip() for field in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{path} line {reader.line_num} is not CSV: {error}; save the table again as CSV") from error


def _decode(path: str) -> str:
    try:
        with open_regular(path) as file:
            data = file.read()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error}): expected a table in a file") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        message = f"{path} line {line} is not UTF-8; read as Windows-1252. Save it as UTF-8 if names look wrong"
        log_once(logger, logging.WARNING, message)
        return data.decode("cp1252", errors="replace")


def _columns(path: str, header: list[str]) -> list[str]:
    """The column names in lower case; logs those ignored, warns of those that look like a misspelling."""
    columns = [name.strip().lower() for name in header]
    if "path" not in columns:
        raise ValueError(f"{path} needs a column named path, got {', '.join(columns) or 'no columns'}. {LAYOUT}")
    repeated = [name for name in COLUMNS if columns.count(name) > 1]
    if repeated:
        raise ValueError(f"{path} has more than one column named {', '.join(repeated)}; keep one")
    for name in columns:
        likely = difflib.get_close_matches(name, [known for known in COLUMNS if known not in columns], n=1)
        if name not in COLUMNS and likely:
            message = f"{path}: column {name!r} is ignored; rename it if it is meant to be {likely[0]!r}"
            log_once(logger, logging.WARNING, message)
    return columns


def _photo(folder: str, fields: dict[str, str], where: str) -> Photo:
    path = fields["path"]
    if "\\" in path and not os.path.exists(os.path.join(folder, path)):
        path = path.replace("\\", "/")  # written on Windows
    identity, camera = fields.get("identity", ""), fields.get("camera", "")
    return Photo(
        path=os.path.normpath(os.path.join(folder, path)) if path else "",
        identity=None if identity.lower() in NO_IDENTITY else identity,
        split=fields.get("split", "").lower() or None,
        camera=None if camera.lower() in NO_IDENTITY else camera,
        orientation=fields.get("orientation") or None,
        where=where,
    )


def _drop_repeated(path: str, photos: list[Photo], problems: list[str]) -> list[Photo]:
    """Keep the first of rows that say the same; rows that contradict each other become problems."""
    first: dict[str, Photo] = {}
    repeated = []
    for photo in photos:
        earlier = first.setdefault(photo.path, photo)
        if earlier is photo or not photo.path:
            continue
        different = [n for n in COLUMNS[1:] if getattr(photo, n) != getattr(earlier, n)]
        if different:
            problems.append(f"{photo.where}: same photograph as {earlier.where}, but another {' and '.join(different)}")
        else:
            repeated.append(f"{photo.where}, as {earlier.where}")
    if repeated:
        log_once(logger, logging.WARNING, f"{path}: {len(repeated)} repeated rows dropped\n{shorten(repeated)}")
    return list(first.values())


def _problems(photos: list[Photo]) -> list[str]:
    """What is wrong with each row: empty path, unknown split, test photograph without identity, missing file."""
    has_splits = any(photo.split for photo in photos)
    missing = _missing([photo.path for photo in photos if photo.path])
    problems = []
    for photo in photos:
        if not photo.path:
            problems.append(f"{photo.where}: the path is empty")
        elif photo.path in missing:
            problems.append(f"{photo.where}: no file {photo.path}{missing[photo.path]}")
        if has_splits and photo.split not in SPLITS:
            problems.append(f"{photo.where}: split {photo.split or ''!r} is none of {', '.join(SPLITS)}")
        elif photo.split in SPLITS[1:] and photo.identity is None:
            needs = "need an identity; without one they can only be for training"
            problems.append(f"{photo.where}: {photo.split} photographs {needs}")
    return problems


def _missing(paths: list[str]) -> dict[str, str]:
    """The paths without a file, each with a hint. Lists each folder once: quicker than a million look-ups."""
    by_folder = defaultdict(list)
    for path in paths:
        by_folder[os.path.dirname(path)].append(path)
    missing = {}
    for folder, inside in by_folder.items():
        try:
            present = set(os.listdir(folder or "."))
        except OSError:
            present = set()
        lower = {name.lower(): name for name in present}
        for path in inside:
            name = os.path.basename(path)
            if name not in present:
                other = lower.get(name.lower())
                missing[path] = f" (there is {other}: letter case matters)" if other else ""
    return missing
