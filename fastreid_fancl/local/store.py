"""Keypoints of many photographs, found once for all runs: a file for each photograph and settings."""

import hashlib
import logging
import os
import time
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from ..data.check import cache_folder
from ..data.images import READER_VERSION, open_regular
from ..files import replacing
from ..logs import log_once
from .features import DEFAULT, Box, LocalFeatures, Settings, extract

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_REPORTS = 10
CHUNK = 64  # photographs between two looks at the clock


def local_features(
    paths: Sequence[str],
    settings: Settings = DEFAULT,
    boxes: Sequence[Box | None] | None = None,
    folder: str | os.PathLike | None = None,
) -> list[LocalFeatures]:
    """The keypoints of photographs, from the cache where they are in it.

    Args:
        paths: N paths.
        settings: of `extract`.
        boxes: N boxes of `extract`; None for whole photographs.
        folder: of the cache; by default `local` in that of `check.cache_folder`. A photograph takes about 80 KB.

    Raises:
        UnreadableImage: (a UserError) as `read_image`.
    """
    folder = Path(folder or Path(cache_folder(), "local"))
    jobs = list(zip(paths, boxes or [None] * len(paths), strict=True))
    digests = [digest_of(path, box, settings) for path, box in jobs]
    first = dict(zip(reversed(digests), reversed(jobs), strict=True))  # copies of a photograph are one file
    known: dict[str, LocalFeatures] = {}
    began = reported = time.perf_counter()

    def find(digest: str) -> LocalFeatures:
        return _load_or_extract(folder, digest, *first[digest], settings)

    # As many threads as PyTorch uses: OpenCV and Pillow work outside Python's lock.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        wanted = list(first)
        for start in range(0, len(wanted), CHUNK):
            part = wanted[start : start + CHUNK]
            known.update(zip(part, pool.map(find, part), strict=True))
            if time.perf_counter() - reported > SECONDS_BETWEEN_REPORTS:
                reported = time.perf_counter()
                left = (reported - began) / len(known) * (len(wanted) - len(known))
                logger.info("Keypoints: %d of %d photographs, %.0f s left", len(known), len(wanted), left)
    return [known[digest] for digest in digests]


def digest_of(path: str | os.PathLike, box: Box | None, settings: Settings) -> str:
    """What keypoints are known by: the file's bytes, the box, the settings, and the version of what reads the file."""
    with open_regular(path) as file:
        content = hashlib.blake2b(file.read(), digest_size=16)
    content.update(repr((box, settings, READER_VERSION)).encode())
    return content.hexdigest()


def _load_or_extract(folder: Path, digest: str, path: str, box: Box | None, settings: Settings) -> LocalFeatures:
    file = folder / digest[:2] / f"{digest}.npz"
    try:
        with np.load(file) as stored:
            return LocalFeatures(stored["points"], stored["descriptors"], tuple(stored["size"].tolist()), digest)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        if not isinstance(error, FileNotFoundError):
            log_once(logger, logging.WARNING, f"{file} is damaged ({error}); its keypoints are found again")
    features = extract(path, settings, box, digest=digest)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, points=features.points, descriptors=features.descriptors, size=np.array(features.size))
    except OSError as error:
        log_once(logger, logging.WARNING, f"{folder} cannot be written ({error}); keypoints are found in each run")
    return features
