"""The likeliest animals of each photograph, by the similarity of features and by local matches.

Shapes: N photographs asked for, M known ones, D feature dimensions, A animals.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from .patterns import Patterns

BLOCK = 1024  # photographs whose similarities to all known ones are in memory at once


class Candidate(NamedTuple):
    """An animal, the key of its photograph that is most alike, and the score of that."""

    individual: str
    key: str
    score: float


class Gallery:
    """Photographs of known animals, ordered by animal."""

    def __init__(
        self,
        features: np.ndarray,
        owners: Sequence[str],
        sequences: Sequence[str],
        keys: Sequence[str],
        patterns: Patterns | None = None,
    ):
        """
        Args:
            features: (M, D) at unit length.
            owners: (M,) animals.
            sequences: (M,) sequences, "" for none.
            keys: (M,) keys of the photographs.
            patterns: local matches; None for the similarity of features alone.
        """
        order = np.lexsort((keys, owners)) if len(keys) else np.zeros(0, dtype=int)
        self.features = features[order]
        self.names, self.starts = np.unique(np.asarray(owners, dtype=str)[order], return_index=True)
        self.sequences = np.asarray(sequences, dtype=str)[order]
        self.keys = np.asarray(keys, dtype=str)[order]
        self.patterns = patterns

    def candidates(
        self,
        features: np.ndarray,
        sequences: Sequence[str] | None = None,
        keys: Sequence[str] | None = None,
        top: int = 5,
        extra: csr_matrix | None = None,
    ) -> list[list[Candidate]]:
        """The animals that photographs (N, D) are most alike, each animal once, best first.

        Args:
            features: (N, D) at unit length.
            sequences: (N,) of the photographs: known ones of the same sequence are left out.
            keys: (N,) of the photographs: they are not compared with themselves.
            top: animals a photograph.
            extra: (N, M) what is added to the similarities; by default what the patterns say of the keys.
        """
        if not len(self.names):
            return [[] for _ in features]
        found = []
        if extra is None and keys is not None and self.patterns is not None:
            extra = self.patterns.between(keys, self.keys)
        for start in range(0, len(features), BLOCK):
            similar = features[start : start + BLOCK] @ self.features.T
            if extra is not None:
                similar += extra[start : start + BLOCK].toarray()
            for values, known in ((sequences, self.sequences), (keys, self.keys)):
                if values is not None:
                    own = np.asarray(values[start : start + BLOCK], dtype=str)[:, None]
                    similar[(own == known[None]) & (own != "")] = -np.inf
            best = np.maximum.reduceat(similar, self.starts, axis=1)
            for row, scores in zip(similar, best, strict=True):
                order = np.argsort(-scores, kind="stable")[:top]
                found.append([self._candidate(row, int(n), scores) for n in order if np.isfinite(scores[n])])
        return found

    def _candidate(self, similar: np.ndarray, animal: int, scores: np.ndarray) -> Candidate:
        start = self.starts[animal]
        end = self.starts[animal + 1] if animal + 1 < len(self.starts) else len(similar)
        row = start + int(np.argmax(similar[start:end]))
        return Candidate(str(self.names[animal]), str(self.keys[row]), float(scores[animal]))


def levels(own: Sequence[float], others: Sequence[float], share: float = 0.05) -> dict[str, float]:
    """The score from which a photograph is proposed for an animal, and that below which it is a new one.

    Args:
        own: similarity of known photographs to their own animal, other sequences only.
        others: similarity of known photographs to the likeliest other animal.
        share: an unknown animal would be accepted, and a known one be called new, so often.
    """
    accept = float(np.quantile(others, 1 - share)) if len(others) else 0.8
    reject = float(np.quantile(own, share)) if len(own) else accept - 0.2
    return {"accept": accept, "reject": min(reject, accept)}
