"""How sure a grouping is: the radius by data, stability over draws, and probabilities once people have decided enough.

Shapes: N photographs, R radii, S draws, P pairs.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from ..clustering import degenerate, jaccard_distance, renumber
from ..clustering.constraints import RADII, Constraints, Contradiction, labels_at, tree
from ..clustering.eps import modularities, rand_index
from ..engine.seeds import derive_seed
from ..local.calibrate import Curve, isotonic_curve
from ..progress import Progress
from .patterns import Patterns

FEWEST = 3  # photographs of which draws say something
DRAWS, SHARE = 6, 0.5
NEAR = 0.01  # scores of radii that are as good as equal
ENOUGH, OF_A_KIND = 50, 10  # decisions on pairs from which a calibration is made, and at least so many of either kind


class Grouping(NamedTuple):
    """A grouping and how sure it is.

    Attributes:
        labels: (N,) groups 0.. .
        radius, near_ties: the one chosen, and (radius, groups) of those that are as good.
        distance: (N, N) sparse, that was grouped.
        certainty: (N,) share of the draws in which a photograph's nearest pairs are together or apart as here.
        pairs: (P, 2) rows of the pairs that are stored in the distance, a < b.
        together: (P,) share of the draws in which a pair is in one group.
        groups: their number, by `free` alone.
        interval: least and greatest number of groups among these and the draws.
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
    groups: int
    interval: tuple[int, int]
    stability: float
    contradictions: list[Contradiction]


def distance_of(
    features: np.ndarray, k1: int, k2: int, patterns: Patterns | None = None, keys: Sequence[str] = ()
) -> csr_matrix:
    """The sparse Jaccard distance (N, N); `k1` is lowered to fewer photographs.

    With patterns, the nearest photographs are those by the fused score; `keys` are then those of the N photographs.
    """
    k1 = max(2, min(k1, len(features) - 1))
    near = None if patterns is None else patterns.neighbors(keys, features, k1)
    return jaccard_distance(np.ascontiguousarray(features), k1, min(k2, k1), max_distance=1.0, neighbors=near)


def group(
    features: np.ndarray,
    constraints: Constraints,
    free: Constraints | None = None,
    views: Sequence[np.ndarray] = (),
    k1: int = 15,
    k2: int = 4,
    seed: int = 0,
    radius: float | None = None,
    patterns: Patterns | None = None,
    keys: Sequence[str] = (),
) -> Grouping:
    """Group photographs under constraints, at the radius that scores best by modularity and stability.

    Modularity (`clustering.eps.modularities`) is high where near pairs are together, stability where draws find the
    same groups: each draw sees a random half of the dimensions of the features, or of those of a changed photograph,
    and a random half of the pairs with local matches.

    Args:
        features: (N, D) at unit length.
        constraints: of the grouping.
        free: of the draws; None for the same. Without the animals that are known already, they show how sure these are.
        views: further (N, D) features, of changed photographs; draws take turns with them.
        k1, k2: of `jaccard_distance`.
        seed: of the draws.
        radius: None for the best one.
        patterns, keys: of `distance_of`.
    """
    free, rows = free or constraints, len(features)
    if rows < FEWEST:
        return _few(rows, constraints)
    distance = distance_of(features, k1, k2, patterns, keys)
    found, refused = tree(distance, constraints, RADII[-1])
    labels = labels_at(rows, constraints, found, RADII)
    own = labels if free is constraints else labels_at(rows, free, tree(distance, free, RADII[-1])[0], RADII)
    draws = np.array(list(_draws_of([features, *views], free, k1, k2, seed, patterns, keys)))
    stability = _stability(own, draws)
    scores = np.maximum(modularities(distance, own), 0) * np.maximum(stability, 0) ** 0.25
    best, ties = best_radius(own, scores, radius)
    seen = draws[:, sorted({best, *ties})].reshape(-1, rows)
    numbers = (own.max(axis=1) + 1).tolist()
    counts = [numbers[best], *(len(np.unique(one)) for one in seen)]
    pairs, together = _together(distance, seen)
    return Grouping(
        labels=labels[best],
        radius=RADII[best],
        near_ties=tuple((RADII[r], numbers[r]) for r in ties),
        distance=distance,
        certainty=certainty_of(labels[best], pairs, together),
        pairs=pairs,
        together=together,
        groups=numbers[best],
        interval=(min(counts), max(counts)),
        stability=float(stability[best]),
        contradictions=refused,
    )


def _few(rows: int, constraints: Constraints) -> Grouping:
    """The grouping of one or two photographs, which nothing but a link joins."""
    empty = csr_matrix((rows, rows), dtype=np.float32)
    found, refused = tree(empty, constraints, 0.5)
    labels = labels_at(rows, constraints, found, [0.5])[0]
    pairs, count = np.zeros((0, 2), np.int64), len(np.unique(labels))
    return Grouping(
        labels=labels,
        radius=0.5,
        near_ties=(),
        distance=empty,
        certainty=np.ones(rows),
        pairs=pairs,
        together=np.zeros(0),
        groups=count,
        interval=(count, count),
        stability=1.0,
        contradictions=refused,
    )


def _draws_of(
    sources: Sequence[np.ndarray],
    free: Constraints,
    k1: int,
    k2: int,
    seed: int,
    patterns: Patterns | None,
    keys: Sequence[str],
) -> Iterator[np.ndarray]:
    """(R, N) groups of each draw; `sources` are features (N, D) that draws take in turn."""
    with Progress("Grouping", DRAWS, "draws") as progress:
        for n in range(DRAWS):
            own_seed = derive_seed(seed, n)
            matches = patterns and patterns.draw(SHARE, own_seed)
            distance = distance_of(_half(sources[n % len(sources)], own_seed), k1, k2, matches, keys)
            found, _ = tree(distance, free, RADII[-1])
            yield labels_at(distance.shape[0], free, found, RADII)
            progress.advance()


def _stability(labels: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(R,) mean adjusted Rand index of labels (R, N) with those of draws (S, R, N)."""
    return np.mean([[rand_index(*pair) for pair in zip(labels, drawn, strict=True)] for drawn in draws], axis=0)


def _half(features: np.ndarray, seed: int) -> np.ndarray:
    """A random half of the dimensions, at unit length."""
    chosen = np.random.default_rng(seed).permutation(features.shape[1])
    part = features[:, chosen[: max(1, round(len(chosen) * SHARE))]]
    return part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)


def best_radius(labels: np.ndarray, scores: np.ndarray, radius: float | None = None) -> tuple[int, list[int]]:
    """Which of RADII to take, and others of other numbers of groups that score as high.

    Args:
        labels: (R, N) groups.
        scores: (R,).
        radius: the one that is wanted; None for the best one that is not degenerate.
    """
    if radius is not None:
        return int(np.argmin(np.abs(np.array(RADII) - radius))), []
    usable = [r for r in range(len(RADII)) if degenerate(renumber(labels[r], smallest=2)) is None]
    usable = usable or list(range(len(RADII)))
    best = max(usable, key=lambda r: (scores[r], -r))
    groups = labels.max(axis=1)
    near = sorted((r for r in usable if scores[best] - scores[r] < NEAR), key=lambda r: -scores[r])
    first = {int(groups[r]): r for r in reversed(near) if groups[r] != groups[best]}  # the best of each number
    return best, sorted(first.values())


def _together(distance: csr_matrix, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    stored = distance.tocoo()
    chosen = stored.row < stored.col
    pairs = np.stack([stored.row[chosen], stored.col[chosen]], axis=1).astype(np.int64)
    return pairs, np.mean([drawn[pairs[:, 0]] == drawn[pairs[:, 1]] for drawn in draws], axis=0)


def certainty_of(labels: np.ndarray, pairs: np.ndarray, together: np.ndarray) -> np.ndarray:
    """(N,) mean share of the draws that agree with labels (N,) on a photograph's pairs that draws ever put together.

    Pairs that no draw and no label put together say nothing. 1 for a photograph without any other.
    """
    rows = len(labels)
    same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    agree, telling = np.where(same, together, 1 - together), same | (together > 0)
    total, number = np.zeros(rows), np.zeros(rows)
    for column in (0, 1):
        np.add.at(total, pairs[telling, column], agree[telling])
        np.add.at(number, pairs[telling, column], 1)
    return np.where(number > 0, total / np.maximum(number, 1), 1.0)


def calibrate(scores: Sequence[float], same: Sequence[bool]) -> Curve | None:
    """From a score to the probability that two photographs show one animal, by decisions on pairs.

    None until there are ENOUGH decisions, OF_A_KIND of either kind.

    Args:
        scores: of the pairs that were decided.
        same: whether a person said that they show one animal.
    """
    if len(scores) < ENOUGH or not OF_A_KIND <= sum(same) <= len(same) - OF_A_KIND:
        return None
    return isotonic_curve(scores, [float(one) for one in same])
