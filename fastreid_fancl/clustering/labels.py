"""Clusters on a sparse distance: DBSCAN, and SpCL's test of which of its clusters can be relied on.

Shapes: N images, M clusters.
"""

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix, issparse


def dbscan(distance: csr_matrix, eps: float, min_samples: int = 4) -> np.ndarray:
    """DBSCAN (Ester et al., KDD 1996), with the labels of scikit-learn on the dense matrix.

    A core image has `min_samples` images within `eps`, itself included; core images within `eps` of each other share a
    cluster. Clusters are numbered by their first core image. Another image within `eps` of a core image joins its
    cluster, the lowest numbered of several; all others are noise.

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
    check_distance(distance)
    if not 0 < eps < 1:
        raise ValueError(f"Expected eps between 0 and 1, as the Jaccard distance is, got {eps}: take 0.4 to 0.7.")
    if eps >= getattr(distance, "max_distance", 1):
        raise ValueError(
            f"Expected eps below {distance.max_distance}, up to where distances are stored, got {eps}: take a smaller "
            "eps, or a larger max_distance of jaccard_distance."
        )
    if min_samples < 1:
        raise ValueError(f"Expected min_samples of at least 1, got {min_samples}: the usual is 4.")
    distance = distance.tocsr()
    radius = distance.data.dtype.type(eps)
    return _dbscan(distance.indptr, distance.indices, distance.data, radius, min_samples)


def check_distance(distance: csr_matrix) -> None:
    """Raise ValueError unless a distance is a sparse square matrix."""
    if not issparse(distance) or distance.ndim != 2 or distance.shape[0] != distance.shape[1]:
        what = f"{type(distance).__name__} of shape {getattr(distance, 'shape', None)}"
        raise ValueError(f"Expected a square sparse distance, got {what}: pass what jaccard_distance returns.")


@njit(cache=True, nogil=True)
def _dbscan(start, column, value, eps, min_samples):
    rows = len(start) - 1
    core = np.empty(rows, dtype=np.bool_)
    for i in range(rows):
        near = 1
        for e in range(start[i], start[i + 1]):
            near += column[e] != i and value[e] <= eps
        core[i] = near >= min_samples
    parent = np.arange(rows)
    for i in range(rows):
        for e in range(start[i], start[i + 1]):
            if value[e] <= eps and column[e] < i and core[i] and core[column[e]]:
                _unite(parent, i, column[e])
    return _number(start, column, value, eps, core, parent)


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
def _number(start, column, value, eps, core, parent):
    """Labels of the trees of core images, in the order of their roots, and of what is near them."""
    rows, clusters = len(core), 0
    labels = np.full(rows, -1)
    for i in range(rows):
        if core[i]:
            root = _root(parent, i)
            if root == i:
                labels[i] = clusters
                clusters += 1
            labels[i] = labels[root]
    for i in range(rows):
        if core[i]:
            continue
        for e in range(start[i], start[i + 1]):
            j = column[e]
            if value[e] <= eps and core[j] and (labels[i] < 0 or labels[j] < labels[i]):
                labels[i] = labels[j]
    return labels


def reliable_labels(
    distance: csr_matrix, eps: float, gap: float, min_samples: int = 4, threshold: float | None = None
) -> tuple[np.ndarray, float | None]:
    """DBSCAN's clusters less what SpCL (Ge et al., NeurIPS 2020, Section 3.3) finds unreliable.

    Let I(i), I_tight(i), I_loose(i) be the images in the cluster of i at eps, eps - gap, eps + gap, where noise is
    alone, and |A n B| / |A u B| the overlap of two sets. As in SpCL's released code:

    - a cluster's independence is the best overlap of I and I_loose among its images. Where it is too small (1 - overlap
      above `threshold`) the whole cluster falls apart: it would merge with others at a looser eps;
    - an image's compactness is the overlap of I and I_tight. Images below the best of their cluster leave it.

    Images that fail, noise, and an image that is left alone in its cluster all get -1: in SpCL each of them is then a
    class of its own, whatever the reason.

    Args:
        distance: (N, N) of `jaccard_distance`.
        eps: DBSCAN's radius.
        gap: how much tighter and looser to look; eps - gap and eps + gap stay in (0, 1).
        min_samples: of DBSCAN.
        threshold: largest 1 - independence that is relied on, as returned by the first epoch's call; None chooses it,
            so that about nine tenths of the clusters pass.

    Returns:
        (N,) int64 labels 0..M-1 or -1, and the threshold; None if there was no cluster to choose it by.

    Raises:
        ValueError: as `dbscan` does, at any of the three radii, or on a negative gap.
    """
    if gap < 0:
        raise ValueError(f"Expected a gap of at least 0, got {gap}: SpCL's is 0.02.")
    labels, tight, loose = (dbscan(distance, radius, min_samples) for radius in (eps, eps - gap, eps + gap))
    clustered = labels >= 0
    scatter, dependence = _change(labels, tight), _change(labels, loose)
    least_scatter = _least(scatter[clustered], labels[clustered])
    least_dependence = _least(dependence[clustered], labels[clustered])
    if threshold is None:
        threshold = _ninth_tenth(least_dependence[np.bincount(labels[clustered]) > 1])
    if threshold is None:
        return np.full_like(labels, -1), None
    kept = labels.copy()
    kept[clustered] = np.where(
        (least_dependence[labels[clustered]] <= threshold) & (scatter[clustered] <= least_scatter[labels[clustered]]),
        labels[clustered],
        -1,
    )
    return renumber(kept, smallest=2), threshold


def _change(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) 1 - |A n B| / |A u B| of each image's clusters A and B in two clusterings, float32."""
    labels, others = noise_alone(labels), noise_alone(others)
    _, pair, common = np.unique(labels * len(others) + others, return_inverse=True, return_counts=True)
    common = common[pair]
    union = np.bincount(labels)[labels] + np.bincount(others)[others] - common
    return 1 - common.astype(np.float32) / union.astype(np.float32)


def _least(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(M,) the least value of each cluster's images."""
    least = np.full(labels.max(initial=-1) + 1, np.inf, dtype=values.dtype)
    np.minimum.at(least, labels, values)
    return least


def _ninth_tenth(values: np.ndarray) -> float | None:
    return float(np.sort(values)[min(len(values) - 1, round(0.9 * len(values)))]) if len(values) else None


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
