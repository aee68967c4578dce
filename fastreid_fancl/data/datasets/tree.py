"""Data sets whose splits and identities are given by folders."""

import logging
import os
from collections import Counter
from collections.abc import Iterator

from ...errors import UserError
from ...logs import log_once
from .. import shorten
from .names import clean_name, has_break, is_guessed_missing, is_hidden
from .photos import LAYOUT, SPLITS, Photo

logger = logging.getLogger(__name__)

OTHER_SPLIT_NAMES = ("val", "valid", "validation", "probe")
SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".png",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".webp",
    ".avif",
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jfif"),
)


def read_folders(folder: str) -> list[Photo]:
    """Read photographs that are sorted into folders as in ``LAYOUT``.

    Sub-folders are identities only if there are several and every photograph is directly in one of them. Otherwise
    photographs without split folders are unlabelled; a warning tells if only few photographs prevent sub-folders from
    being identities. Hidden files and files of other types are skipped; the latter are counted in a warning.

    Raises:
        ValueError: if test, query or gallery photographs are not in the folder of an identity, or if a split has
            another name.
    """
    parts = list(_walk(folder))
    tops = {path[0] for path in parts if len(path) > 1}
    if any(top.lower() in SPLITS for top in tops):
        return _split_folders(folder, parts, tops)
    if len(tops) > 1 and all(len(path) == 2 for path in parts):
        message = f"{folder}: its {len(tops)} folders are used as identities; write a metadata.csv if they are not"
        log_once(logger, logging.INFO, message)
        return [_folder_photo(folder, path, path[0], None) for path in parts]
    _warn_of_strays(folder, parts)
    if parts:
        message = f"{folder}: its photographs are used as unlabelled; write a metadata.csv if their animals are known"
        log_once(logger, logging.INFO, message)
    return [_folder_photo(folder, path, None, "train") for path in parts]


def _warn_of_strays(folder: str, parts: list[tuple[str, ...]]) -> None:
    """Warn if several folders look like identities, but a few photographs elsewhere rule that out."""
    strays = [os.path.join(*path) for path in parts if len(path) != 2]
    tops = {path[0] for path in parts if len(path) == 2}
    if len(tops) > 1 and len(strays) < len(parts) / 2:
        message = (
            f"{len(tops)} folders look like identities, but all {len(parts)} photographs are used as unlabelled, "
            f"because {len(strays)} lie elsewhere, such as {strays[0]}; move or remove these, or write a metadata.csv"
        )
        log_once(logger, logging.WARNING, f"{folder}: {message}")


def _split_folders(folder: str, parts: list[tuple[str, ...]], tops: set[str]) -> list[Photo]:
    others = sorted(top for top in tops if top.lower() not in SPLITS)
    problems = [f"{top}/ is not a split" for top in others if top.lower() in OTHER_SPLIT_NAMES]
    problems += [
        f"{os.path.join(*path)} lies in no folder of an identity"
        for path in parts
        if path[0].lower() in SPLITS[1:] and (len(path) == 2 or len(path) > 2 and clean_name(path[1]) is None)
    ]
    if problems:
        raise UserError(f"{folder}: {len(problems)} problems\n{shorten(problems)}\n{LAYOUT}")
    inside = [path for path in parts if len(path) > 1 and path[0].lower() in SPLITS]
    if len(inside) < len(parts):
        splits = "train and test" if any(path[0].lower() == "test" for path in inside) else "train, query and gallery"
        ignored = f"{len(parts) - len(inside)} photographs outside {splits} are not used"
        places = ", ".join([*others[:10], *(["."] if any(len(path) == 1 for path in parts) else [])])
        log_once(logger, logging.WARNING, f"{folder}: {ignored} (in {places})")
    return [_folder_photo(folder, path, path[1] if len(path) > 2 else None, path[0].lower()) for path in inside]


def _folder_photo(folder: str, parts: tuple[str, ...], name: str | None, split: str | None) -> Photo:
    identity = None if name is None else clean_name(name)
    if name is not None and is_guessed_missing(name):
        message = (
            f"the photographs in the folder {name!r} count as unknown animals; rename the folder if this is a name"
        )
        log_once(logger, logging.WARNING, f"{folder}: {message}")
    return Photo(os.path.join(folder, *parts), identity, split, where=os.path.join(*parts))


def _walk(folder: str) -> Iterator[tuple[str, ...]]:
    """Yield the parts of the path of every photograph below ``folder``, sorted; follow links, but each folder once."""
    skipped: Counter[str] = Counter()
    seen = {os.path.realpath(folder)}
    for here, folders, files in os.walk(folder, followlinks=True, onerror=_raise_unreadable):
        folders[:] = sorted(f for f in folders if not is_hidden(f) and _is_new(os.path.join(here, f), seen))
        relative = os.path.relpath(here, folder)
        for name in sorted(files):
            if name.lower().endswith(SUFFIXES) and not is_hidden(name):
                _check_name(os.path.join(here, name))
                yield (*(relative.split(os.sep) if relative != "." else ()), name)
            elif not is_hidden(name):
                skipped[os.path.splitext(name)[1].lower() or name] += 1
    if skipped:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in skipped.most_common(10))
        log_once(logger, logging.WARNING, f"{folder}: files of other types are not used: {kinds}")


def _raise_unreadable(error: OSError) -> None:
    raise UserError(f"The folder {error.filename} cannot be read ({error.strerror}): make it readable, or move it.")


def _check_name(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UserError(f"The name of {path!r} is not UTF-8, so no table can hold it: rename it.") from None
    if has_break(path):
        raise UserError(f"The name of {path!r} has a line break, so no table can hold it: rename it.")


def _is_new(folder: str, seen: set[str]) -> bool:
    real = os.path.realpath(folder)
    if real in seen:
        return False
    seen.add(real)
    return True
