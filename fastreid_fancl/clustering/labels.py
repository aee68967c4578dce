"""Clusters on a sparse distance: DBSCAN, and SpCL's test of which of its clusters can be relied on.

Shapes: N images, M clusters.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix, issparse

from .neighbors.exact import offer


def dbscan(distance: csr_matrix, eps: float, min_samples: int = 4) -> np.ndarray:
    """DBSCAN (Ester et al., KDD 1996), with the labels of scikit-learn on the dense matrix.

    A core image has `min_samples` images within `eps`, itself included; core images within `eps` of each other share a
    cluster. Clusters are numbered by their first core image. Another image within `eps` of a core image joins its
    cluster, the lowest numbered of several; all others are noise.

    So the order of the images decides the numbers of clusters, and which of several clusters an image at the border of
    them joins. Give images in an order of their own, as the data sets do by their paths.

    Args:
        distance: (N, N) symmetric, of `jaccard_distance`; pairs that are not stored are farther than `eps`.
        eps: in (0, 1), compared in the precision of the distances.
        min_samples: 1 or more.

    Returns:
        (N,) int64, clusters 0..M-1, and -1 for noise.

    Raises:
        ValueError: on a distance that is not sparse and square, on values out of these ranges, or on an eps above the
            `max_distance` that the distance was stored up to.
    """
    return dbscan_sweep(distance, [eps], min_samples)[0]


def dbscan_sweep(
    distance: csr_matrix, radii: Sequence[float], min_samples: int = 4, kept: np.ndarray | None = None
) -> np.ndarray:
    """`dbscan` at several radii at the price of about one.

    Core images first share a cluster at the radius where both are core and as near: their mutual reachability (Campello
    et al., PAKDD 2013). So pairs are united once, in the order of that, and each radius only numbers what there is.

    Args:
        distance, min_samples: as for `dbscan`.
        radii: ascending.
        kept: (stored entries,) booleans, equal for both entries of a pair; others are as if they were not stored. None
            for all.

    Returns:
        (radii, N) labels.

    Raises:
        ValueError: as `dbscan` does, at any of the radii.
    """
    check_distance(distance)
    for eps in radii:
        if not 0 < eps < 1:
            raise ValueError(f"Expected eps between 0 and 1, as the Jaccard distance is, got {eps}: take 0.4 to 0.7.")
        if eps >= getattr(distance, "max_distance", 1):
            raise ValueError(
                f"Expected eps below {distance.max_distance}, up to where distances are stored, got {eps}: take a "
                "smaller eps, or a larger max_distance of jaccard_distance."
            )
    if min_samples < 1:
        raise ValueError(f"Expected min_samples of at least 1, got {min_samples}: the usual is 4.")
    distance = distance.tocsr()
    if kept is None:
        kept = np.ones(distance.nnz, dtype=bool)
    return _sweep(
        distance.indptr, distance.indices, distance.data, kept, np.array(radii, distance.dtype), min_samples - 1
    )


def check_distance(distance: csr_matrix) -> None:
    """Raise ValueError unless a distance is a sparse square matrix."""
    if not issparse(distance) or distance.ndim != 2 or distance.shape[0] != distance.shape[1]:
        what = f"{type(distance).__name__} of shape {getattr(distance, 'shape', None)}"
        raise ValueError(f"Expected a square sparse distance, got {what}: pass what jaccard_distance returns.")


@njit(cache=True, nogil=True)
def _sweep(start, column, value, kept, radii, others):
    """Labels at each radius; a core image has so many others within it."""
    rows = len(start) - 1
    nearest, near = _nearest(start, column, value, kept, others)
    core_from = np.zeros(rows, dtype=np.int64)  # the first radius at which an image is core
    if others:
        core_from = np.searchsorted(radii, near[:, -1])
    left, right, end = _by_reachability(start, column, value, kept, radii, core_from)
    parent, labels = np.arange(rows), np.full((len(radii), rows), -1)
    for r in range(len(radii)):
        for pair in range(end[r - 1] if r else 0, end[r]):
            _unite(parent, left[pair], right[pair])
        _number(nearest, near, radii[r], core_from <= r, parent, labels[r])
    return labels


@njit(cache=True, nogil=True)
def _nearest(start, column, value, kept, others):
    """The nearest others of each image and their distances, (N, others); infinite where there are fewer."""
    rows = len(start) - 1
    nearest, near = np.zeros((rows, others), dtype=np.int64), np.full((rows, others), np.inf, dtype=value.dtype)
    if others == 0:
        return nearest, near
    for i in range(rows):
        for e in range(start[i], start[i + 1]):
            if kept[e] and column[e] != i and value[e] < near[i, -1]:
                offer(near[i], nearest[i], value[e], column[e])
    return nearest, near


@njit(cache=True, nogil=True)
def _by_reachability(start, column, value, kept, radii, core_from):
    """Pairs of images by the first radius at which they share a cluster, and where the pairs of each radius end."""
    rows, last = len(start) - 1, len(radii)
    end = np.zeros(last + 1, dtype=np.int64)
    for i in range(rows):
        for e in range(start[i], start[i + 1]):
            if kept[e] and column[e] < i:
                end[_reached(value[e], core_from[i], core_from[column[e]], radii)] += 1
    end = np.cumsum(end)
    free = np.append(0, end)
    left, right = np.empty(end[last - 1], dtype=np.int32), np.empty(end[last - 1], dtype=np.int32)
    for i in range(rows):
        for e in range(start[i], start[i + 1]):
            if kept[e] and column[e] < i:
                r = _reached(value[e], core_from[i], core_from[column[e]], radii)
                if r < last:
                    left[free[r]], right[free[r]] = i, column[e]
                    free[r] += 1
    return left, right, end


@njit(cache=True, nogil=True)
def _reached(value, core, other_core, radii):
    """The first radius that is not below a distance, and at which two images are core."""
    r = max(core, other_core)
    if r < len(radii) and radii[r] < value:
        r = np.searchsorted(radii, value)
    return r


@njit(cache=True, nogil=True)
def _root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _unite(parent, i, j):
    """Join two trees; the root of a tree stays its smallest member."""
    i, j = _root(parent, i), _root(parent, j)
    parent[max(i, j)] = min(i, j)


@njit(cache=True, nogil=True)
def _number(nearest, near, eps, core, parent, labels):
    """Label the trees of core images, in the order of their roots, and what is near them; in place."""
    clusters = 0
    for i in range(len(core)):
        if core[i]:
            root = _root(parent, i)
            if root == i:
                labels[i] = clusters
                clusters += 1
            labels[i] = labels[root]
    for i in range(len(core)):
        if core[i]:
            continue
        for n in range(near.shape[1]):  # others within eps are among these, or the image would be core
            j = nearest[i, n]
            if near[i, n] <= eps and core[j] and (labels[i] < 0 or labels[j] < labels[i]):
                labels[i] = labels[j]


def noise_alone(labels: np.ndarray) -> np.ndarray:
    """Labels (N,) with each image of -1 in a class of its own, numbered after the clusters."""
    noise = labels < 0
    alone = labels.copy()
    alone[noise] = labels.max(initial=-1) + 1 + np.arange(noise.sum())
    return alone


def renumber(labels: np.ndarray, smallest: int = 1) -> np.ndarray:
    """Labels (N,) with clusters of fewer than `smallest` images left out (-1), the others numbered 0..M-1 in order."""
    sizes = np.bincount(labels[labels >= 0])
    number = np.where(sizes >= smallest, np.cumsum(sizes >= smallest) - 1, -1)
    return np.where(labels >= 0, np.append(number, -1)[labels], -1)
