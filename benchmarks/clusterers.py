"""What benchmarks/clustering.py compares: each from the same features to neighbours, and two of them on to labels.

Shapes: N rows, D dimensions.
"""

import sys
from pathlib import Path

import numpy as np
from scipy import sparse

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

MIN_SAMPLES = 4


class Package:
    """This package, as the engine calls it."""

    def __init__(self, features: np.ndarray, k1: int, k2: int):
        from fastreid_fancl import clustering

        self.clustering, self.features, self.k1, self.k2 = clustering, features, k1, k2
        self.cluster(self.distances(features[:1000], self.search(features[:1000])), 0.6)  # compiles

    def search(self, features: np.ndarray):
        return self.clustering.knn(features, self.k1)

    def distances(self, features: np.ndarray, neighbors):
        return self.clustering.jaccard_distance(features, self.k1, self.k2, 0.95, neighbors)

    def cluster(self, distance, eps: float) -> np.ndarray:
        return self.clustering.dbscan(distance, eps, MIN_SAMPLES)


class FaissFlat:
    """faiss's exact search alone."""

    def __init__(self, features: np.ndarray, k1: int, k2: int):
        import faiss
        import torch

        faiss.omp_set_num_threads(torch.get_num_threads())
        self.faiss, self.features, self.k1, self.k2 = faiss, features, k1, k2

    def search(self, features: np.ndarray):
        table = self.faiss.IndexFlatL2(features.shape[1])
        table.add(features)
        return table.search(features, self.k1)


class TorchBlocks:
    """Products of 1,024 rows with all others and their largest, the usual few lines of PyTorch."""

    def __init__(self, features: np.ndarray, k1: int, k2: int):
        self.features, self.k1, self.k2 = features, k1, k2

    def search(self, features: np.ndarray):
        import torch

        features = torch.from_numpy(features)
        found = [(block @ features.T).topk(self.k1) for block in features.split(1024)]
        return tuple(torch.cat(part).numpy() for part in zip(*found, strict=True))


class Released(FaissFlat):
    """The algorithm that the released codes share: N x N matrices, and scikit-learn's DBSCAN on one."""

    def distances(self, features: np.ndarray, neighbors):
        from support.oracles import dense_jaccard

        return dense_jaccard(features, self.k1, self.k2, neighbors[1])

    def cluster(self, distance, eps: float) -> np.ndarray:
        from sklearn.cluster import DBSCAN

        return DBSCAN(eps=eps, min_samples=MIN_SAMPLES, metric="precomputed", n_jobs=-1).fit_predict(distance)


CLUSTERERS = {
    "this package": Package,
    "faiss flat search": FaissFlat,
    "torch blocks": TorchBlocks,
    "released algorithm": Released,
}


def equal_pairs(distance: sparse.csr_matrix, dense: np.ndarray, below: float) -> float:
    """Share of the pairs nearer than `below` in either matrix whose distances differ by less than 1e-5."""
    equal = pairs = 0
    for i, expected in enumerate(dense):
        own = np.ones_like(expected)
        part = slice(distance.indptr[i], distance.indptr[i + 1])
        own[distance.indices[part]] = distance.data[part]
        some = (own < below) | (expected < below)
        pairs += some.sum()
        equal += (np.abs(own - expected)[some] < 1e-5).sum()
    return equal / pairs
