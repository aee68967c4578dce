"""DBSCAN on a sparse distance, at one radius or at many, and the numbering of labels.

Shapes: N images, M clusters.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix, issparse

from ..errors import UserError
from .neighbors.exact import insert_sorted


def dbscan(distance: csr_matrix, eps: float, min_samples: int = 4) -> np.ndarray:
    """Run DBSCAN (Ester et al., KDD 1996); the labels are those of scikit-learn on the dense matrix.

    A core image has at least `min_samples` images within `eps`, itself included. Core images within `eps` of each other
    share a cluster, and clusters are numbered by their first core image. Any other image within `eps` of a core image
    joins the cluster of that core image, the lowest numbered one of several. All remaining images are noise.

    So the order of the images decides how clusters are numbered, and which cluster an image on the border of several
    joins. Pass images in a fixed order, as the data sets do, which sort them by path.

    Args:
        distance: (N, N) symmetric, from `jaccard_distance`; pairs that are not stored are farther than `eps`.
        eps: in (0, 1), compared in the precision of the distances.
        min_samples: 1 or more.

    Returns:
        (N,) int64, clusters 0..M-1, and -1 for noise.

    Raises:
        ValueError: if the distance is not sparse and square, if a value is out of its range, or if eps is not below the
            `max_distance` up to which the distances are stored.
    """
    return dbscan_sweep(distance, [eps], min_samples)[0]


def dbscan_sweep(
    distance: csr_matrix, radii: Sequence[float], min_samples: int = 4, kept: np.ndarray | None = None
) -> np.ndarray:
    """Run `dbscan` at several radii, at about the cost of one.

    Two images share a cluster from the radius at which both are core and within that radius of each other, their mutual
    reachability distance (Campello et al., PAKDD 2013). So each pair is united once, in ascending order of this
    distance, and each radius only numbers the sets united so far.

    Args:
        distance: as for `dbscan`.
        radii: in ascending order.
        min_samples: as for `dbscan`.
        kept: mask (stored entries,), equal for both entries of a pair; the other entries count as not stored. None
            keeps all.

    Returns:
        (radii, N) labels.

    Raises:
        ValueError: as `dbscan` does, at any of the radii.
    """
    check_distance(distance)
    for eps in radii:
        if not 0 < eps < 1:
            raise UserError(
                f"Expected eps between 0 and 1, the range of the Jaccard distance, got {eps}: take 0.4 to 0.7."
            )
        if eps >= getattr(distance, "max_distance", 1):
            raise UserError(
                f"Expected eps below {distance.max_distance}, up to which distances are stored, got {eps}: take a "
                "smaller eps, or pass a larger max_distance to jaccard_distance."
            )
    if min_samples < 1:
        raise UserError(f"Expected min_samples of at least 1, got {min_samples}: the usual value is 4.")
    distance = distance.tocsr()
    if kept is None:
        kept = np.ones(distance.nnz, dtype=bool)
    return _sweep(
        distance.indptr, distance.indices, distance.data, kept, np.array(radii, distance.dtype), min_samples - 1
    )


def check_distance(distance: csr_matrix) -> None:
    """Check that a distance is a sparse square matrix.

    Raises:
        ValueError: if it is not.
    """
    if not issparse(distance) or distance.ndim != 2 or distance.shape[0] != distance.shape[1]:
        what = f"{type(distance).__name__} of shape {getattr(distance, 'shape', None)}"
        raise UserError(f"Expected a square sparse distance, got {what}: pass what jaccard_distance returns.")


@njit(cache=True, nogil=True)
def _sweep(
    start: np.ndarray, column: np.ndarray, value: np.ndarray, kept: np.ndarray, radii: np.ndarray, others: int
) -> np.ndarray:
    """Labels at each radius, (R, N); a core image has at least `others` other images within the radius."""
    rows = len(start) - 1
    nearest, near = _nearest(start, column, value, kept, others)
    core_from = np.zeros(rows, dtype=np.int64)  # the first radius at which an image is core
    if others:
        for i in range(rows):
            core_from[i] = np.searchsorted(radii, near[i, -1])
    left, right, end = _by_reachability(start, column, value, kept, radii, core_from)
    parent, labels = np.arange(rows), np.full((len(radii), rows), -1)
    for r in range(len(radii)):
        for pair in range(end[r - 1] if r else 0, end[r]):
            _unite(parent, left[pair], right[pair])
        _number(nearest, near, radii[r], core_from <= r, parent, labels[r])
    return labels


@njit(cache=True, nogil=True)
def _nearest(
    start: np.ndarray, column: np.ndarray, value: np.ndarray, kept: np.ndarray, others: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest other images of each image and their distances, both (N, others); inf where there are fewer."""
    rows = len(start) - 1
    nearest, near = np.zeros((rows, others), dtype=np.int64), np.full((rows, others), np.inf, dtype=value.dtype)
    if others == 0:
        return nearest, near
    for i in range(rows):
        for e in range(start[i], start[i + 1]):
            if kept[e] and column[e] != i and value[e] < near[i, -1]:
                insert_sorted(near[i], nearest[i], value[e], column[e])
    return nearest, near


@njit(cache=True, nogil=True)
def _by_reachability(
    start: np.ndarray, column: np.ndarray, value: np.ndarray, kept: np.ndarray, radii: np.ndarray, core_from: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort the pairs of images by the first radius that joins them; also return where the pairs of each radius end."""
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
def _reached(value: float, core: int, other_core: int, radii: np.ndarray) -> int:
    """Index of the first radius that is at least a pair's distance, and at which both of its images are core."""
    r = max(core, other_core)
    if r < len(radii) and radii[r] < value:
        r = int(np.searchsorted(radii, value))
    return r


@njit(cache=True, nogil=True)
def _root(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _unite(parent: np.ndarray, i: int, j: int) -> None:
    """Unite two trees of a disjoint-set forest; the root of a tree is its smallest member."""
    i, j = _root(parent, i), _root(parent, j)
    parent[max(i, j)] = min(i, j)


@njit(cache=True, nogil=True)
def _number(
    nearest: np.ndarray, near: np.ndarray, eps: float, core: np.ndarray, parent: np.ndarray, labels: np.ndarray
) -> None:
    """Label, in place, the trees of core images in the order of their roots, and then the images near core images."""
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
        for n in range(near.shape[1]):  # these include every image within eps, since this image is not core
            j = nearest[i, n]
            if near[i, n] <= eps and core[j] and (labels[i] < 0 or labels[j] < labels[i]):
                labels[i] = labels[j]


def noise_as_singletons(labels: np.ndarray) -> np.ndarray:
    """Give each image labelled -1 a class of its own, numbered after the clusters: labels (N,) -> (N,)."""
    noise = labels < 0
    singletons = labels.copy()
    singletons[noise] = labels.max(initial=-1) + 1 + np.arange(noise.sum())
    return singletons


def renumber(labels: np.ndarray, smallest: int = 1) -> np.ndarray:
    """Label clusters of fewer than `smallest` images -1 and renumber the others 0..M-1 in order: (N,) -> (N,)."""
    sizes = np.bincount(labels[labels >= 0])
    number = np.where(sizes >= smallest, np.cumsum(sizes >= smallest) - 1, -1)
    return np.where(labels >= 0, np.append(number, -1)[labels], -1)
