"""The likeliest animals of each photograph, by the similarity of features and by local matches.

Shapes: N photographs asked for, M known ones, D feature dimensions, A animals.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from .patterns import Patterns
from .rows import Photograph

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
            sequences: (M,) sequences, "" for none, or what else is of one occasion.
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
            top: animals of a photograph.
            extra: (N, M) what is added to the similarities; by default what the patterns say of the keys.
        """
        if not len(self.names):
            return [[] for _ in features]
        result: list[list[Candidate]] = []
        for similar, best in self._blocks(features, sequences, keys, extra):
            for row, scores in zip(similar, best, strict=True):
                order = np.argsort(-scores, kind="stable")[:top]
                result.append([one for n in order if (one := self._candidate(row, int(n), scores[n])) is not None])
        return result

    def own_and_other(
        self, features: np.ndarray, owners: Sequence[str], sequences: Sequence[str], keys: Sequence[str]
    ) -> list[tuple[Candidate | None, Candidate | None]]:
        """For each photograph (N, D), the candidate that is its own animal and the likeliest of the others.

        Args:
            features, sequences, keys: as for `candidates`.
            owners: (N,) animals of the photographs, "" for none.
        """
        if not len(self.names):
            return [(None, None) for _ in features]
        number = {name: n for n, name in enumerate(self.names.tolist())}
        own = [number.get(owner) for owner in owners]
        result: list[tuple[Candidate | None, Candidate | None]] = []
        for similar, best in self._blocks(features, sequences, keys):
            for row, scores in zip(similar, best, strict=True):
                mine, others = own[len(result)], scores.copy()
                if mine is not None:
                    others[mine] = -np.inf
                first = None if mine is None else self._candidate(row, mine, scores[mine])
                second = int(np.argmax(others))
                result.append((first, self._candidate(row, second, others[second])))
        return result

    def likeliest(
        self,
        features: np.ndarray,
        owner: str = "",
        keys: Sequence[str] | None = None,
        ruled_out: Collection[str] = (),
    ) -> Candidate | None:
        """The animal that photographs (N, D) are most alike on average; the photograph is the nearest to any of them.

        Args:
            features: (N, D) at unit length.
            owner: the only animal to ask about; "" for all.
            keys: as for `candidates`.
            ruled_out: animals that are not asked about.
        """
        allowed = ((self.names == owner) | (not owner)) & ~np.isin(self.names, np.array(list(ruled_out), dtype=str))
        if not allowed.any():
            return None
        similar, best = (np.concatenate(parts) for parts in zip(*self._blocks(features, keys=keys), strict=True))
        mean = np.where(allowed, best.mean(axis=0, dtype=np.float64), -np.inf)
        animal = int(np.argmax(mean))
        nearest = int(np.argmax(best[:, animal]))
        return self._candidate(similar[nearest], animal, mean[animal])

    def _blocks(
        self,
        features: np.ndarray,
        sequences: Sequence[str] | None = None,
        keys: Sequence[str] | None = None,
        extra: csr_matrix | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Similarities of photographs to known ones (b, M), and the best of each animal (b, A); -inf for left out."""
        if extra is None and keys is not None and self.patterns is not None:
            extra = self.patterns.between(keys, self.keys.tolist())
        for start in range(0, len(features), BLOCK):
            similar = features[start : start + BLOCK] @ self.features.T
            if extra is not None:
                similar += extra[start : start + BLOCK].toarray()
            for values, known in ((sequences, self.sequences), (keys, self.keys)):
                if values is not None:
                    own = np.asarray(values[start : start + BLOCK], dtype=str)[:, None]
                    similar[(own == known[None]) & (own != "")] = -np.inf
            yield similar, np.maximum.reduceat(similar, self.starts, axis=1)

    def _candidate(self, similar: np.ndarray, animal: int, score: float) -> Candidate | None:
        """None where all of an animal's photographs are left out."""
        if not np.isfinite(score):
            return None
        start = self.starts[animal]
        end = self.starts[animal + 1] if animal + 1 < len(self.starts) else len(similar)
        row = start + int(np.argmax(similar[start:end]))
        return Candidate(str(self.names[animal]), str(self.keys[row]), float(score))


def gallery_of(rows: Sequence[Photograph], features: np.ndarray, patterns: Patterns | None = None) -> Gallery:
    """The photographs that are evidence of an animal; features (N, D) of the rows."""
    chosen = [n for n, row in enumerate(rows) if row.counts and row.individual]
    known = [rows[n] for n in chosen]
    return Gallery(
        features[chosen],
        [row.individual for row in known],
        [row.occasion for row in known],
        [row.key for row in known],
        patterns,
    )


def levels(own: Sequence[float], others: Sequence[float], share: float = 0.05) -> dict[str, float]:
    """The score from which a photograph is proposed for an animal, and that below which it is a new one.

    They are the score that an unknown animal rarely reaches and the one that a known one rarely misses. Where animals
    are well apart, the second is the higher one, and what lies between the two is unlike both.

    Args:
        own: similarity of known photographs to their own animal, other sequences only.
        others: similarity of known photographs to the likeliest other animal.
        share: an unknown animal reaches the one, and a known one misses the other, so often.
    """
    unknown = float(np.quantile(others, 1 - share)) if len(others) else 0.8
    known = float(np.quantile(own, share)) if len(own) else unknown - 0.2
    return {"accept": max(known, unknown), "reject": min(known, unknown)}


def verdict(score: float, limits: dict[str, float]) -> str:
    """proposed, unsure or new, by the levels of a project."""
    if not limits or score >= limits["accept"]:
        return "proposed"
    return "unsure" if score >= limits["reject"] else "new"
