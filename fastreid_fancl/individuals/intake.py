"""From a folder of photographs to rows: content, time, station, camera, sequence, season. Nothing is computed yet."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from PIL.ExifTags import IFD, Base

from ..data.datasets.names import is_hidden
from ..data.datasets.sequences import GAP_SECONDS
from ..data.datasets.tree import SUFFIXES
from ..data.images import open_header, open_regular
from ..errors import UserError
from ..escape import visible
from ..files import content_hash, write_text
from .rows import Photograph
from .sequences import with_sequences
from .stations import station_level, with_stations
from .storage import table_text

LEFT_OUT = "left_out.csv"
LINK = "a link to a folder is not followed; put the folder in its place, or give it by --photos and the same --season"
EXIF_MOMENT = re.compile(r"(\d{4}):(\d\d):(\d\d)[ T](\d\d):(\d\d):(\d\d)")
NAMED_MOMENT = re.compile(
    r"(?<!\d)((?:19|20)\d\d)[-_.]?(\d\d)[-_.]?(\d\d)[-_. T]{1,3}(\d\d)[-_.h]?(\d\d)[-_.m]?(\d\d)(?!\d)"
)


@dataclass
class Intake:
    """What lies in a folder.

    Attributes:
        photographs: a row for each; those of equal content once.
        left_out: name -> reason.
        notes: what was found out, in sentences for the summary.
        level: of the folders that are stations, 0 for none.
    """

    photographs: list[Photograph] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    level: int = 0


@dataclass(frozen=True)
class LeftOut:
    """A row of left_out.csv: a file that is not used, and why."""

    path: str
    reason: str


def read_folder(
    root: Path, season: str, stations: int | None = None, gap: float = GAP_SECONDS, project: Path | None = None
) -> Intake:
    """Read what the photographs below a folder say of themselves.

    Args:
        root: the folder.
        season: name of what is added.
        stations: the level of folders that are stations: 1 for those that lie in `root`, 0 for none; None to find out.
        gap: seconds between successive photographs of one sequence.
        project: the folder of the project to which they are added; it may not be written yet, and have crops already.

    Raises:
        ValueError: if there is no such folder, it is a project, has no photograph, or has no such level.
    """
    if not root.is_dir():
        what = "that is a file" if root.exists() else "there is no such folder"
        raise UserError(f"Expected a folder of photographs, got {visible(root)}: {what}.")
    own = "" if project is None else os.path.realpath(project)
    if _is_project(root, own):
        raise UserError(
            f"Expected a folder of photographs, got {visible(root)}: it is a project of `fancl discover`, which "
            "needs a folder of its own."
        )
    root, intake = Path(os.path.abspath(root)), Intake()
    with ThreadPoolExecutor(4) as pool:
        paths = _files(root, intake, own)
        facts = dict(zip(paths, pool.map(_facts, [root / path for path in paths]), strict=True))
    rows = [
        replace(fact, path=unicodedata.normalize("NFC", path), root=os.fspath(root), season=season)
        for path, fact in facts.items()
        if isinstance(fact, Photograph)
    ]
    intake.left_out |= {path: fact for path, fact in facts.items() if isinstance(fact, str)}
    if not rows:
        shown = "".join(f"\n  {visible(name)}: {reason}" for name, reason in list(intake.left_out.items())[:10])
        raise UserError(f"There are no photographs in {visible(root)}: expected some of {', '.join(SUFFIXES)}.{shown}")
    intake.level = station_level(rows) if stations is None else stations
    rows = with_stations(rows, intake.level, stations is not None)
    intake.photographs = with_sequences(_without_copies(rows, intake), gap)
    return intake


def write_left_out(folder: Path, left_out: Mapping[str, str]) -> None:
    """Write all files that were left out into a project's folder; without any, remove the table of an earlier time."""
    rows = [LeftOut(*one) for one in sorted(left_out.items())]
    if rows:
        write_text(folder / LEFT_OUT, table_text(rows, LeftOut))
    else:
        (folder / LEFT_OUT).unlink(missing_ok=True)


def _files(root: Path, intake: Intake, own: str) -> list[str]:
    """Paths of photographs relative to a folder, in the order of their names; others are left out with a reason."""
    paths: list[str] = []
    others: Counter[str] = Counter()
    for here, folders, names in os.walk(root, onerror=lambda error: _unreadable(error, root, intake)):
        if _is_project(Path(here), own):
            intake.notes.append(f"The folder {visible(os.path.relpath(here, root))} is a project and is left out.")
            folders[:] = []
            continue
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for link in (path for name in folders if os.path.islink(path := os.path.join(here, name))):
            intake.left_out[os.path.relpath(link, root)] = LINK
        for name in sorted(name for name in names if not is_hidden(name)):
            path = os.path.relpath(os.path.join(here, name), root).replace(os.sep, "/")
            if not name.lower().endswith(SUFFIXES):
                others[os.path.splitext(name)[1].lower() or name] += 1
            elif visible(path) != path:
                intake.left_out[path] = "its name has characters that no table can hold; rename it"
            else:
                paths.append(path)
    if others:
        kinds = ", ".join(f"{kind} ({number})" for kind, number in others.most_common(10))
        intake.notes.append(f"Files of other types are not used: {kinds}.")
    return sorted(paths)


def _is_project(folder: Path, own: str) -> bool:
    """Whether a folder is a project, such as the own one, whose pictures and crops are no photographs to add."""
    written = all((folder / name).exists() for name in ("project.json", "photographs.csv"))
    return written or os.path.realpath(folder) == own


def _unreadable(error: OSError, root: Path, intake: Intake) -> None:
    intake.left_out[os.path.relpath(error.filename, root)] = f"the folder cannot be read ({error.strerror})"


def _facts(file: Path) -> Photograph | str:
    """What a file says of itself, or why it cannot be read."""
    try:
        with open_regular(file) as opened:
            content = content_hash(opened)
            opened.seek(0)
            moment, camera = _exif(opened)
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"
    source = "exif" if moment else "none"
    if not moment and (moment := _named_moment(file.name)):
        source = "file name"
    return Photograph(
        content[:16], content, file.name, camera=camera, date_time=moment, date_time_source=source, status="unsure"
    )


def _exif(opened: BinaryIO) -> tuple[str, str]:
    """The local time at which a photograph was taken, and the camera's serial number; empty if not known."""
    try:
        with open_header(opened) as image:
            exif = image.getexif()
            own = exif.get_ifd(IFD.Exif)
            texts = [str(own.get(tag) or "") for tag in (Base.DateTimeOriginal, Base.DateTimeDigitized)]
            camera = str(own.get(Base.BodySerialNumber) or "").strip(" \0")
    except Exception:  # Pillow's readers raise nearly anything; whether it is a photograph shows when it is encoded
        return "", ""
    moments = [moment for text in texts if (moment := _moment(EXIF_MOMENT.match(text)))]
    return (moments or [""])[0], "".join(char for char in camera if visible(char) == char)


def _named_moment(name: str) -> str:
    return _moment(NAMED_MOMENT.search(name))


def _moment(match: re.Match | None) -> str:
    """ISO 8601 of six numbers; empty if they are no moment."""
    try:
        if match is None:
            return ""
        year, month, day, hour, minute, second = map(int, match.groups())
        return datetime(year, month, day, hour, minute, second).isoformat()
    except ValueError:
        return ""


def _without_copies(rows: list[Photograph], intake: Intake) -> list[Photograph]:
    """The first of photographs that are equal byte for byte."""
    first: dict[str, Photograph] = {}
    for row in rows:
        if first.setdefault(row.key, row) is not row:
            intake.left_out[row.path] = f"the same photograph as {first[row.key].path}"
    return list(first.values())
