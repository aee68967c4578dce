"""Checks before training starts: every photograph decodes, and the required splits exist."""

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
import PIL

from ..errors import UserError
from ..files import replacing
from ..locks import exclusive_lock
from ..logs import FILE_ONLY, log_once
from ..machine import available_cores
from ..progress import Progress
from . import UNLABELLED, display_name, shorten
from .duplicates import warn_of_copies
from .images import READER_VERSION, UnreadableImage, read_image

logger = logging.getLogger(__name__)

LOADED_SPLITS = ("train", "query", "gallery")  # on the disk a "test" may stand for the last two
CHUNK = 512


class BadImage(NamedTuple):
    """A photograph that cannot be read, and why."""

    path: str
    problem: str


def preflight(
    needed: Sequence[tuple[object, Sequence[str]]],
    workers: int | None = None,
    on_bad_image: str = "stop",
    cache_dir: str | os.PathLike | None = None,
) -> list[BadImage]:
    """Decode every photograph once, to detect a bad one now and not in the middle of training.

    A good photograph is not decoded again until its size, its time or the version of Pillow changes. For this, one JSON
    file per data set in ``cache_dir`` keeps 16 characters per photograph. If it cannot be written, a warning is logged
    and everything is decoded at every start.

    Args:
        needed: fast-reid ``ImageDataset`` objects, each with the names of the splits that are needed: "train", "query"
            and "gallery".
        workers: decoding threads (Pillow decodes without Python's lock); by default one per core, at most 16.
        on_bad_image: "stop", or "skip" to remove bad photographs from the splits of these data sets and log them once
            (DATASETS.ON_BAD_IMAGE).
        cache_dir: by default ``$XDG_CACHE_HOME/fastreid_fancl`` or ``~/.cache/fastreid_fancl``.

    Returns:
        The removed photographs, in order; empty if all are good.

    Raises:
        ValueError: with "stop", if photographs are bad, all in one message; or if a split is empty or cannot be
            evaluated.
    """
    if on_bad_image not in ("stop", "skip"):
        raise UserError(f"DATASETS.ON_BAD_IMAGE must be 'stop' or 'skip', got {on_bad_image!r}")
    workers = workers or min(16, available_cores())
    bad = [image for dataset, splits in needed for image in _check_dataset(dataset, splits, workers, cache_dir)]
    bad = list(dict.fromkeys(bad))
    if bad:
        lines = shorten([f"{image.path}: {image.problem}" for image in bad], limit=20)
        if on_bad_image == "stop":
            raise UserError(
                f"{len(bad)} photographs cannot be read\n{lines}\nReplace them, remove them from the data set, or set "
                "DATASETS.ON_BAD_IMAGE to skip to leave them out."
            )
        log_once(logger, logging.WARNING, f"{len(bad)} photographs cannot be read and are left out\n{lines}")
    for dataset, splits in needed:
        drop(dataset, {image.path for image in bad})
        require(dataset, splits)
    warn_of_copies(needed)
    return bad


def drop(dataset, paths: set[str]) -> None:
    """Remove photographs from the splits of a data set."""
    for split in LOADED_SPLITS if paths else ():
        setattr(dataset, f"_{split}", [item for item in getattr(dataset, split) if item[0] not in paths])


def require(dataset, splits: Sequence[str]) -> None:
    """Check that a data set has the photographs that training ("train") or evaluation ("query", "gallery") needs.

    Raises:
        ValueError: if one of the splits is empty, or no query has a match in the gallery.
    """
    empty = [split for split in splits if not getattr(dataset, split)]
    if empty:
        counts = ", ".join(f"{split} {len(getattr(dataset, split))}" for split in LOADED_SPLITS)
        if "train" in empty:
            cure = "give some photographs the split train"
        else:
            cure = getattr(dataset, "no_test_reason", None) or (
                "evaluation needs identities, and a split test or query/gallery; without them leave it out of "
                "DATASETS.TESTS"
            )
        lacks = f"no {' and no '.join(empty)} photographs"
        raise UserError(f"data set {display_name(dataset)} has {lacks} ({counts}); {cure}")
    if "query" in splits and "gallery" in splits:
        require_matches(display_name(dataset), dataset)


def require_matches(name: str, test) -> None:
    """Check that at least one query has a match in the gallery.

    Args:
        name: name of the data set.
        test: a data set or a ``Protocol``, with a ``query`` and a ``gallery``.

    Raises:
        ValueError: if no query has a match in the gallery.
    """
    if len(unmatched_queries(test)) == len(test.query):
        raise UserError(
            f"data set {name}: no query has a gallery photograph of its identity from another camera (another sequence "
            "where the split is test), so nothing can be scored; check the columns identity, split, camera and sequence"
        )


def require_identities(dataset) -> None:
    """Check that every training photograph has an identity, as supervised training needs.

    Raises:
        ValueError: if some have none; the message gives their number.
    """
    unknown = [path for path, pid, _ in dataset.train if pid == UNLABELLED]
    if unknown:
        raise UserError(
            f"data set {display_name(dataset)}: {len(unknown)} of {len(dataset.train)} training photographs have no "
            f"identity\n{shorten(unknown)}\nLabel them, or train an unsupervised method."
        )


def unmatched_queries(dataset) -> list[str]:
    """Return the queries without a gallery photograph of their identity from another camera (or sequence).

    They cannot be scored.
    """
    cameras: dict[int, set[int]] = {}
    for _, pid, camid in dataset.gallery:
        cameras.setdefault(pid, set()).add(camid)
    return [path for path, pid, camid in dataset.query if not cameras.get(pid, set()) - {camid}]


def _check_dataset(dataset, splits: Sequence[str], workers: int, cache_dir: str | os.PathLike | None) -> list[BadImage]:
    paths = list(dict.fromkeys(item[0] for split in splits for item in getattr(dataset, split)))
    if not paths:
        return []
    cache = _cache_path(dataset, cache_dir)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # _save reports a place that cannot be written
            stack.enter_context(exclusive_lock(f"{cache}.lock"))  # the first of several ranks decodes for all
        return _check_paths(display_name(dataset), paths, cache, workers)


def _check_paths(name: str, paths: list[str], cache: str, workers: int) -> list[BadImage]:
    good = _load(cache)
    stamps = {path: stamp(path) for path in paths}
    unseen = [path for path in paths if stamps[path] is None or stamps[path] not in good]
    bad: list[BadImage] = []
    try:
        for path, problem in _decode_all(name, unseen, workers):
            if problem:
                bad.append(BadImage(path, problem))
            else:
                good.add(stamps[path])
    finally:  # an interrupted check continues where it stopped
        if unseen:
            _save(cache, good)
    return bad


def _decode_all(name: str, paths: list[str], workers: int) -> Iterable[tuple[str, str]]:
    """Yield (path, problem or "") in order, and show the progress."""
    began, rest = time.monotonic(), iter(paths)
    checking = Progress(f"Checking {name}", len(paths), "photographs")
    with ThreadPoolExecutor(workers) as pool, checking as progress:
        while chunk := list(islice(rest, CHUNK)):
            yield from zip(chunk, pool.map(_problem, chunk), strict=True)
            progress.advance(len(chunk))
    if paths:
        seconds = time.monotonic() - began
        logger.info("Checked %d photographs of %s in %.1f s", len(paths), name, seconds, extra=FILE_ONLY)


def _problem(path: str) -> str:
    try:
        read_image(path)
    except UnreadableImage as error:
        return error.problem
    return ""


def stamp(path: str) -> str | None:
    """Hash what identifies a version of a file: path, size, time and the versions of the readers; None if missing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    key = f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}\0{PIL.__version__}\0{READER_VERSION}"
    return hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def cache_folder() -> str:
    """Return the folder for files that can be made again: ``$XDG_CACHE_HOME/fastreid_fancl`` or ``~/.cache/...``."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(home, "fastreid_fancl")


def _cache_path(dataset, cache_dir: str | os.PathLike | None) -> str:
    """Return the cache file of a data set, one for each name and place on disk."""
    cache_dir = cache_dir or cache_folder()
    folders = {os.path.dirname(os.path.abspath(item[0])) for split in LOADED_SPLITS for item in getattr(dataset, split)}
    digest = hashlib.blake2b(os.path.commonpath(folders).encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in display_name(dataset))
    return os.path.join(cache_dir, f"decoded-{safe}-{digest}.json")


def _load(path: str) -> set[str]:
    try:
        with open(path, encoding="ascii") as file:
            return set(json.load(file)["good"])
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError) as error:
        log_once(logger, logging.WARNING, f"{path} cannot be used ({error}); all photographs are checked again")
        return set()


def _save(path: str, good: set[str]) -> None:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with replacing(path) as temporary, open(temporary, "w", encoding="ascii") as file:
            json.dump({"good": sorted(good)}, file)
    except OSError as error:
        log_once(logger, logging.WARNING, f"{path} cannot be written ({error}); photographs are checked at every start")


def check_items(items: list, relabel: bool) -> None:
    """Check the (path, pid, camid) of a training set (`relabel`) or of a query and gallery.

    Raises:
        ValueError: if there are no images, if a training set mixes text and numbers, or if a test set has anything
            other than Python integers.
    """
    split = "training" if relabel else "query and gallery"
    if not items:
        raise UserError(f"Expected at least one {split} image, got none: check the split of the data set.")
    for column, name in ((1, "pid"), (2, "camid")):
        expected = (str if isinstance(items[0][column], str) else (int, np.integer)) if relabel else int
        wrong = next((item for item in items if not isinstance(item[column], expected)), None)
        if wrong is not None:
            kind = "either text or integers throughout" if relabel else "a Python int"
            raise UserError(
                f"Expected as {name} of the {split} images {kind}, got {wrong[column]!r} "
                f"({type(wrong[column]).__name__}) for {wrong[0]}: convert it in the data set."
            )
