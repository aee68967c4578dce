"""HDBSCAN on a sparse distance: clusters of several densities, without a radius to choose."""

import numpy as np
from scipy.sparse import block_array, csr_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import HDBSCAN

from .labels import check_distance

FARTHEST = 1.0
"""The Jaccard distance of a pair that shares no neighbour, and so is not stored."""


def hdbscan(distance: csr_matrix, min_samples: int = 4) -> np.ndarray:
    """HDBSCAN (Campello et al., 2015) by scikit-learn, with the labels of the dense matrix whose other pairs are at 1.

    Args:
        distance: (N, N) symmetric, of `jaccard_distance` with its `max_distance` of 1.
        min_samples: images within the core distance, the image itself included, and the size of the smallest cluster;
            2 or more.

    Returns:
        (N,) int64, clusters 0..M-1, and -1 for noise.

    Raises:
        ValueError: on a distance that is not sparse and square, or on fewer than two of `min_samples`.
    """
    check_distance(distance)
    if min_samples < 2:
        raise ValueError(f"Expected min_samples of at least 2 for HDBSCAN, got {min_samples}: the usual is 4.")
    if distance.shape[0] < min_samples:
        return np.full(distance.shape[0], -1)
    model = HDBSCAN(min_cluster_size=min_samples, min_samples=min_samples, metric="precomputed", copy=False)
    return model.fit(_connected(distance, min_samples)).labels_[: distance.shape[0]].astype(np.int64)


def _connected(distance: csr_matrix, neighbours: int) -> csr_matrix:
    """The distance with `neighbours` further images, far from all others and noise therefore.

    They link what scikit-learn refuses: components of the graph, and images with fewer stored distances than
    `neighbours`. All of these are `FARTHEST` from each other anyway.
    """
    _, component = connected_components(distance, directed=False)
    linked = np.diff(distance.indptr) < neighbours
    linked[np.unique(component, return_index=True)[1]] = True
    rows = np.flatnonzero(linked).repeat(neighbours)
    columns = np.tile(np.arange(neighbours), len(rows) // neighbours)
    links = csr_matrix((np.full(len(rows), FARTHEST), (rows, columns)), shape=(len(linked), neighbours))
    apart = distance.astype(np.float64)
    # scipy's graphs have no edge where a zero is stored: copies of an image are a little apart.
    apart.data = np.maximum(apart.data, np.finfo(np.float32).tiny)
    return block_array([[apart, links], [links.T, np.full((neighbours, neighbours), FARTHEST)]], format="csr")
