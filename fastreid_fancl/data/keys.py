"""Keys that identify photographs independently of where the data sets are and of which other photographs exist."""

import hashlib
import os
from collections.abc import Iterable

import numpy as np


def image_keys(paths: Iterable[str]) -> np.ndarray:
    """Hash the paths of photographs, relative to the folder of all data sets: (N,) uint64.

    Args:
        paths: paths of photographs. Outside the folder of all data sets, the absolute path is hashed.
    """
    # The same rule as in fast-reid and in `datasets_root`.
    root = os.path.join(os.path.abspath(os.environ.get("FASTREID_DATASETS") or "datasets"), "")
    names = (os.path.abspath(path).removeprefix(root).replace(os.sep, "/") for path in paths)
    digests = b"".join(hashlib.blake2b(os.fsencode(name), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
