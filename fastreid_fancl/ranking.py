"""The ranking of a gallery for queries. Q queries, G gallery images."""

import logging
from typing import NamedTuple

import numpy as np

from .errors import UserError

logger = logging.getLogger(__name__)

# The most elements of the distance matrix to sort at once.
BLOCK = 1 << 22


class Ranking(NamedTuple):
    """The scores of a search for each query; infinity and NaN if the gallery has no match.

    Attributes:
        first: (Q,) rank of the first match, from 1.
        precision: (Q,) average precision.
        penalty: (Q,) inverse negative penalty: number of matches / rank of the last match.
    """

    first: np.ndarray
    precision: np.ndarray
    penalty: np.ndarray

    def of_matched(self) -> "Ranking":
        """The scores of the queries that have a match."""
        matched = np.isfinite(self.first)
        return Ranking(*(values[matched] for values in self))

    def shares(self, ranks: int) -> np.ndarray:
        """(ranks,) float32 share of queries with a match among the first 1, 2, ... ranks (CMC); all have a match.

        Ranks beyond the gallery count as matched.
        """
        matched = self.first[:, None] <= np.arange(1, ranks + 1)
        return matched.sum(axis=0).astype(np.float32) / np.float32(len(matched))


def checked_market1501(distances, q_pids, g_pids, q_camids, g_camids) -> Ranking:
    """`market1501` for scores: a warning counts the queries without a match.

    Raises:
        UserError: without queries or gallery, on distances that are not finite, or if no query has a match.
    """
    num_query, num_gallery = distances.shape
    if num_query == 0 or num_gallery == 0:
        raise UserError(f"Expected queries and gallery images, got {num_query} and {num_gallery}: check the split.")
    if not np.isfinite(distances).all():
        raise UserError("Expected finite distances, got NaN or infinity: the model's weights have diverged.")
    ranking = market1501(distances, q_pids, g_pids, q_camids, g_camids)
    lost = num_query - int(np.isfinite(ranking.first).sum())
    if lost == num_query:
        shared = np.isin(q_pids, g_pids).sum()
        raise UserError(
            f"No query has a match in the gallery: {shared} of {num_query} query identities are there, but images of "
            "the query's own camera do not count. Where no cameras are known, give queries camera 0 and gallery 1."
        )
    if lost:
        logger.warning(f"{lost} of {num_query} queries have no match in the gallery and do not count.")
    return ranking


def market1501(distances, q_pids, g_pids, q_camids, g_camids) -> Ranking:
    """Rank by the Market-1501 protocol, which leaves out gallery images of the query's identity and camera.

    Args:
        distances: (Q, G).
        q_pids, q_camids: (Q,) identities and cameras; g_pids, g_camids: (G,).
    """
    first, precisions, penalties = [], [], []
    step = max(1, BLOCK // distances.shape[1])
    for start in range(0, len(distances), step):
        rows = slice(start, start + step)
        order = np.argsort(distances[rows], axis=1)
        same = g_pids[order] == q_pids[rows, None]
        kept = ~(same & (g_camids[order] == q_camids[rows, None]))
        match = same & kept
        ranks = np.maximum(kept.cumsum(axis=1), 1)
        hits = match.cumsum(axis=1)
        first.append(np.where(match, ranks, np.inf).min(axis=1))
        with np.errstate(invalid="ignore"):  # 0 / 0 without a match
            precisions.append((match * hits / ranks).sum(axis=1) / hits[:, -1])
            penalties.append(hits[:, -1] / (match * ranks).max(axis=1))
    return Ranking(np.concatenate(first), np.concatenate(precisions), np.concatenate(penalties))
