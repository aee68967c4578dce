"""What local matches of many photographs will take, by trying a few."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .candidates import FLAT, PROBES, QUERIES, cells_of, descriptor_candidates
from .features import DEFAULT, Settings, extract
from .match import verified_matches
from .pairs import CANDIDATES, EXTRA, verifying

TRIED = 16  # photographs
SEARCHED = 4  # times the memory of the keypoints that is held while they are searched


class LocalCost(NamedTuple):
    """Seconds of processor time of all photographs, once and per epoch at most; bytes at most."""

    keypoints: float
    matches: float
    bytes: int


def local_cost(paths: Sequence[str], photographs: int, k1: int, settings: Settings = DEFAULT) -> LocalCost:
    """Try some of the paths, and scale to a number of photographs.

    The search of descriptors grows with what it compares (see `comparisons`), all else with the photographs. A pair
    that was verified costs nothing in later epochs, so the first epoch is the dearest.
    """
    chosen = [paths[n * len(paths) // min(TRIED, len(paths))] for n in range(min(TRIED, len(paths)))]
    began = time.process_time()
    features = [extract(path, settings, digest=str(n)) for n, path in enumerate(chosen)]
    extracted = time.process_time()
    descriptor_candidates(features, CANDIDATES)
    searched = time.process_time()
    pairs = [(a, b) for n, a in enumerate(features) for b in features[n + 1 :]]
    with verifying():  # as they are verified in earnest
        for pair in pairs:
            verified_matches(*pair)
    each = (time.process_time() - searched) / max(1, len(pairs))
    own = float(np.mean([len(f.points) for f in features]))
    once = (extracted - began) / len(chosen) * photographs
    grown = comparisons(photographs, own) / max(1.0, comparisons(len(chosen), own))
    verified = min(photographs * (k1 + EXTRA + CANDIDATES), photographs * (photographs - 1) / 2)
    size = sum(f.descriptors.nbytes + f.points.nbytes for f in features) / len(chosen)
    return LocalCost(once + (searched - extracted) * grown, each * verified, round(SEARCHED * size * photographs))


def comparisons(photographs: int, own: float) -> float:
    """How often descriptors are compared, with others and with centres of cells, if a photograph has `own` of them."""
    number, asked = photographs * own, photographs * min(own, QUERIES)
    if number <= FLAT:
        return asked * number
    cells = cells_of(int(number))
    return number * cells + asked * (cells + PROBES * number / cells)
