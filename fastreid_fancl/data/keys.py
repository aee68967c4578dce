"""What a photograph is known by, wherever the data sets lie and whichever others there are."""

import hashlib
import os
from collections.abc import Iterable

import numpy as np


def image_keys(paths: Iterable[str]) -> np.ndarray:
    """(N,) uint64, hashes of the paths below the folder of the data sets, so of a data set's name and what follows.

    Args:
        paths: of photographs. What lies elsewhere is known by its whole path.
    """
    # fast-reid's own rule, and that of `datasets_root`.
    root = os.path.join(os.path.abspath(os.environ.get("FASTREID_DATASETS") or "datasets"), "")
    names = (os.path.abspath(path).removeprefix(root).replace(os.sep, "/") for path in paths)
    digests = b"".join(hashlib.blake2b(os.fsencode(name), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
