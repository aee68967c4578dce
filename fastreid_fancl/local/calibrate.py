"""What a number of inliers says, learned from pairs that are known without labels.

Positives: burst-mates, and photographs with changed copies of themselves. Negatives: photographs of different stations
at one moment, which cannot show one animal. Boxes of one photograph are none, as they may overlap and share spots. A
mirrored copy is no positive: it shows what the animal's other flank does not.
"""

import itertools
import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..data.images import read_image
from .features import DEFAULT, Settings, extract_from
from .match import verified_matches

logger = logging.getLogger(__name__)

FEWEST = 50  # positives, and negatives
MOST = 2000  # of either
SURE = 20  # inliers of a pair that is certain by the rule of fixed weights
SECONDS = 60.0  # an animal is not at two stations within them


class Curve(NamedTuple):
    """From values, in rising order, to probabilities that never fall: points joined by lines, flat beyond both ends."""

    values: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __call__(self, values):
        return np.interp(values, self.values, self.probabilities)


def rising(values: Sequence[float], truth: Sequence[float], weights: Sequence[float] | None = None) -> Curve:
    """Isotonic regression of 0 and 1 on values (Zadrozny and Elkan, KDD 2002)."""
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(values, truth, sample_weight=weights)
    return Curve(tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()))


class Calibration:
    """Evidence by isotonic regression, the place of log(1 + inliers): probability x log(1 + SURE).

    So a pair that is certain by the known pairs weighs what SURE inliers weigh without calibration, and one whose
    inliers say nothing weighs nothing.
    """

    def __init__(self, positives: np.ndarray, negatives: np.ndarray):
        """
        Args:
            positives, negatives: (P,) inliers of pairs that show one animal, and that show two. Both count alike.
        """
        values = np.concatenate([positives, negatives])
        weights = np.repeat([1 / len(positives), 1 / len(negatives)], [len(positives), len(negatives)])
        truth = np.repeat([1.0, 0.0], [len(positives), len(negatives)])
        self.curve = rising(np.log1p(values), truth, weights)
        # 0 for the least that is known, so that pairs that were not verified are no worse than it.
        self.least = float(self.curve(0))

    def __call__(self, inliers: np.ndarray) -> np.ndarray:
        """(P,) inliers -> (P,) evidence, never falling."""
        probability = self.curve(np.log1p(inliers)) - self.least
        return probability.clip(0, 1) * np.log1p(SURE)


def copy_inliers(paths: Sequence[str], settings: Settings = DEFAULT) -> np.ndarray:
    """(P,) inliers of photographs with copies of themselves, turned by up to 15 degrees and cut to 80% to 95%."""
    inliers = []
    for n, path in enumerate(paths):
        image, rng = read_image(path), np.random.default_rng(n)
        turned = image.rotate(rng.uniform(-15, 15), Image.Resampling.BILINEAR)
        margin = (1 - rng.uniform(0.8, 0.95)) / 2
        box = (margin, margin, 1 - margin, 1 - margin)
        pair = extract_from(image, settings, digest="a"), extract_from(turned, settings, box, digest="b")
        inliers.append(len(verified_matches(*pair)))
    return np.array(inliers, dtype=np.int64)


def burst_mates(sequences: Sequence[str | None]) -> np.ndarray:
    """Pairs (P, 2) of photographs of one sequence, at most MOST of them, evenly from all."""
    groups = defaultdict(list)
    for n, sequence in enumerate(sequences):
        if sequence is not None:
            groups[sequence].append(n)
    return evenly([pair for name in sorted(groups) for pair in itertools.pairwise(groups[name])])


def apart(stations: Sequence[str | None], moments: Sequence[datetime | None]) -> np.ndarray:
    """Pairs (P, 2) of photographs of different stations within SECONDS, at most MOST of them, evenly from all."""
    dated = sorted((moments[n], n) for n in range(len(moments)) if moments[n] is not None and stations[n] is not None)
    pairs = []
    for place, (moment, n) in enumerate(dated):
        for later, m in dated[place + 1 :]:
            if (later - moment).total_seconds() > SECONDS:
                break
            if stations[n] != stations[m]:
                pairs.append((n, m))
    return evenly(pairs)


def evenly(pairs: list[tuple[int, int]]) -> np.ndarray:
    """At most MOST of the pairs, evenly from the list, (P, 2)."""
    chosen = [pairs[n * len(pairs) // MOST] for n in range(MOST)] if len(pairs) > MOST else pairs
    return np.array(chosen, dtype=np.int64).reshape(-1, 2)


def calibration(
    inliers, positives: np.ndarray, negatives: np.ndarray, copies: np.ndarray | None = None
) -> "Calibration | None":
    """A calibration where there are FEWEST known pairs of both kinds, else None; either is logged.

    Args:
        inliers: from pairs (P, 2) to their inliers (P,).
        positives, negatives: known pairs, each (P, 2).
        copies: (P,) inliers of photographs with changed copies of themselves.
    """
    copies = np.empty(0, dtype=np.int64) if copies is None else copies
    counts = len(positives) + len(copies), len(negatives)
    if min(counts) < FEWEST:
        logger.info(
            "Local matches count by the fixed rule w log(1 + inliers): %d pairs are known to show one animal and %d to "
            "show two, and a calibration needs %d of each.",
            *(*counts, FEWEST),
        )
        return None
    logger.info("Local matches are calibrated by %d pairs that show one animal and %d that show two.", *counts)
    return Calibration(np.concatenate([inliers(positives), copies]), inliers(negatives))
