"""Keypoints of what stays where it is: rocks, trunks, and the bars of text that camera traps write into photographs.

Shapes: n and m keypoints of two photographs.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from .features import UNIT, LocalFeatures

COMPARED = 16  # photographs of other sequences of its station that one is compared with
PLACE = 0.01  # of a photograph's longer side, between two keypoints at one place
ALIKE = 0.9  # cosine of two descriptors of one thing
SHARE = 0.25  # of the photographs compared, in which a keypoint of the background is
FEWEST = 2  # of them


def without_background(
    features: Sequence[LocalFeatures], stations: Sequence[str | None], sequences: Sequence[str | None]
) -> list[LocalFeatures]:
    """Leave out the keypoints that `foreground` does not choose."""
    return [one.keep(chosen) for one, chosen in zip(features, foreground(features, stations, sequences), strict=True)]


def foreground(
    features: Sequence[LocalFeatures], stations: Sequence[str | None], sequences: Sequence[str | None]
) -> list[np.ndarray]:
    """Which keypoints do not repeat within a station, as the same descriptor at the same place in other sequences.

    Photographs of one sequence are not compared, as an animal may sit still in it. One that stays where it is over
    several sequences loses keypoints all the same: stations rarely have more than two or three sequences that show one
    background in one light, so a stricter rule would keep nearly all of it.

    Args:
        features: of N photographs.
        stations: of N photographs; None where it is not known, and nothing is left out.
        sequences: of N photographs; None where it is not known, and the photograph counts as a sequence of its own.

    Returns:
        N arrays of booleans, one for each keypoint.
    """
    groups = defaultdict(list)
    for n in sorted(range(len(features)), key=lambda n: features[n].digest):
        if stations[n] is not None:
            groups[stations[n]].append(n)
    kept = [np.ones(len(one.points), dtype=bool) for one in features]
    names = [n if sequence is None else sequence for n, sequence in enumerate(sequences)]
    for members in groups.values():
        mates = defaultdict(list)  # places in `members`
        for place, n in enumerate(members):
            mates[names[n]].append(place)
        for n in members:
            compared = [features[members[place]] for place in spread(len(members), mates[names[n]])]
            repeated = sum(
                (is_in(features[n], other).astype(int) for other in compared), np.zeros(len(features[n].points))
            )
            kept[n] = repeated < max(FEWEST, SHARE * len(compared))
    return kept


def spread(number: int, left_out: Sequence[int]) -> list[int]:
    """At most COMPARED of the numbers below `number` that are not left out, evenly spaced, in ascending order."""
    others = number - len(left_out)
    count = min(COMPARED, others)
    ranks = np.arange(count) * others // max(1, count)
    # What is left out comes before the other of rank r if no more than r others come before it.
    before = np.asarray(left_out, dtype=np.int64) - np.arange(len(left_out))
    return (ranks + np.searchsorted(before, ranks, side="right")).tolist()


def is_in(a: LocalFeatures, b: LocalFeatures) -> np.ndarray:
    """(n,) booleans: whether each keypoint of one photograph has the same descriptor at the same place in another."""
    if not len(a.points) or not len(b.points):
        return np.zeros(len(a.points), dtype=bool)
    left, top, right, bottom = a.box
    shape = np.array(a.size) / (right - left, bottom - top)
    (x, y), (other_x, other_y) = (one.places.T * (shape / shape.max())[:, None] for one in (a, b))
    near = (x[:, None] - other_x) ** 2 + (y[:, None] - other_y) ** 2 <= PLACE**2
    first, second = np.nonzero(near)
    products = np.einsum("pw,pw->p", a.descriptors[first].astype(np.float32), b.descriptors[second].astype(np.float32))
    repeated = np.zeros(len(a.points), dtype=bool)
    repeated[first[products >= ALIKE * UNIT**2]] = True
    return repeated
