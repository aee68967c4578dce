"""What local matches of many photographs will take, by trying a few."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import torch

from ..data.images import UnreadableImage
from .candidates import FLAT, PROBES, QUERIES, cells_of, descriptor_candidates
from .features import DEFAULT, LocalFeatures, Settings, extract
from .match import verified_matches
from .pairs import CANDIDATES, EXTRA, verifying

TRIED = 16  # photographs
SEARCHED = 4  # times the memory of the keypoints that is held while they are searched


class LocalCost(NamedTuple):
    """Upper bounds of the seconds (for all photographs, on PyTorch's threads) and of the bytes.

    A pair that was verified is not verified again, so `matches` are nearly all of the first epoch of a training.
    """

    keypoints: float
    matches: float
    bytes: int


def local_cost(paths: Sequence[str], photographs: int, k1: int, settings: Settings = DEFAULT) -> LocalCost:
    """Try some of the paths, and scale to a number of photographs.

    The search of descriptors grows with what it compares (see `comparisons`), all else with the photographs.
    Photographs that cannot be read are not tried.
    """
    tried = min(TRIED, len(paths))
    began = time.process_time()
    features = list(_readable([paths[n * len(paths) // tried] for n in range(tried)], settings))
    if not features:
        return LocalCost(0.0, 0.0, 0)
    extracted = time.process_time()
    descriptor_candidates(features, CANDIDATES)
    searched = time.process_time()
    pairs = [(a, b) for n, a in enumerate(features) for b in features[n + 1 :]]
    with verifying():  # as they are verified in earnest
        for pair in pairs:
            verified_matches(*pair)
    each = (time.process_time() - searched) / max(1, len(pairs))
    own = float(np.mean([len(f.points) for f in features]))
    found = (extracted - began) / len(features) * photographs
    grown = comparisons(photographs, own) / max(1.0, comparisons(len(features), own))
    verified = min(photographs * (k1 + EXTRA + CANDIDATES), photographs * (photographs - 1) / 2)
    size = sum(f.descriptors.nbytes + f.points.nbytes for f in features) / len(features)
    threads = torch.get_num_threads()
    return LocalCost(
        (found + (searched - extracted) * grown) / threads,
        each * verified / threads,
        round(SEARCHED * size * photographs),
    )


def _readable(paths: Sequence[str], settings: Settings) -> Iterator[LocalFeatures]:
    for path in paths:
        with suppress(UnreadableImage):  # whoever needs its keypoints says so
            yield extract(path, settings)


def comparisons(photographs: int, own: float) -> float:
    """How often descriptors are compared, with others and with centres of cells, if a photograph has `own` of them."""
    number, asked = photographs * own, photographs * min(own, QUERIES)
    if number <= FLAT:
        return asked * number
    cells = cells_of(int(number))
    return number * cells + asked * (cells + PROBES * number / cells)
