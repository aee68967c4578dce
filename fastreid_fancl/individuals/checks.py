"""Do the groups follow stations, days or backgrounds rather than animals?

Shapes: N sequences, one photograph each.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.cluster.vq import kmeans2

from .rows import Photograph

PERMUTATIONS, BACKGROUNDS = 200, 8


class Association(NamedTuple):
    """How strongly the groups are associated with stations, days or backgrounds.

    Attributes:
        what: stations, days or backgrounds.
        share: mutual information above chance, as a share of its largest possible excess: 0 by chance, 1 if each group
            is of one station.
        chance: share of the permutations with at least as much.
    """

    what: str
    share: float
    chance: float

    @property
    def warns(self) -> bool:
        """Whether a person should look."""
        return self.share > 0.5 and self.chance < 0.01

    def __str__(self) -> str:
        if self.share <= 0:
            return f"Groups follow {self.what} no more than chance."
        text = (
            f"Groups follow {self.what}: {self.share:.0%}, where 0% is chance and 100% is one of the {self.what} for "
            f"each group (p {self.chance:.3f})."
        )
        if not self.warns:
            return text
        return (
            f"{text} Animals do keep to places and times, but features may see the {self.what} instead of the animal: "
            "crop by a detector (--boxes), and look at animals of one of them first."
        )


def association(groups: Sequence, others: Sequence, what: str, seed: int = 0) -> Association:
    """Mutual information of two labelings (N,) against that of permutations (as Vinh et al., 2010, by draws)."""
    one, other = (np.unique(np.asarray(labels), return_inverse=True)[1] for labels in (groups, others))
    rng = np.random.default_rng(seed)
    seen = mutual_information(one, other)
    drawn = np.array([mutual_information(one, rng.permutation(other)) for _ in range(PERMUTATIONS)])
    most = mutual_information(other, other)  # each group of one station
    share = (seen - drawn.mean()) / (most - drawn.mean()) if most - drawn.mean() > 1e-9 else 0.0
    return Association(what, float(share), float(((drawn >= seen - 1e-12).sum() + 1) / (PERMUTATIONS + 1)))


def mutual_information(one: np.ndarray, other: np.ndarray) -> float:
    """In nats, of two labelings (N,) by 0.. ; scikit-learn's spends a millisecond on its checks, thousands of times."""
    joint = np.bincount(one * (other.max() + 1) + other)
    entropy = [
        -(counts[counts > 0] / len(one) * np.log(counts[counts > 0] / len(one))).sum()
        for counts in (np.bincount(one), np.bincount(other), joint)
    ]
    return float(entropy[0] + entropy[1] - entropy[2])


def check_groups(rows: Sequence[Photograph], borders: np.ndarray, seed: int = 0) -> list[Association]:
    """What the groups of photographs follow.

    Bursts count once: they are in one group and at one station whatever an encoder sees. Groups of one sequence are
    left out, as they say nothing.

    Args:
        rows: photographs with animals.
        borders: (rows, 12) colours at the edges of their crops.
        seed: of the permutations and of the kinds of backgrounds.
    """
    first: dict[str, int] = {}
    for n, row in enumerate(rows):
        first.setdefault(row.sequence or row.key, n)
    chosen = sorted(first.values())
    sizes = Counter(rows[n].individual for n in chosen)
    chosen = [n for n in chosen if sizes[rows[n].individual] > 1]
    associations = []
    for what, labels in (
        ("stations", [rows[n].station for n in chosen]),
        ("days", [rows[n].date_time[:10] for n in chosen]),
        ("backgrounds", _kinds(borders[chosen], seed)),
    ):
        known = [n for n, label in enumerate(labels) if label != ""]
        if len(known) >= 10 and len({labels[n] for n in known}) > 1:
            groups = [rows[chosen[n]].individual for n in known]
            associations.append(association(groups, [labels[n] for n in known], what, seed))
    return associations


def _kinds(borders: np.ndarray, seed: int) -> list[str]:
    """Backgrounds (n, 12) in a few kinds."""
    if len(borders) < 2 * BACKGROUNDS:
        return [""] * len(borders)
    _, kinds = kmeans2(borders.astype(np.float64), BACKGROUNDS, minit="++", seed=seed)
    return [str(kind) for kind in kinds]
