"""Scores of pairs of photographs by their verified matches, and what becomes of an encoder's neighbours with them.

The rule: similarity = cosine + w log(1 + inliers), w the weight and cosine that of the encoder's features. Only pairs
that the encoder or the descriptors propose are verified; all others have no inliers.

Shapes: N photographs, D dimensions of the encoder's features, k candidates of a photograph, P pairs.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits
from torch import Tensor

from ..progress import Progress
from .candidates import descriptor_candidates
from .features import LocalFeatures
from .match import verified_matches

CANDIDATES = 10  # of a photograph, by its descriptors
EXTRA = 10  # neighbours by the encoder beyond those that are asked for
CHUNK = 512  # pairs between two reports


def log_inliers(inliers: np.ndarray) -> np.ndarray:
    """Evidence of a pair by the rule above: each further match counts for less."""
    return np.log1p(inliers)


@contextmanager
def verifying() -> Iterator[ThreadPoolExecutor]:
    """Threads that verify pairs, one pair at a time each.

    The products of one pair are too small to share: NumPy's own threads would take ten times as long for them.
    """
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        yield pool


class LocalPairs:
    """Pairs of N photographs. Each pair is verified once; results do not depend on which pairs were verified before.

    Attributes:
        features: of the photographs, in their order.
        proposed: (N, CANDIDATES) row numbers, by the descriptors; -1 for none.
        evidence: of a number of inliers: `log_inliers`, or a `Calibration`.
    """

    def __init__(self, features: Sequence[LocalFeatures]):
        self.features, self.proposed = features, descriptor_candidates(features, CANDIDATES)
        self.evidence: Callable[[np.ndarray], np.ndarray] = log_inliers
        self._known: dict[int, int] = {}

    def __len__(self):
        return len(self.features)

    def inliers(self, pairs: np.ndarray) -> np.ndarray:
        """(P, 2) photographs -> (P,) numbers of verified matches."""
        keys = pair_keys(pairs, len(self))
        new = [key for key in np.unique(keys).tolist() if key not in self._known]
        with verifying() as pool, Progress("Local matches", len(new), "pairs") as progress:
            for start in range(0, len(new), CHUNK):
                part = new[start : start + CHUNK]
                self._known.update(zip(part, pool.map(self._verify, part), strict=True))
                progress.advance(len(part))
        return np.array([self._known[key] for key in keys.tolist()], dtype=np.int64)

    def remember(self, pairs: np.ndarray, inliers: np.ndarray) -> None:
        """Take over the inliers (P,) of pairs (P, 2) that were verified before, with the same keypoints."""
        self._known |= dict(zip(pair_keys(pairs, len(self)).tolist(), inliers.tolist(), strict=True))

    def _verify(self, key: int) -> int:
        return len(verified_matches(*(self.features[n] for n in pairs_of(key, len(self)))))

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
        return symmetric(pairs, similarity.astype(np.float32), len(self))

    def links(self, least: int) -> np.ndarray:
        """Pairs (P, 2) with `least` inliers or more, of those that the descriptors propose, whatever the encoder says.

        They are the same in every epoch.
        """
        pairs = unordered_pairs(self.proposed)
        return pairs[self.inliers(pairs) >= least]

    def rank(self, features: Tensor, neighbors: np.ndarray, weight: float, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest photographs of each by the fused similarity, itself included and first.

        Args:
            features, neighbors, weight: of `fuse`; k neighbours or more.
            k: as in `clustering.knn`.

        Returns:
            Squared distances 2 - 2 similarity, float32, below 0 where the similarity is above 1, and row numbers,
            int64; both (N, min(k, N)), as `jaccard_distance` takes them.
        """
        return nearest(self.fuse(features, neighbors, weight), k)


def symmetric(pairs: np.ndarray, values: np.ndarray, number: int) -> csr_matrix:
    """The sparse matrix (number, number) that has the values (P,) at pairs (P, 2) in both orders; sorted columns."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    matrix = csr_matrix((np.tile(values, 2), tuple(both.T)), shape=(number, number))
    matrix.sort_indices()
    return matrix


def nearest(similarity: csr_matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
    """What `LocalPairs.rank` returns, by a similarity (N, N) that stores k - 1 entries or more per row."""
    number = similarity.shape[0]
    k = min(k, number)
    squared, index = np.zeros((number, k), dtype=np.float32), np.empty((number, k), dtype=np.int64)
    for row in range(number):
        part = slice(similarity.indptr[row], similarity.indptr[row + 1])
        values, columns = similarity.data[part], similarity.indices[part]
        best = np.lexsort((columns, -values))[: k - 1]
        index[row] = np.append(row, columns[best])
        squared[row, 1:] = 2 - 2 * values[best]
    return squared, index


def unordered_pairs(lists: np.ndarray) -> np.ndarray:
    """Row numbers (N, k), -1 for none, -> (P, 2), each pair of a row and one in its list once, the smaller first."""
    rows = np.repeat(np.arange(len(lists)), lists.shape[1])
    pairs = np.stack([rows, lists.ravel()], axis=1)
    return unique_pairs(pairs[(pairs[:, 1] >= 0) & (pairs[:, 0] != pairs[:, 1])], len(lists))


def unique_pairs(pairs: np.ndarray, number: int) -> np.ndarray:
    """Each of the pairs (P, 2) of `number` photographs once, the smaller one first, in ascending order."""
    return pairs_of(np.unique(pair_keys(pairs, number)), number)


def pair_keys(pairs: np.ndarray, number: int) -> np.ndarray:
    """(P, 2) -> (P,) a whole number for each unordered pair of `number` photographs; `pairs_of` turns it back."""
    return np.sort(pairs, axis=1) @ np.array([number, 1])


def pairs_of(keys: np.ndarray | int, number: int) -> np.ndarray:
    """(P,) -> (P, 2) the pairs of `pair_keys`, the smaller photograph first; one key gives (2,)."""
    return np.stack(np.divmod(keys, number), axis=-1)


def cosines(features: Tensor, pairs: np.ndarray, block: int = 1 << 14) -> np.ndarray:
    """Products of rows of (N, D), by pairs (P, 2) -> (P,) float32, on the CPU so that every device gives the same."""
    rows = features.detach().cpu().float().numpy()
    parts = [pairs[start : start + block] for start in range(0, len(pairs), block)]
    return np.concatenate(
        [np.einsum("pd,pd->p", rows[p[:, 0]], rows[p[:, 1]]) for p in parts] or [np.empty(0, np.float32)]
    )
