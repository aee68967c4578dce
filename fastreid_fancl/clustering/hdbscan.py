"""HDBSCAN on a sparse distance: it finds clusters of different densities and needs no radius."""

import numpy as np
from scipy.sparse import block_array, csr_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import HDBSCAN

from ..errors import UserError
from .labels import check_distance

FARTHEST = 1.0
"""The Jaccard distance of a pair that shares no neighbour and is therefore not stored."""


def hdbscan(distance: csr_matrix, min_samples: int = 4) -> np.ndarray:
    """Run scikit-learn's HDBSCAN (Campello et al., 2015).

    The labels are those of the dense matrix in which every pair that is not stored is at distance 1.

    Args:
        distance: (N, N) symmetric, from `jaccard_distance` with `max_distance` 1.
        min_samples: number of images within the core distance, the image itself included, and also the size of the
            smallest cluster; 2 or more.

    Returns:
        (N,) int64, clusters 0..M-1, and -1 for noise.

    Raises:
        ValueError: if the distance is not sparse and square, or `min_samples` is below 2.
    """
    check_distance(distance)
    if min_samples < 2:
        raise UserError(f"Expected min_samples of at least 2 for HDBSCAN, got {min_samples}: the usual value is 4.")
    if distance.shape[0] < min_samples:
        return np.full(distance.shape[0], -1)
    model = HDBSCAN(min_cluster_size=min_samples, min_samples=min_samples, metric="precomputed", copy=False)
    return model.fit(_connected(distance, min_samples)).labels_[: distance.shape[0]].astype(np.int64)


def _connected(distance: csr_matrix, neighbours: int) -> csr_matrix:
    """Add `neighbours` artificial images at distance `FARTHEST` from all others, so that they become noise.

    scikit-learn refuses a graph of several components and images with fewer stored distances than `neighbours`. The
    artificial images link these, and change no label, since those pairs are at distance `FARTHEST` anyway.
    """
    _, component = connected_components(distance, directed=False)
    linked = np.diff(distance.indptr) < neighbours
    linked[np.unique(component, return_index=True)[1]] = True
    rows = np.flatnonzero(linked).repeat(neighbours)
    columns = np.tile(np.arange(neighbours), len(rows) // neighbours)
    links = csr_matrix((np.full(len(rows), FARTHEST), (rows, columns)), shape=(len(linked), neighbours))
    positive = distance.astype(np.float64)
    # scipy's graphs ignore stored zeros as edges: give identical images a tiny distance instead.
    positive.data = np.maximum(positive.data, np.finfo(np.float32).tiny)
    return block_array([[positive, links], [links.T, np.full((neighbours, neighbours), FARTHEST)]], format="csr")
