"""What a number of inliers says, learned from pairs that are known without labels.

Positives: burst-mates. Negatives: photographs of different stations at one moment, which cannot show one animal. Boxes
of one photograph are no negatives, as they may overlap and share spots. Changed copies of a photograph are no
positives: they share far more than two sightings of an animal do, and a mirrored one shows what the other flank does
not.
"""

import itertools
import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np

from ..data.datasets.sequences import shared_midnights

logger = logging.getLogger(__name__)

FEWEST = 50  # positives, and negatives
MOST = 2000  # of either
SURE = 20  # inliers of a pair that is certain by the rule of fixed weights
SECONDS = 60.0  # an animal is not at two stations within them
OTHERS = 8  # stations


class Curve(NamedTuple):
    """From values, in rising order, to probabilities that never fall: points joined by lines, flat beyond both ends."""

    values: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __call__(self, values):
        return np.interp(values, self.values, self.probabilities)


def isotonic_curve(values: Sequence[float], truth: Sequence[float], weights: Sequence[float] | None = None) -> Curve:
    """Isotonic regression of 0 and 1 on values (Zadrozny and Elkan, KDD 2002)."""
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(values, truth, sample_weight=weights)
    return Curve(tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()))


class Calibration:
    """Evidence by isotonic regression, in the place of log(1 + inliers).

    A pair that is certain by the known pairs weighs log(1 + SURE), what SURE inliers weigh without calibration. One
    that is as unlikely as a pair without inliers weighs nothing. In between the weight rises with the probability.
    """

    def __init__(self, positives: np.ndarray, negatives: np.ndarray):
        """
        Args:
            positives, negatives: (P,) inliers of pairs that show one animal, and that show two. Both count alike.
        """
        values = np.concatenate([positives, negatives])
        weights = np.repeat([1 / len(positives), 1 / len(negatives)], [len(positives), len(negatives)])
        truth = np.repeat([1.0, 0.0], [len(positives), len(negatives)])
        self.curve = isotonic_curve(np.log1p(values), truth, weights)
        self.least = float(self.curve(0))  # pairs that were not verified are no worse than those without inliers

    def __call__(self, inliers: np.ndarray) -> np.ndarray:
        """(P,) inliers -> (P,) evidence, never falling."""
        risen = (self.curve(np.log1p(inliers)) - self.least) / max(1 - self.least, 1e-12)
        return risen.clip(0, 1) * np.log1p(SURE)


def burst_mates(sequences: Sequence[str | None]) -> np.ndarray:
    """Pairs (P, 2) of photographs of one sequence, at most MOST of them, evenly from all."""
    groups = defaultdict(list)
    for n, sequence in enumerate(sequences):
        if sequence is not None:
            groups[sequence].append(n)
    return evenly([pair for name in sorted(groups) for pair in itertools.pairwise(groups[name])])


def simultaneous_pairs(stations: Sequence[str | None], moments: Sequence[datetime | None]) -> np.ndarray:
    """At most MOST pairs (P, 2), evenly chosen, of photographs from different stations within SECONDS.

    Each photograph is paired with the last ones of at most OTHERS other stations. Midnights that photographs share are
    dates without a time of day.
    """
    unknown = shared_midnights(moment for moment in moments if moment is not None)
    dated = sorted(
        (moment, n)
        for n, moment in enumerate(moments)
        if moment is not None and moment not in unknown and stations[n] is not None
    )
    pairs, last = [], {}
    for moment, n in dated:
        recent = itertools.islice((one for station, one in reversed(last.items()) if station != stations[n]), OTHERS)
        pairs += [(m, n) for before, m in recent if (moment - before).total_seconds() <= SECONDS]
        last.pop(stations[n], None)
        last[stations[n]] = moment, n
    return evenly(pairs)


def evenly(pairs: list[tuple[int, int]]) -> np.ndarray:
    """At most MOST of the pairs, evenly from the list, (P, 2)."""
    chosen = [pairs[n * len(pairs) // MOST] for n in range(MOST)] if len(pairs) > MOST else pairs
    return np.array(chosen, dtype=np.int64).reshape(-1, 2)


def calibration(inliers, positives: np.ndarray, negatives: np.ndarray) -> "Calibration | None":
    """A calibration where there are FEWEST known pairs of both kinds, else None; either is logged.

    Args:
        inliers: from pairs (P, 2) to their inliers (P,).
        positives, negatives: known pairs, each (P, 2).
    """
    counts = len(positives), len(negatives)
    if min(counts) < FEWEST:
        logger.info(
            "Local matches count by the fixed rule w log(1 + inliers): %d pairs are known to show one animal and %d to "
            "show two, and a calibration needs %d of each.",
            *(*counts, FEWEST),
        )
        return None
    logger.info("Local matches are calibrated by %d pairs that show one animal and %d that show two.", *counts)
    return Calibration(inliers(positives), inliers(negatives))
