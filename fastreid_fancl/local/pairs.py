"""Scores of pairs of photographs by their verified matches, and what becomes of an encoder's neighbours with them.

The rule: similarity = cosine + w log(1 + inliers), w the weight and cosine that of the encoder's features. Only pairs
that the encoder or the descriptors propose are verified; all others have no inliers.

Shapes: N photographs, D dimensions of the encoder's features, k candidates of a photograph, P pairs.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from .candidates import descriptor_candidates
from .features import LocalFeatures
from .match import verified_matches

logger = logging.getLogger(__name__)

CANDIDATES = 10  # of a photograph, by its descriptors
EXTRA = 10  # neighbours by the encoder beyond those that are asked for
SECONDS_BETWEEN_REPORTS = 10
CHUNK = 512  # pairs between two looks at the clock


def log_inliers(inliers: np.ndarray) -> np.ndarray:
    """Evidence of a pair by the rule above: each further match counts for less."""
    return np.log1p(inliers)


class LocalPairs:
    """Pairs of N photographs. What was verified once is not verified again; no result depends on what was.

    Args:
        features: of the photographs, in their order.
        candidates: of a photograph, by its descriptors; 0 leaves the proposals to the encoder.
        evidence: of a number of inliers, such as `log_inliers` or a `Calibration`.
    """

    def __init__(
        self,
        features: Sequence[LocalFeatures],
        candidates: int = CANDIDATES,
        evidence: Callable[[np.ndarray], np.ndarray] = log_inliers,
    ):
        self.features, self.evidence = features, evidence
        self.proposed = (
            descriptor_candidates(features, candidates) if candidates else np.empty((len(features), 0), dtype=np.int64)
        )
        self._known: dict[int, int] = {}

    def __len__(self):
        return len(self.features)

    def inliers(self, pairs: np.ndarray) -> np.ndarray:
        """(P, 2) photographs -> (P,) numbers of verified matches."""
        keys = np.sort(pairs, axis=1) @ np.array([len(self), 1])
        new = [key for key in np.unique(keys).tolist() if key not in self._known]
        began = reported = time.perf_counter()
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for start in range(0, len(new), CHUNK):
                part = new[start : start + CHUNK]
                self._known.update(zip(part, pool.map(self._verify, part), strict=True))
                if time.perf_counter() - reported > SECONDS_BETWEEN_REPORTS:
                    reported = time.perf_counter()
                    done = start + len(part)
                    left = (reported - began) / done * (len(new) - done)
                    logger.info("Local matches: %d of %d pairs, %.0f s left", done, len(new), left)
        return np.array([self._known[key] for key in keys.tolist()], dtype=np.int64)

    def _verify(self, key: int) -> int:
        return len(verified_matches(*(self.features[n] for n in divmod(key, len(self)))))

    def fuse(self, features: Tensor, neighbors: np.ndarray, weight: float) -> csr_matrix:
        """The fused similarity of the pairs that the encoder's neighbours or the descriptors propose.

        Args:
            features: (N, D) of unit length.
            neighbors: (N, k) row numbers by the encoder.
            weight: w.

        Returns:
            (N, N) symmetric float32 with sorted columns, without the diagonal.
        """
        pairs = unordered_pairs(np.concatenate([neighbors, self.proposed], axis=1))
        similarity = cosines(features, pairs) + np.float32(weight) * self.evidence(self.inliers(pairs))
        both = np.concatenate([pairs, pairs[:, ::-1]])
        fused = csr_matrix((np.tile(similarity, 2).astype(np.float32), tuple(both.T)), shape=(len(self), len(self)))
        fused.sort_indices()
        return fused

    def rank(self, features: Tensor, neighbors: np.ndarray, weight: float, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest photographs of each by the fused similarity, itself included and first.

        Args:
            features, neighbors, weight: of `fuse`; k neighbours or more.
            k: as in `clustering.knn`.

        Returns:
            Squared distances 2 - 2 similarity, float32, below 0 where the similarity is above 1, and row numbers,
            int64; both (N, min(k, N)), as `jaccard_distance` takes them.
        """
        fused, k = self.fuse(features, neighbors, weight), min(k, len(self))
        squared, index = np.zeros((len(self), k), dtype=np.float32), np.empty((len(self), k), dtype=np.int64)
        for row in range(len(self)):
            part = slice(fused.indptr[row], fused.indptr[row + 1])
            similarity, columns = fused.data[part], fused.indices[part]
            best = np.lexsort((columns, -similarity))[: k - 1]
            index[row] = np.append(row, columns[best])
            squared[row, 1:] = 2 - 2 * similarity[best]
        return squared, index


def unordered_pairs(lists: np.ndarray) -> np.ndarray:
    """Row numbers (N, k), -1 for none, -> (P, 2), each pair of a row and one in its list once, the smaller first."""
    rows = np.repeat(np.arange(len(lists)), lists.shape[1])
    pairs = np.stack([rows, lists.ravel()], axis=1)
    pairs = pairs[(pairs[:, 1] >= 0) & (pairs[:, 0] != pairs[:, 1])]
    keys = np.unique(np.sort(pairs, axis=1) @ np.array([len(lists), 1]))
    return np.stack(np.divmod(keys, len(lists)), axis=1)


def cosines(features: Tensor, pairs: np.ndarray, block: int = 1 << 14) -> np.ndarray:
    """Products of rows of (N, D), by pairs (P, 2) -> (P,) float32, on the CPU so that every device gives the same."""
    rows = features.detach().cpu().float().numpy()
    parts = [pairs[start : start + block] for start in range(0, len(pairs), block)]
    return np.concatenate(
        [np.einsum("pd,pd->p", rows[p[:, 0]], rows[p[:, 1]]) for p in parts] or [np.empty(0, np.float32)]
    )
