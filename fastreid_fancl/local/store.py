"""Keypoints of many photographs, found once for all runs: a file for each photograph and settings."""

import hashlib
import logging
import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from ..data.check import cache_folder
from ..data.images import READER_VERSION, UnreadableImage, open_regular
from ..files import write_arrays
from ..logs import log_once
from ..progress import Progress
from .features import DEFAULT, WHOLE, Box, LocalFeatures, Settings, extract, nothing

logger = logging.getLogger(__name__)

CHUNK = 64  # photographs between two reports


def local_features(
    paths: Sequence[str],
    settings: Settings = DEFAULT,
    boxes: Sequence[Box | None] | None = None,
    folder: str | os.PathLike | None = None,
    contents: Sequence[str] | None = None,
    problems: dict[int, str] | None = None,
) -> list[LocalFeatures]:
    """The keypoints of photographs, from the cache where they are in it.

    Args:
        paths: N paths.
        settings: of `extract`.
        boxes: N boxes of `extract`; None for whole photographs.
        folder: of the cache; by default `local` in that of `check.cache_folder`. A photograph takes about 80 KB.
        contents: N hashes of the files' contents, where they are known: what is in the cache is then not read.
        problems: takes the number and the problem of each photograph that cannot be read; it has no keypoints.

    Raises:
        UnreadableImage: (a UserError) as `read_image`, without `problems`.
    """
    folder = Path(folder or Path(cache_folder(), "local"))
    jobs = list(zip(paths, boxes or [None] * len(paths), strict=True))
    digests = [
        digest_of(path, box, settings, content)
        for (path, box), content in zip(jobs, contents or [None] * len(paths), strict=True)
    ]
    first = dict(zip(reversed(digests), reversed(jobs), strict=True))  # copies of a photograph are one file
    known: dict[str, LocalFeatures] = {}
    failed: dict[str, str] = {}

    def find(digest: str) -> LocalFeatures:
        try:
            return _load_or_extract(folder, digest, *first[digest], settings)
        except UnreadableImage as error:
            if problems is None:
                raise
            failed[digest] = error.problem or str(error)
            return nothing(digest)

    # As many threads as PyTorch uses: OpenCV and Pillow work outside Python's lock.
    wanted = list(first)
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool, Progress("Keypoints", len(wanted), "photographs") as progress:
        for start in range(0, len(wanted), CHUNK):
            part = wanted[start : start + CHUNK]
            known.update(zip(part, pool.map(find, part), strict=True))
            progress.advance(len(part))
    if problems is not None:
        problems |= {n: failed[digest] for n, digest in enumerate(digests) if digest in failed}
    return [known[digest] for digest in digests]


def digest_of(path: str | os.PathLike, box: Box | None, settings: Settings, content: str | None = None) -> str:
    """The key under which keypoints are stored: a hash of the file's bytes, the box, the settings and READER_VERSION.

    If `content` (a hash of the file) is given, it replaces the bytes.
    """
    if content is None:
        try:
            with open_regular(path) as file:
                known = file.read()
        except OSError:
            known = os.fsencode(path)  # nothing is kept under it: whoever reads the photograph says what is wrong
    else:
        known = content.encode()
    digest = hashlib.blake2b(known, digest_size=16)
    where = box and ("shares of the box", *box)  # older files have places as shares of the photograph
    digest.update(repr((where, settings, READER_VERSION)).encode())
    return digest.hexdigest()


def _load_or_extract(folder: Path, digest: str, path: str, box: Box | None, settings: Settings) -> LocalFeatures:
    file = folder / digest[:2] / f"{digest}.npz"
    try:
        with np.load(file) as stored:
            own = tuple(stored["box"].tolist()) if "box" in stored else WHOLE
            return LocalFeatures(stored["points"], stored["descriptors"], tuple(stored["size"].tolist()), digest, own)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        if not isinstance(error, FileNotFoundError):
            log_once(logger, logging.WARNING, f"{file} is damaged ({error}); its keypoints are found again")
    features = extract(path, settings, box, digest=digest)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(
            file,
            points=features.points,
            descriptors=features.descriptors,
            size=np.array(features.size),
            box=np.array(features.box),
        )
    except OSError as error:
        log_once(logger, logging.WARNING, f"{folder} cannot be written ({error}); keypoints are found in each run")
    return features
