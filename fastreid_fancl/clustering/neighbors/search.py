"""Exact k-nearest neighbours in two steps: a fast, approximate search for candidates, then their exact distances.

A candidate search may be approximate, as long as it gives lower bounds of the distances, also for the rows that it
leaves out. If the bounds do not prove that a row's k nearest are among its candidates, the row is compared with all
others once more, and the distance of every row that may be near enough is computed exactly. So the result does not
depend on the candidate search: on one device every exact backend gives the same result.

Shapes: N rows, D dimensions, k neighbours.
"""

import logging
from math import isqrt

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ...logs import log_once
from ...packages import INSTALL_FAISS, has_faiss
from .candidates import TILE, tile_candidates
from .cost import cheapest
from .device import BLOCK_BYTES, update_nearest_on_device
from .exact import RowBlock, candidate_count, empty_lists, refine, update_nearest_within
from .faiss import flat_candidates, ivf_candidates
from .operands import float32_operand, int8_operand, squared_norms

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "float32", "int8", "faiss", "faiss_ivf")
SEARCHES = {"auto": "auto", "exact": "float32", "faiss": "faiss", "faiss_ivf": "faiss_ivf"}
"""Backends by the values of PSEUDO_LABELS.NEIGHBOURS."""
LARGEST_SQUARED_NORM = 1e36  # the sum of four such numbers does not overflow float32
RECALL_SAMPLE = 200  # rows on which the recall of faiss_ivf is measured


def knn(
    features: np.ndarray | Tensor, k: int, backend: str = "auto", block_bytes: int = BLOCK_BYTES
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest rows of every row, itself included, by squared Euclidean distance in float32.

    Each row comes first in its own list, at distance 0; the others follow in the order of (distance, index), so the
    result is well defined even if rows are equal. Rows need not be normalised and may be zero.

    Args:
        features: (N, D) array or tensor.
        k: neighbours, the row itself included; at most N are returned.
        backend: where candidates come from. Exact are "float32" (products on the features' device), "int8" (quantised
            products on the CPU) and "faiss" (its flat index). "auto" takes the faster of the first two and
            logs the expected seconds and bytes. "faiss_ivf" is approximate, for more rows than the others can handle:
            it searches only the nearest cells, on the CPU, and logs the recall on a sample.
        block_bytes: memory for the products, and the same again for the features of the candidates.

    Returns:
        Squared distances, float32, and row numbers, int64; both (N, min(k, N)) arrays.

    Raises:
        ValueError: if the features are not finite or not (N, D) with N > 0, if k or block_bytes is below 1, or if the
            backend is unknown or not installed.
    """
    features = as_features(features)
    _check(k, backend, block_bytes)
    rows, k = len(features), min(k, len(features))
    if k == 1:
        return np.zeros((rows, 1), dtype=np.float32), np.arange(rows)[:, None]
    if backend == "auto":
        cost = cheapest(rows, features.shape[1], k, features.device, block_bytes)
        backend = cost.backend
        log_once(logger, logging.INFO, f"Nearest neighbours of {rows} x {features.shape[1]}: {cost}.")
    if backend == "float32" and features.device.type != "cpu":
        return _search_on_device(features, k, block_bytes)
    return _search_on_cpu(features.cpu(), k, backend, block_bytes, features.device)


def as_features(features: np.ndarray | Tensor) -> Tensor:
    """Convert features to a contiguous float32 tensor (N, D) on their device.

    Raises:
        ValueError: if the shape is another, if there are no rows, or if rows are not finite; it names the rows.
    """
    if isinstance(features, np.ndarray):
        features = np.ascontiguousarray(features)  # PyTorch does not accept negative strides
    features = torch.as_tensor(features).detach().to(torch.float32).contiguous()
    if features.ndim != 2 or features.numel() == 0:
        raise UserError(
            f"Expected features of shape (N, D) with N, D > 0, got {tuple(features.shape)}: pass one row per image."
        )
    # The negation catches NaN as well.
    wrong = torch.nonzero(~(squared_norms(features) <= LARGEST_SQUARED_NORM)).flatten().tolist()
    if wrong:
        shown = ", ".join(map(str, wrong[:10])) + (", ..." if len(wrong) > 10 else "")
        raise UserError(
            f"Expected finite features, got NaN, infinite or huge values in {len(wrong)} of {len(features)} rows: "
            f"{shown}. If all are wrong the training diverged: lower the learning rate. If few are: check those images."
        )
    return features


def _check(k: int, backend: str, block_bytes: int) -> None:
    if k < 1:
        raise UserError(f"Expected k of at least 1, the row itself, got {k}: ask for one neighbour or more.")
    if backend not in BACKENDS:
        raise UserError(f"Expected a backend out of {', '.join(BACKENDS)}, got {backend!r}.")
    if backend.startswith("faiss") and not has_faiss():
        raise UserError(f"Expected faiss to be installed for backend {backend!r}: {INSTALL_FAISS}, or take 'auto'.")
    if block_bytes < 1:
        raise UserError(f"Expected block_bytes of at least 1, got {block_bytes}: leave it out for 1 GiB.")


def _search_on_cpu(
    features: Tensor, k: int, backend: str, block_bytes: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Search on the CPU; the flat index of faiss may lie on the device that the features came from."""
    rows = row_block(features, features.mean(dim=0), "int8" if backend == "int8" else "float32")
    count = candidate_count(k)
    if backend == "faiss_ivf":
        distance, index = refine(features.numpy(), ivf_candidates(rows.operand, count), k)
        _make_exact(rows, distance, index, np.flatnonzero(np.isinf(distance[:, -1])))
        _log_recall(rows, distance, index)
        return distance, index
    if backend == "faiss":
        candidates = flat_candidates(rows.operand, count, device)
    else:
        side = isqrt(block_bytes // (4 * torch.get_num_threads()))
        candidates = tile_candidates(rows.operand, count, max(1, min(TILE, side)))
    distance, index = refine(features.numpy(), candidates, k)
    _make_exact(rows, distance, index, np.flatnonzero(distance[:, -1] >= candidates.bound[:, -1]))
    return distance, index


def _search_on_device(features: Tensor, k: int, block_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    rows = row_block(features, features.mean(dim=0), "float32")
    distance, index = empty_lists(rows.number, k)
    update_nearest_on_device(rows, rows, distance, index, block_bytes)
    return distance, index


def row_block(features: Tensor, origin: Tensor, kind: str, first: int = 0) -> RowBlock:
    """Features (N, D) with their operand of a kind, "int8" or "float32", and row numbers that begin at `first`."""
    operand = (int8_operand if kind == "int8" else float32_operand)(features, origin)
    return RowBlock(features, operand, torch.arange(first, first + len(features), device=features.device))


def _make_exact(rows: RowBlock, distance: np.ndarray, index: np.ndarray, chosen: np.ndarray) -> None:
    """Make the lists of the chosen rows exact, in place; their last distances limit how far to search."""
    if not len(chosen):
        return
    logger.debug("%d of %d rows are searched exactly: their neighbours are close together", len(chosen), len(distance))
    queries = rows[torch.from_numpy(chosen)]
    distances, indices = empty_lists(queries.number, distance.shape[1])
    update_nearest_within(queries, rows, distances, indices, distance[chosen, -1])
    distance[chosen], index[chosen] = distances, indices


def _log_recall(rows: RowBlock, distance: np.ndarray, index: np.ndarray) -> None:
    number, k = index.shape
    sample = np.random.default_rng(0).choice(number, min(number, RECALL_SAMPLE), replace=False)
    exact = index.copy()
    _make_exact(rows, distance.copy(), exact, sample)
    recall = np.mean([len(np.intersect1d(*pair)) / k for pair in zip(index[sample], exact[sample], strict=True)])
    logger.warning("Approximate neighbours by faiss_ivf: recall %.3f on %d rows", recall, len(sample))
