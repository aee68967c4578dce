"""What spots, stripes and scars say of pairs of a project's photographs: verified matches, kept in its folder.

The score of a pair becomes cosine + w log(1 + inliers), or a calibrated evidence in the place of the logarithm: see
docs/local.md. Pairs that were not compared have no inliers.

Shapes: N photographs of a project, D feature dimensions, P pairs.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix

from .. import local
from ..clustering import knn
from ..files import content_hash, write_arrays
from ..local.pairs import cosines, nearest, symmetric, unique_pairs, unordered_pairs
from ..local.store import digest_of
from ..runs.checked import DamagedError
from .crops import file_of
from .encode import AGAIN, read_arrays
from .rows import Photograph

NEAREST = 20  # photographs by their features that are compared, at least
FILE = "patterns.npz"
COUNTS = local.DEFAULT.keypoints + 1  # numbers of inliers that a pair can have


@dataclass
class Patterns:
    """Verified matches of pairs of photographs.

    Attributes:
        keys: N photographs, in order.
        digests: of their keypoints, see `local.LocalFeatures`.
        pairs: (P, 2) rows of `keys` that were compared, the smaller first.
        inliers: (P,) of these pairs.
        evidence: (COUNTS,) float32 of 0, 1, 2, ... inliers.
        weight: w.
        kept: (N, COUNTS) booleans, which keypoints of a photograph are not of the background.
    """

    keys: list[str]
    digests: list[str]
    pairs: np.ndarray
    inliers: np.ndarray
    evidence: np.ndarray
    weight: float
    kept: np.ndarray

    @cached_property
    def number(self) -> dict[str, int]:
        """Row by key."""
        return {key: n for n, key in enumerate(self.keys)}

    @cached_property
    def bonuses(self) -> csr_matrix:
        """(N + 1, N + 1) w times the evidence of all pairs; the last row is of photographs that were not compared."""
        return symmetric(self.pairs, self.worth(self.inliers), len(self.keys) + 1)

    def worth(self, inliers: np.ndarray) -> np.ndarray:
        """(P,) inliers -> (P,) float32, what they add to the cosine."""
        return np.float32(self.weight) * self.evidence[np.minimum(inliers, COUNTS - 1)]

    @property
    def rule(self) -> str:
        """A name of what pairs are worth: other weights and other evidence have others."""
        return hashlib.sha256(np.float64(self.weight).tobytes() + self.evidence.tobytes()).hexdigest()[:16]

    def draw(self, share: float, seed: int) -> "Patterns":
        """The patterns with the matches of a random share of the pairs; the others have none."""
        drawn = np.random.default_rng(seed).random(len(self.pairs)) < share
        return replace(self, inliers=np.where(drawn, self.inliers, 0))

    def matched(self, one: str, other: str) -> int | None:
        """The inliers of two photographs, by their keys; None if they were not compared."""
        return self._counts.get(tuple(sorted((self.number.get(one, -1), self.number.get(other, -1)))))

    @cached_property
    def _counts(self) -> dict[tuple[int, ...], int]:
        return dict(zip(map(tuple, self.pairs.tolist()), self.inliers.tolist(), strict=True))

    def between(self, one: Sequence[str], other: Sequence[str]) -> csr_matrix:
        """What matches add to the cosines of some photographs with others, by their keys: sparse (len, len)."""
        rows, columns = ([self.number.get(key, len(self.keys)) for key in keys] for keys in (one, other))
        return self.bonuses[rows][:, columns]

    def neighbors(self, keys: Sequence[str], features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest of some photographs by the fused score, as `jaccard_distance` takes them.

        Args:
            keys: n photographs.
            features: (n, D) of these at unit length.
            k: with the photograph itself.
        """
        _, by_encoder = knn(np.ascontiguousarray(features), min(k, len(keys)))
        bonus, number = self.between(keys, keys), len(keys)
        compared = np.stack(bonus.nonzero(), axis=1)
        pairs = unique_pairs(
            np.concatenate([unordered_pairs(by_encoder), compared[compared[:, 0] != compared[:, 1]]]), number
        )
        similarity = cosines(torch.from_numpy(features), pairs) + at(bonus, pairs)
        return nearest(symmetric(pairs, similarity.astype(np.float32), number), k)

    def write(self, folder: Path) -> None:
        """Store all of it, whole or not at all."""
        write_arrays(
            folder / FILE,
            compressed=True,
            keys=np.array(self.keys),
            digests=np.array(self.digests),
            pairs=self.pairs.astype(np.int32),
            inliers=self.inliers.astype(np.int16),
            evidence=self.evidence,
            weight=np.array(self.weight, dtype=float),
            kept=np.packbits(self.kept, axis=1),
        )

    @staticmethod
    def remove(folder: Path) -> None:
        """Remove what `write` stored."""
        (folder / FILE).unlink(missing_ok=True)

    @classmethod
    def read(cls, folder: Path) -> "Patterns | None":
        """What `write` stored; None where nothing is.

        Raises:
            DamagedError: (a ValueError) if the file is something else.
        """
        stored = read_arrays(folder / FILE, [field.name for field in fields(cls)])
        if stored is None:
            return None
        keys, digests, pairs, inliers, evidence, weight, kept = stored
        if not _fit(len(keys), digests, pairs, inliers, evidence, weight, kept):
            problem = "expected pairs of its photographs, their inliers and finite evidence"
            raise DamagedError(folder / FILE, problem, AGAIN)
        return cls(
            keys.tolist(),
            digests.tolist(),
            pairs.astype(np.int64),
            inliers.astype(np.int64),
            evidence,
            float(weight),
            np.unpackbits(kept, axis=1, count=COUNTS).astype(bool),
        )


def _fit(number: int, digests: np.ndarray, *others: np.ndarray) -> bool:
    """Whether stored arrays fit each other and a number of photographs."""
    pairs, inliers, evidence, weight, kept = others
    shapes = [(number,), (len(inliers), 2), (len(pairs),), (COUNTS,), (), (number, -(-COUNTS // 8))]
    kinds = [one.dtype.kind for one in others]
    if [one.shape for one in (digests, *others)] != shapes or kinds != ["i", "i", "f", "f", "u"]:
        return False
    inside = ((pairs >= 0) & (pairs < number)).all() and (inliers >= 0).all()
    return bool(inside and np.isfinite(evidence).all() and np.isfinite(weight))


def keypoints(
    folder: Path,
    rows: Sequence[Photograph],
    problems: dict[int, str] | None = None,
    displaced: Mapping[str, str] | None = None,
) -> list[local.LocalFeatures]:
    """The keypoints of a project's photographs inside their boxes, from its folder where they are there.

    Args:
        folder: of the project.
        rows: N photographs.
        problems: as for `local.local_features`.
        displaced: of `crops.displaced_in`; these photographs cannot be read.
    """
    displaced = displaced or {}
    found = local.local_features(
        ["" if row.key in displaced else file_of(row.file) for row in rows],
        boxes=[corners(row) for row in rows],
        folder=folder / "features" / "local",
        contents=[row.hash for row in rows],
        problems=problems,
    )
    if problems is not None:
        problems |= {n: displaced[rows[n].key] for n in problems if rows[n].key in displaced}
    return found


def keypoints_of_file(path: str) -> local.LocalFeatures:
    """The keypoints of a photograph, taken whole, that need not be one of the project's; nothing is stored."""
    with open(path, "rb") as opened:
        content = content_hash(opened)
    return local.extract(path, digest=digest_of(path, None, local.DEFAULT, content))


def corners(row: Photograph) -> tuple[float, float, float, float] | None:
    """The box of a photograph as left, top, right and bottom."""
    if row.box is None:
        return None
    x, y, width, height = row.box
    return x, y, min(1.0, x + width), min(1.0, y + height)


def foreground_keypoints(
    patterns: Patterns, rows: Sequence[Photograph], found: Sequence[local.LocalFeatures]
) -> list[local.LocalFeatures]:
    """Keypoints of photographs without those that are of the background."""
    number = patterns.number
    return [
        one.keep(patterns.kept[number[row.key], : len(one.points)]) if row.key in number else one
        for row, one in zip(rows, found, strict=True)
    ]


def at(bonus: csr_matrix, pairs: np.ndarray) -> np.ndarray:
    """The entries (P,) of `Patterns.between` at pairs (P, 2)."""
    return np.asarray(bonus[tuple(pairs.T)]).ravel()


def pair_similarities(
    patterns: Patterns | None, keys: Sequence[str], features: np.ndarray, pairs: np.ndarray
) -> np.ndarray:
    """Fused similarities (P,) of pairs (P, 2) of n photographs (n, D)."""
    cosine = cosines(torch.from_numpy(features), pairs)
    return cosine if patterns is None or not len(pairs) else cosine + at(patterns.between(keys, keys), pairs)


def fused_similarities(
    patterns: Patterns | None,
    keys: Sequence[str],
    features: np.ndarray,
    others: Sequence[str],
    other_features: np.ndarray,
) -> np.ndarray:
    """Similarities (n, m) of n photographs (n, D) with m others (m, D): cosines, and what local matches add to them."""
    cosine = features @ other_features.T
    return cosine if patterns is None else cosine + patterns.between(keys, others).toarray()
