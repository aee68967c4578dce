"""Compare a project's photographs by their patterns: which pairs, how sure that is, and where both show the same."""

import logging
import math
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import local
from ..clustering import knn
from ..data import plural
from ..errors import UserError
from ..local.calibrate import burst_mates, calibration, simultaneous_pairs
from ..local.cost import local_cost
from ..local.pairs import log_inliers, unordered_pairs
from ..packages import INSTALL_FAISS, has_faiss
from ..progress import Progress
from .crops import file_of
from .links import active, decided_pairs, several_animals
from .patterns import COUNTS, NEAREST, Patterns, foreground_keypoints, keypoints
from .project import Project
from .rows import Decision, Photograph

logger = logging.getLogger(__name__)

WEIGHT = 0.2  # w of a project that names none
MOST = 10_000  # photographs of such a project: they need 5 GiB of memory and, on two cores, 11 minutes
ANNOUNCED = 500  # photographs from which the estimated time is announced
POINTS = 60  # that the review page draws of a pair


def weight_of(project: Project, photographs: int) -> float:
    """w of a project, 0 for none: the one that it names, else WEIGHT where faiss is installed and photographs are few.

    Raises:
        UserError: if the project names one and faiss is not installed.
    """
    weight, there = project.settings.get("local"), has_faiss()
    if weight and not there:
        raise UserError(
            f"Expected faiss for local matches (weight {weight:g}), which is not installed: {INSTALL_FAISS}, or leave "
            "them out by --local 0."
        )
    if weight is not None:
        return weight
    if not there:
        logger.info("Local matches are left out, because faiss is not installed: %s.", INSTALL_FAISS)
    if photographs > MOST:
        logger.info(
            "Local matches are left out: they need much memory for more than %d photographs, and there are %d. Give "
            "--local 0.2 to compare them anyway.",
            MOST,
            photographs,
        )
    return WEIGHT if there and photographs <= MOST else 0.0


def checked_weight(weight: float) -> float:
    """The weight itself.

    Raises:
        UserError: if it is below 0 or infinite.
    """
    if not (math.isfinite(weight) and weight >= 0):
        raise UserError(f"Expected --local to be 0 or a weight such as {WEIGHT}, got {weight:g}.")
    return weight


def compare(project: Project, rows: Sequence[Photograph], features: np.ndarray, k1: int) -> list[str]:
    """Verify the local matches of the pairs that features or descriptors propose, and keep them as project.patterns.

    What was verified in an earlier season is not verified again, unless other keypoints repeat at its station now.
    Other scores need other levels, so these are then taken from the project.

    Args:
        project: whose settings say how much matches weigh.
        rows: N photographs, in the order of their keys.
        features: (N, D) at unit length.
        k1: neighbours of the grouping.

    Returns:
        What could not be compared, in sentences.
    """
    weight = weight_of(project, len(rows))
    problems: list[str] = []
    if weight and len(rows) > 1:
        after, problems = _compared(project, rows, features, k1, weight, project.patterns)
        after.write(project.folder)
    else:
        Patterns.remove(project.folder)
    project.forget_features()
    if project.settings.get("levels_of") != project.rule:
        project.settings["levels"] = {}
    return problems


def _compared(
    project: Project,
    rows: Sequence[Photograph],
    features: np.ndarray,
    k1: int,
    weight: float,
    before: Patterns | None,
) -> tuple[Patterns, list[str]]:
    _say_how_long(rows, before, k1)
    problems: dict[int, str] = {}
    local_features = keypoints(project.folder, rows, problems, project.displaced)
    chosen = local.foreground(
        local_features, [row.station or None for row in rows], [row.sequence or None for row in rows]
    )
    after = _without_pairs(rows, local_features, chosen, weight)
    if repeated := sum(int((~one).sum()) for one in chosen):
        share = repeated / sum(len(one) for one in chosen)
        logger.info("%.0f%% of the spots repeat at one place of their station and are left out.", 100 * share)
    compared = local.LocalPairs([one.keep(kept) for one, kept in zip(local_features, chosen, strict=True)])
    if before is not None:
        compared.remember(*_unchanged(before, after))
    _, near = knn(np.ascontiguousarray(features), max(k1, NEAREST) + local.EXTRA)
    pairs = unordered_pairs(np.concatenate([near, compared.proposed], axis=1))
    # Boxes of one photograph may overlap: what they share says nothing of animals.
    whole = np.array([row.hash for row in rows])
    after.pairs = pairs[whole[pairs[:, 0]] != whole[pairs[:, 1]]]
    after.inliers = compared.inliers(after.pairs)
    evidence = calibration(compared.inliers, *known_pairs(rows, active(project.decisions))) or log_inliers
    after.evidence = evidence(np.arange(COUNTS)).astype(np.float32)
    return after, [f"{rows[n].path} has no local matches: {problem}" for n, problem in problems.items()]


def _without_pairs(
    rows: Sequence[Photograph], features: Sequence[local.LocalFeatures], chosen: Sequence[np.ndarray], weight: float
) -> Patterns:
    """Patterns with all keypoints, and a mark on those of the foreground; no pair is compared yet."""
    kept = np.zeros((len(rows), COUNTS), dtype=bool)
    for n, part in enumerate(chosen):
        kept[n, : len(part)] = part
    keys, digests = [row.key for row in rows], [one.digest for one in features]
    return Patterns(keys, digests, np.empty((0, 2), np.int64), np.empty(0, np.int64), np.empty(0), weight, kept)


def _say_how_long(rows: Sequence[Photograph], before: Patterns | None, k1: int) -> None:
    known = set() if before is None else before.number.keys()
    new = [file for row in rows if row.key not in known and os.path.exists(file := file_of(row.file))]
    if len(new) >= ANNOUNCED:
        cost = local_cost(new, len(rows), max(k1, NEAREST))
        minutes = plural(max(1, round((cost.keypoints + cost.matches) / 60)), "minute")
        logger.info("Local matches of %d photographs: about %s; --local 0 skips them.", len(rows), minutes)


def _unchanged(before: Patterns, after: Patterns) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of `after`, with their inliers, of photographs whose keypoints are those of `before`."""
    row = np.full(len(before.keys), -1)
    for n, key in enumerate(before.keys):
        m = after.number.get(key)
        if m is not None and before.digests[n] == after.digests[m] and np.array_equal(before.kept[n], after.kept[m]):
            row[n] = m
    pairs = row[before.pairs]
    same = (pairs >= 0).all(axis=1)
    return pairs[same], before.inliers[same]


def known_pairs(rows: Sequence[Photograph], decisions: Sequence[Decision]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that are known to show one animal, and to show two, each (P, 2): by bursts, stations and decisions."""
    several = several_animals(rows, decisions)
    sequences = [row.sequence if row.sequence and row.sequence not in several else None for row in rows]
    moments = [row.moment for row in rows]
    pairs, same = decided_pairs(decisions, [row.key for row in rows])
    return (
        np.concatenate([burst_mates(sequences), pairs[same]]),
        np.concatenate([simultaneous_pairs([row.station or None for row in rows], moments), pairs[~same]]),
    )


def with_points(project: Project, queue: dict[str, Any]) -> dict[str, Any]:
    """The review page's queue with `points` for its pairs: x and y in both crops, as shares of these.

    They also get `matched_points`, of which only the first POINTS are drawn.
    """
    if project.patterns is None:
        return queue
    known, pairs = project.by_key, queue["pairs"]
    keys = [photograph["key"] for photograph in queue["photographs"]]
    rows = [known[keys[n]] for n in sorted({pair[name] for pair in pairs for name in "ab"})]
    there = foreground_keypoints(project.patterns, rows, keypoints(project.folder, rows, {}, project.displaced))
    features = {row.key: one for row, one in zip(rows, there, strict=True)}
    shown = [[known[keys[pair[name]]] for name in "ab"] for pair in pairs]
    with local.verifying() as pool, Progress("Matched points", len(pairs), "pairs") as progress:
        for pair, points in zip(pairs, pool.map(partial(_points, features=features), shown), strict=True):
            pair |= points
            progress.advance()
    return queue


def _points(rows: list[Photograph], features: dict[str, local.LocalFeatures]) -> dict[str, Any]:
    a, b = (features[row.key] for row in rows)
    matches = local.verified_matches(a, b)
    both = [one.points[chosen[:POINTS]] for one, chosen in ((a, matches.first), (b, matches.second))]
    points = np.concatenate(both, axis=1).astype(np.float64).round(3)
    return {"matched_points": len(matches), "points": points.tolist()}
