"""Which photographs share spots: local naive Bayes nearest neighbours over all descriptors.

Crall et al., "HotSpotter - Patterned species instance recognition", WACV 2013, after McCann and Lowe, CVPR 2012. Each
descriptor of a photograph votes for the photographs of its K nearest descriptors, by how much nearer these are than the
one after them: score(i, j) = sum over the descriptors x of i whose neighbours x_1 .. x_K contain some of j, of
||x - x_K+1||^2 - ||x - x_p||^2. A spot that many photographs have votes for none of them.

Shapes: N photographs, n descriptors in all, W dimensions, k candidates.
"""

import logging
import time
from collections.abc import Sequence

import numpy as np
import torch

from ..errors import UserError
from ..packages import INSTALL_FAISS
from .features import LocalFeatures

logger = logging.getLogger(__name__)

NEIGHBORS = 4  # K
SEARCHED = 10  # nearest descriptors; the photograph's own are left out, the descriptor itself at least
QUERIES = 300  # descriptors of a photograph that vote, those of the highest contrast
FLAT = 50_000  # descriptors, up to which all are compared
CELLS = 4  # times the square root of the descriptors
PROBES = 8  # cells that a descriptor is looked for in
BLOCK = 64  # photographs whose descriptors are added or searched at once


def descriptor_candidates(features: Sequence[LocalFeatures], k: int) -> np.ndarray:
    """The k photographs that share most with each by the score above, best first: (N, k) int64, -1 for none.

    No result depends on the order of the photographs, on the number of threads or on chance: descriptors are whole
    numbers, so all distances are exact, and the cells' centres are descriptors themselves. The time grows as n^1.5.

    Raises:
        UserError: where faiss is not installed.
    """
    order = sorted(range(len(features)), key=lambda n: features[n].digest)
    ordered = [features[n].descriptors for n in order]
    owner = np.repeat(np.arange(len(order), dtype=np.int32), [len(rows) for rows in ordered])
    candidates = np.full((len(order), k), -1, dtype=np.int64)
    if len(owner) > SEARCHED and len(order) > 1:
        began = time.perf_counter()
        index = _index(ordered)
        for start in range(0, len(order), BLOCK):
            _vote(index, owner, ordered[start : start + BLOCK], start, candidates)
        logger.info(
            "Searched %d descriptors of %d photographs in %.1f s", len(owner), len(order), time.perf_counter() - began
        )
    result = np.full_like(candidates, -1)
    result[order] = np.where(candidates >= 0, np.array(order)[candidates], -1)
    return result


def _index(descriptors: list[np.ndarray]):
    """faiss's index of photographs' (n, W) uint8: all, or in cells around some of them with a byte for each number."""
    try:
        import faiss
    except ImportError as error:
        raise UserError(f"Expected faiss for the search of shared spots ({error}): {INSTALL_FAISS}.") from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    starts, width = np.cumsum([0, *map(len, descriptors)]), descriptors[0].shape[1]
    number = int(starts[-1])
    if number <= FLAT:
        index = faiss.IndexFlatL2(width)
    else:
        cells = cells_of(number)
        chosen = np.sort(np.random.default_rng(0).choice(number, cells, replace=False))
        centres = faiss.IndexFlatL2(width)
        owner = np.searchsorted(starts, chosen, side="right") - 1
        rows = [descriptors[n][row] for n, row in zip(owner.tolist(), (chosen - starts[owner]).tolist(), strict=True)]
        centres.add(np.stack(rows).astype(np.float32))
        index = faiss.IndexIVFScalarQuantizer(
            centres, width, cells, faiss.ScalarQuantizer.QT_8bit_direct, faiss.METRIC_L2, False
        )
        index.is_trained, index.nprobe = True, PROBES
    for start in range(0, len(descriptors), BLOCK):
        index.add(np.concatenate(descriptors[start : start + BLOCK]).astype(np.float32))
    return index


def cells_of(number: int) -> int:
    """Cells of an index of so many descriptors: about as much work to find the nearest cells as to look into them."""
    return int(CELLS * number**0.5)


def _vote(index, owner: np.ndarray, block: list[np.ndarray], start: int, candidates: np.ndarray) -> None:
    """Write the candidates of some photographs, numbered from `start`, into `candidates` (N, k)."""
    queries = [rows[:QUERIES] for rows in block]
    distance, neighbor = index.search(np.concatenate(queries).astype(np.float32), SEARCHED)
    splits = np.cumsum([len(rows) for rows in queries])[:-1]
    for n, (near, rows) in enumerate(zip(np.split(distance, splits), np.split(neighbor, splits), strict=True), start):
        photographs, scores = _scores(near, np.where(rows < 0, n, owner[rows]), n)
        best = np.lexsort((photographs, -scores))[: candidates.shape[1]]
        candidates[n, : len(best)] = photographs[best]


def _scores(distance: np.ndarray, photograph: np.ndarray, own: int) -> tuple[np.ndarray, np.ndarray]:
    """Photographs that get votes, and their scores: by the squared distances of descriptors' neighbours, (q, SEARCHED).

    Args:
        distance: in rising order.
        photograph: that each neighbour is of.
        own: the number of the photograph that asks.
    """
    others = photograph != own
    place = np.where(others, others.cumsum(axis=1), 0)  # 1 for a descriptor's first neighbour in another photograph
    last = place.max(axis=1).clip(max=NEIGHBORS + 1)
    background = np.where(place == last[:, None], distance, -np.inf).max(axis=1)
    votes = others & (place < last[:, None]) & (place > 0)
    photographs, inverse = np.unique(photograph[votes], return_inverse=True)
    gain = (background[:, None] - distance)[votes].astype(np.float64)
    scores = np.bincount(inverse, gain, minlength=len(photographs))
    return photographs[scores > 0], scores[scores > 0]
