"""Choose DBSCAN's radius eps from the data, without labels.

The choice compares clusterings at many radii on one sparse distance; each further radius costs milliseconds.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from scipy.sparse import coo_matrix, csr_matrix

from ..errors import UserError
from .guard import cluster_shares, degenerate, sorted_radii
from .labels import dbscan_sweep, noise_as_singletons

KEPT_SHARE, DRAWS = 0.4, 8  # share of the pairs that each random draw keeps, and the number of draws


class SweepRow(NamedTuple):
    """One radius of a sweep.

    Attributes:
        eps: the radius.
        clusters: number of clusters.
        left_out: share of the images that are in no cluster.
        largest: share of the clustered images that are in the largest cluster.
        stability: agreement with the clusterings of random subsets of the pairs. It is not an accuracy: it
            compares clusterings with each other and never with identities.
        modularity: how much more similar the images of a cluster are than images in general.
        score: the label-free score, modularity times the fourth root of stability.
    """

    eps: float
    clusters: int
    left_out: float
    largest: float
    stability: float
    modularity: float
    score: float


class EpsChoice(NamedTuple):
    """The chosen radius, and the sweep that it was chosen from, in ascending order of eps."""

    eps: float
    sweep: tuple[SweepRow, ...]


def choose_eps(
    distance: csr_matrix,
    min_samples: int = 4,
    candidates: Sequence[float] | None = None,
    seed: int = 0,
    keys: np.ndarray | None = None,
    **limits: Any,
) -> EpsChoice:
    """Choose DBSCAN's radius from the data, without labels.

    Each candidate scores modularity times the fourth root of stability, both clipped at 0:

    - modularity (Newman and Girvan, 2004; see `modularities`) is low where similar images lie in different clusters or
      are left out, and where clusters hold dissimilar images. It is 0 with one cluster, and negative with none;
    - stability is the adjusted Rand index (each image left out counts as a cluster) between the partition and the one
      of a random share KEPT_SHARE of the pairs, averaged over DRAWS draws. It is not an accuracy: no identity is
      read. Many pairs hold an identity together, few pairs bridge two identities.

    Modularity alone chooses too small a radius where identities are uneven in size; stability alone chooses too large
    a one everywhere. Between the third and the tenth root, all kinds of features in benchmarks/eps.py lose about the
    same.

    The candidate with the highest score wins, the middle one of equals. Degenerate clusterings (see `degenerate`) are
    considered only if every candidate gives one.

    Args:
        distance: (N, N) from `jaccard_distance`, stored up to the largest candidate.
        min_samples: as for `dbscan`.
        candidates: radii in (0, 1), in any order; None for 0.2 to 0.9 in steps of 0.025.
        seed: seed of the draws.
        keys: (N,) uint64 that identify the images, such as `data.keys.image_keys`. The draws depend on the keys alone,
            so whether a pair is kept depends neither on the order of the images nor on the other images. None for the
            row numbers.
        **limits: keyword arguments of `degenerate`.

    Raises:
        ValueError: if there are no candidates, if the number of keys is wrong, or as `dbscan` does.
    """
    radii = sorted_radii(candidates)
    if not distance.has_sorted_indices:
        distance = distance.sorted_indices()
    labels = dbscan_sweep(distance, radii, min_samples)
    redrawn = (dbscan_sweep(distance, radii, min_samples, kept) for kept in _draws(distance, seed, keys))
    stability = np.mean([[rand_index(*pair) for pair in zip(labels, drawn, strict=True)] for drawn in redrawn], axis=0)
    sweep = tuple(map(_sweep_row, radii, labels, stability, modularities(distance, labels)))
    usable = [row for row, own in zip(sweep, labels, strict=True) if degenerate(own, **limits) is None] or list(sweep)
    best = max(row.score for row in usable)
    tied = [row for row in usable if row.score == best]
    return EpsChoice(tied[len(tied) // 2].eps, sweep)


def _draws(distance: csr_matrix, seed: int, keys: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield DRAWS masks over the stored entries of a distance; each keeps a random share KEPT_SHARE of the pairs."""
    rows = distance.shape[0]
    keys = np.arange(rows, dtype=np.uint64) if keys is None else np.asarray(keys, dtype=np.uint64)
    if keys.shape != (rows,):
        raise UserError(
            f"Expected {rows} keys, one per image, got shape {keys.shape}: pass the keys of the images that were "
            "clustered."
        )
    for salt in np.random.SeedSequence(seed).generate_state(DRAWS, np.uint64):
        yield _kept_pairs(distance.indptr, distance.indices, _splitmix64(keys), salt, np.uint64(KEPT_SHARE * 2**64))


@njit(cache=True, nogil=True)
def _splitmix64(values: np.ndarray) -> np.ndarray:
    """Hash uint64 with the finaliser of SplitMix64 (Steele et al., OOPSLA 2014), a bijection that looks random."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@njit(cache=True, nogil=True)
def _kept_pairs(
    start: np.ndarray, column: np.ndarray, key: np.ndarray, salt: np.uint64, limit: np.uint64
) -> np.ndarray:
    """Mask of the entries whose pair hashes below the limit; both entries of a pair have the same hash."""
    kept = np.empty(len(column), dtype=np.bool_)
    for i in range(len(start) - 1):
        for e in range(start[i], start[i + 1]):
            j = column[e]
            kept[e] = _splitmix64(_splitmix64((key[i] + key[j]) ^ salt) + (key[i] ^ key[j])) < limit
    return kept


def rand_index(one: np.ndarray, other: np.ndarray) -> float:
    """Adjusted Rand index of two clusterings (N,) in which each image left out is a cluster of its own.

    scikit-learn's function sorts both, which for large N takes as long as the clusterings themselves.
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
    """Count the ordered pairs of images within clusters of these sizes, as a Python integer, which cannot overflow."""
    return int((sizes * (sizes - 1)).sum())


def modularities(distance: csr_matrix, labels: np.ndarray) -> np.ndarray:
    """Modularity of R clusterings of the graph in which an edge of weight (1 - d)^3 joins two images at distance d.

    Q = sum_c (w_c / w - (s_c / 2 w)^2): w_c is the sum of the weights within cluster c, w the sum of all weights, and
    s_c the sum of the weights at the images of c, which counts the weights within c twice. Each image left out is a
    cluster of its own.

    Args:
        distance: (N, N) from `jaccard_distance`; pairs that are not stored have weight 0.
        labels: (R, N), -1 for images left out.

    Returns:
        (R,) in [-1/2, 1); 0 if the graph has no edges.
    """
    entries = distance.indptr, distance.indices, distance.data
    strength = _strength(*entries)
    total = strength.sum() / 2
    if total == 0:
        return np.zeros(len(labels))
    within = np.array([_weight_within(*entries, own) for own in labels])
    chance = [np.square(np.bincount(noise_as_singletons(own), strength) / (2 * total)).sum() for own in labels]
    return within / total - chance


@njit(cache=True, nogil=True)
def _weight(distance: float) -> float:
    return (1.0 - distance) ** 3


@njit(cache=True, nogil=True)
def _strength(start: np.ndarray, column: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Sum of the weights at each image, (N,)."""
    strength = np.zeros(len(start) - 1)
    for i in range(len(strength)):
        for e in range(start[i], start[i + 1]):
            if column[e] != i:
                strength[i] += _weight(value[e])
    return strength


@njit(cache=True, nogil=True)
def _weight_within(start: np.ndarray, column: np.ndarray, value: np.ndarray, labels: np.ndarray) -> float:
    """Sum of the weights of pairs that share a cluster."""
    weight = 0.0
    for i in range(len(labels)):
        if labels[i] >= 0:
            for e in range(start[i], start[i + 1]):
                if column[e] < i and labels[column[e]] == labels[i]:
                    weight += _weight(value[e])
    return weight


def _sweep_row(eps: float, labels: np.ndarray, stability: float, modularity: float) -> SweepRow:
    shares, left_out = cluster_shares(labels), (labels < 0).mean()
    score = max(0.0, modularity) * max(0.0, stability) ** 0.25
    return SweepRow(eps, len(shares), *map(float, (left_out, shares.max(initial=0), stability, modularity, score)))
