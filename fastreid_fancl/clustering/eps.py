"""DBSCAN's radius by data, and the guard against clusterings that no training should see.

Both look at a sweep of radii on the one sparse distance, where each further radius costs milliseconds.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from scipy.sparse import coo_matrix, csr_matrix

from .guard import cluster_shares, degenerate, radii_of
from .labels import dbscan_sweep, noise_alone

KEPT, DRAWS = 0.4, 8


class SweepRow(NamedTuple):
    """One radius of a sweep.

    Attributes:
        eps: the radius.
        clusters: their number.
        left_out: share of the images left out.
        largest: share of the clustered images in the largest cluster.
        robustness: stability, how much of the partition a part of the pairs finds again; no accuracy, as it compares
            clusterings with each other and not with identities.
        modularity: how much more alike images of a cluster are than images at large.
        score: modularity times the fourth root of robustness.
    """

    eps: float
    clusters: int
    left_out: float
    largest: float
    robustness: float
    modularity: float
    score: float


class EpsChoice(NamedTuple):
    """The radius chosen and the sweep that it was chosen from, by ascending eps."""

    eps: float
    sweep: tuple[SweepRow, ...]


def choose_eps(
    distance: csr_matrix,
    min_samples: int = 4,
    candidates: Sequence[float] | None = None,
    seed: int = 0,
    keys: np.ndarray | None = None,
    **limits: float,
) -> EpsChoice:
    """DBSCAN's radius by data, without labels.

    Each candidate scores modularity times the fourth root of robustness, negative ones counting as 0:

    - modularity (Newman and Girvan, 2004), see below: low where images that are alike lie in different clusters or are
      left out, and where clusters hold what is not alike. It is 0 with one cluster, and below with none;
    - robustness, a measure of stability and not of accuracy: the adjusted Rand index (each image left out counts as a
      cluster) between the partition and that of a random KEPT share of the pairs, the mean over DRAWS of them. No
      identity is read. An identity is held together by many pairs, a bridge between two identities by few.

    Modularity alone is too tight where identities are uneven, robustness too wide everywhere; between the third and the
    tenth root all kinds of features of benchmarks/eps.py lose about the same.

    The best candidate wins, the middle one of equals; degenerate ones (see `degenerate`) only if all are.

    Args:
        distance: (N, N) of `jaccard_distance`, stored up to the largest candidate.
        min_samples: of DBSCAN.
        candidates: radii in (0, 1), in any order; None for 0.2 to 0.9 in steps of 0.025.
        seed: of the draws.
        keys: (N,) uint64, what the draws know each image by, such as `data.keys.image_keys`: then a pair is kept or
            not whatever the order of the images, and whichever others there are. None for the row numbers.
        **limits: of `degenerate`.

    Raises:
        ValueError: without candidates, on keys of other images, and as `dbscan` does.
    """
    radii = radii_of(candidates)
    if not distance.has_sorted_indices:
        distance = distance.sorted_indices()
    labels = dbscan_sweep(distance, radii, min_samples)
    few = (dbscan_sweep(distance, radii, min_samples, kept) for kept in _draws(distance, seed, keys))
    robust = np.mean([[_rand_index(*pair) for pair in zip(labels, drawn, strict=True)] for drawn in few], axis=0)
    sweep = tuple(map(_row, radii, labels, robust, modularities(distance, labels)))
    usable = [row for row, own in zip(sweep, labels, strict=True) if degenerate(own, **limits) is None] or sweep
    best = max(row.score for row in usable)
    tied = [row for row in usable if row.score == best]
    return EpsChoice(tied[len(tied) // 2].eps, sweep)


def _draws(distance: csr_matrix, seed: int, keys: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Which of a distance's entries a random share of its pairs keeps; DRAWS times."""
    rows = distance.shape[0]
    keys = np.arange(rows, dtype=np.uint64) if keys is None else np.asarray(keys, dtype=np.uint64)
    if keys.shape != (rows,):
        raise ValueError(f"Expected {rows} keys, one an image, got shape {keys.shape}: pass those of the same images.")
    for salt in np.random.SeedSequence(seed).generate_state(DRAWS, np.uint64):
        yield _drawn(distance.indptr, distance.indices, _mixed(keys), salt, np.uint64(KEPT * 2**64))


@njit(cache=True, nogil=True)
def _mixed(values):
    """The finaliser of SplitMix64 (Steele et al., OOPSLA 2014): a bijection of uint64 that looks random."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@njit(cache=True, nogil=True)
def _drawn(start, column, key, salt, limit):
    """(entries,) whether the number that a pair's keys make, equal for both of its entries, is below the limit."""
    kept = np.empty(len(column), dtype=np.bool_)
    for i in range(len(start) - 1):
        for e in range(start[i], start[i + 1]):
            j = column[e]
            kept[e] = _mixed(_mixed((key[i] + key[j]) ^ salt) + (key[i] ^ key[j])) < limit
    return kept


def _rand_index(one: np.ndarray, other: np.ndarray) -> float:
    """The adjusted Rand index of two clusterings (N,) in which each image left out is a cluster of its own.

    Scikit-learn's, which sorts both, takes as long as the clusterings of large N.
    """
    both, shape = (one >= 0) & (other >= 0), (1 + one.max(initial=0), 1 + other.max(initial=0))
    cells = coo_matrix((np.ones(both.sum(), dtype=np.int64), (one[both], other[both])), shape).tocsr().data
    joint = _pairs(cells)
    in_one, in_other = (_pairs(np.bincount(labels[labels >= 0])) for labels in (one, other))
    only_one, only_other = in_one - joint, in_other - joint
    if only_one == only_other == 0:
        return 1.0
    neither = len(one) * (len(one) - 1) - joint - only_one - only_other
    scale = in_one * (only_one + neither) + in_other * (only_other + neither)
    return 2 * (joint * neither - only_one * only_other) / scale


def _pairs(sizes: np.ndarray) -> int:
    """Ordered pairs of images within clusters of these sizes, as an integer without bounds."""
    return int((sizes * (sizes - 1)).sum())


def modularities(distance: csr_matrix, labels: np.ndarray) -> np.ndarray:
    """Modularity of clusterings of the graph in which images at distance d are joined by the weight (1 - d)^3.

    Q = sum_c (w_c / w - (s_c / 2 w)^2): w_c the weights within cluster c, w all weights, s_c the weights at the images
    of c, those within counted twice. Images left out are clusters of their own.

    Args:
        distance: (N, N) of `jaccard_distance`; pairs that are not stored weigh nothing.
        labels: (R, N) of R clusterings, -1 for images left out.

    Returns:
        (R,) in [-1/2, 1); 0 where no images are joined.
    """
    entries = distance.indptr, distance.indices, distance.data
    strength = _strength(*entries)
    total = strength.sum() / 2
    if total == 0:
        return np.zeros(len(labels))
    within = np.array([_weight_within(*entries, own) for own in labels])
    chance = [np.square(np.bincount(noise_alone(own), strength) / (2 * total)).sum() for own in labels]
    return within / total - chance


@njit(cache=True, nogil=True)
def _weight(distance):
    return (1.0 - distance) ** 3


@njit(cache=True, nogil=True)
def _strength(start, column, value):
    """(N,) sum of the weights at each image."""
    strength = np.zeros(len(start) - 1)
    for i in range(len(strength)):
        for e in range(start[i], start[i + 1]):
            if column[e] != i:
                strength[i] += _weight(value[e])
    return strength


@njit(cache=True, nogil=True)
def _weight_within(start, column, value, labels):
    """Sum of the weights of pairs that share a cluster."""
    weight = 0.0
    for i in range(len(labels)):
        if labels[i] >= 0:
            for e in range(start[i], start[i + 1]):
                if column[e] < i and labels[column[e]] == labels[i]:
                    weight += _weight(value[e])
    return weight


def _row(eps: float, labels: np.ndarray, robustness: float, modularity: float) -> SweepRow:
    shares, left_out = cluster_shares(labels), (labels < 0).mean()
    score = max(0.0, modularity) * max(0.0, robustness) ** 0.25
    return SweepRow(eps, len(shares), *map(float, (left_out, shares.max(initial=0), robustness, modularity, score)))
