"""How sure a grouping is: the radius by data, stability over draws, and probabilities once people have decided enough.

Shapes: N photographs, R radii, S draws, P pairs.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.isotonic import IsotonicRegression

from ..clustering import degenerate, jaccard_distance
from ..clustering.eps import _rand_index, modularities
from ..engine.seeds import derive_seed
from ..progress import Progress
from .constraints import Constraints, Contradiction, labels_at, tree

RADII = tuple(n / 40 for n in range(8, 40))  # 0.2, 0.225, ..., 0.975
DRAWS, SHARE = 6, 0.5
NEAR = 0.01  # scores of radii that are as good as equal
ENOUGH = 50  # decisions on pairs from which a calibration is made


class Grouping(NamedTuple):
    """A grouping and how sure it is.

    Attributes:
        labels: (N,) groups 0.. .
        radius, near_ties: the one chosen, and (radius, groups) of those that are as good.
        distance: (N, N) sparse, that was grouped.
        certainty: (N,) share of the draws in which a photograph's nearest pairs are together or apart as here.
        pairs: (P, 2) rows of the pairs that are stored in the distance, a < b.
        together: (P,) share of the draws in which a pair is in one group.
        interval: least and greatest number of groups among the draws.
        stability: mean adjusted Rand index of the draws with the grouping.
        contradictions: links that were not followed.
    """

    labels: np.ndarray
    radius: float
    near_ties: tuple[tuple[float, int], ...]
    distance: csr_matrix
    certainty: np.ndarray
    pairs: np.ndarray
    together: np.ndarray
    interval: tuple[int, int]
    stability: float
    contradictions: list[Contradiction]


def distance_of(features: np.ndarray, k1: int, k2: int) -> csr_matrix:
    """The sparse Jaccard distance (N, N); `k1` is lowered to fewer photographs."""
    k1 = max(2, min(k1, len(features) - 1))
    return jaccard_distance(np.ascontiguousarray(features), k1=k1, k2=min(k2, k1), max_distance=1.0)


def group(
    features: np.ndarray,
    constraints: Constraints,
    free: Constraints | None = None,
    views: Sequence[np.ndarray] = (),
    k1: int = 15,
    k2: int = 4,
    seed: int = 0,
    radius: float | None = None,
) -> Grouping:
    """Group photographs under constraints, at the radius that scores best by modularity and stability.

    Modularity (`clustering.eps.modularities`) is high where near pairs are together, stability where draws find the
    same groups: each draw sees a random half of the feature's dimensions, or a changed photograph.

    Args:
        features: (N, D) at unit length.
        constraints: of the grouping.
        free: of the draws; None for the same. Without the animals that are known already, they show how sure these are.
        views: further (N, D) features, of changed photographs; draws take turns with them.
        k1, k2: of `jaccard_distance`.
        seed: of the draws.
        radius: None for the best one.
    """
    free, rows = free or constraints, len(features)
    if rows < 3:
        return _few(rows, constraints)
    distance = distance_of(features, k1, k2)
    found, refused = tree(distance, constraints, RADII[-1])
    labels = labels_at(rows, constraints, found, RADII)
    own = labels if free is constraints else labels_at(rows, free, tree(distance, free, RADII[-1])[0], RADII)
    draws = np.array(list(_draws(features, views, free, k1, k2, seed)))
    stable = np.array([[_rand_index(*pair) for pair in zip(own, drawn, strict=True)] for drawn in draws]).mean(axis=0)
    scores = np.maximum(modularities(distance, own), 0) * np.maximum(stable, 0) ** 0.25
    best, ties = _best(own, scores, radius)
    seen = draws[:, sorted({best, *ties})].reshape(-1, rows)
    counts = [len(np.unique(one)) for one in seen]
    pairs, together = _together(distance, seen)
    return Grouping(
        labels[best],
        RADII[best],
        tuple((RADII[r], int(labels[r].max()) + 1) for r in ties),
        distance,
        _certainty(rows, labels[best], pairs, together),
        pairs,
        together,
        (min(counts), max(counts)),
        float(stable[best]),
        refused,
    )


def _few(rows: int, constraints: Constraints) -> Grouping:
    """The grouping of one or two photographs, which nothing but a link joins."""
    empty = csr_matrix((rows, rows), dtype=np.float32)
    found, refused = tree(empty, constraints, 0.5)
    labels = labels_at(rows, constraints, found, [0.5])[0]
    pairs, count = np.zeros((0, 2), np.int64), len(np.unique(labels))
    return Grouping(labels, 0.5, (), empty, np.ones(rows), pairs, np.zeros(0), (count, count), 1.0, refused)


def _draws(
    features: np.ndarray, views: Sequence[np.ndarray], free: Constraints, k1: int, k2: int, seed: int
) -> Iterator[np.ndarray]:
    with Progress("Grouping", DRAWS, "draws") as progress:
        for number in range(DRAWS):
            yield _draw(features, views, free, number, k1, k2, seed)
            progress.advance()


def _draw(
    features: np.ndarray, views: Sequence[np.ndarray], free: Constraints, number: int, k1: int, k2: int, seed: int
) -> np.ndarray:
    """(R, N) groups by half of the dimensions of the features, or of those of a changed photograph."""
    source = ([features, *views])[number % (1 + len(views))]
    chosen = np.random.default_rng(derive_seed(seed, number)).permutation(source.shape[1])
    part = source[:, chosen[: max(1, round(len(chosen) * SHARE))]]
    part = part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)
    found, _ = tree(distance_of(part, k1, k2), free, RADII[-1])
    return labels_at(len(part), free, found, RADII)


def _best(labels: np.ndarray, scores: np.ndarray, radius: float | None) -> tuple[int, list[int]]:
    """The radius to take, and others of other numbers of groups that score as high."""
    if radius is not None:
        return int(np.argmin(np.abs(np.array(RADII) - radius))), []
    usable = [r for r in range(len(RADII)) if degenerate(_without_singles(labels[r])) is None] or list(
        range(len(RADII))
    )
    best = max(usable, key=lambda r: (scores[r], -r))
    groups = labels.max(axis=1)
    near = sorted((r for r in usable if scores[best] - scores[r] < NEAR), key=lambda r: -scores[r])
    first = {int(groups[r]): r for r in reversed(near) if groups[r] != groups[best]}  # the best of each number
    return best, sorted(first.values())


def _without_singles(labels: np.ndarray) -> np.ndarray:
    sizes = np.bincount(labels)
    return np.where(sizes[labels] > 1, labels, -1)


def _together(distance: csr_matrix, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    stored = distance.tocoo()
    chosen = stored.row < stored.col
    pairs = np.stack([stored.row[chosen], stored.col[chosen]], axis=1).astype(np.int64)
    return pairs, np.mean([drawn[pairs[:, 0]] == drawn[pairs[:, 1]] for drawn in draws], axis=0)


def _certainty(rows: int, labels: np.ndarray, pairs: np.ndarray, together: np.ndarray) -> np.ndarray:
    """(N,) mean share of the draws that agree with the grouping on a photograph's pairs that draws ever put together.

    Pairs that no draw and not the grouping put together say nothing. 1 for a photograph without any other.
    """
    same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    agree, telling = np.where(same, together, 1 - together), same | (together > 0)
    total, number = np.zeros(rows), np.zeros(rows)
    for column in (0, 1):
        np.add.at(total, pairs[telling, column], agree[telling])
        np.add.at(number, pairs[telling, column], 1)
    return np.where(number > 0, total / np.maximum(number, 1), 1.0)


class Calibration(NamedTuple):
    """From a score to the probability that two photographs show one animal, as steps that are joined by lines."""

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __call__(self, score: float) -> float:
        return float(np.interp(score, self.scores, self.probabilities))


def calibrate(scores: Sequence[float], same: Sequence[bool]) -> Calibration | None:
    """Isotonic regression (Zadrozny and Elkan, 2002) of decisions on pairs; None until there are ENOUGH of both kinds.

    Args:
        scores: of the pairs that were decided.
        same: whether a person said that they show one animal.
    """
    if len(scores) < ENOUGH or len(set(same)) < 2:
        return None
    order = np.argsort(scores, kind="stable")
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    values = fitted.fit_transform(np.asarray(scores)[order], np.asarray(same, dtype=float)[order])
    return Calibration(tuple(np.asarray(scores, dtype=float)[order].tolist()), tuple(values.tolist()))
