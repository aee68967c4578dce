"""Exact k-nearest neighbours. Rough candidates come first, their exact distances second.

A candidate search may be as rough as it likes, as long as it gives lower bounds of the distances, also for the rows
that it left out. Where these do not prove the k nearest of a row, it is compared with all others again, and all within
reach are measured. So the result never depends on the search: on one device every exact backend gives the same.

Shapes: N rows, D dimensions, k neighbours.
"""

import logging
from math import isqrt

import numpy as np
import torch
from torch import Tensor

from ...logs import log_once
from .candidates import TILE, tile_candidates
from .cost import cheapest
from .device import BLOCK_BYTES, improve_on_device
from .exact import Side, candidate_count, empty_lists, look_again, refine
from .faiss import flat_candidates, has_faiss, ivf_candidates
from .operands import float32_operand, int8_operand, squared_norms

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "float32", "int8", "faiss", "faiss_ivf")
LARGEST_SQUARED_NORM = 1e36  # sums of four such numbers are still float32
RECALL_SAMPLE = 200


def knn(
    features: np.ndarray | Tensor, k: int, backend: str = "auto", block_bytes: int = BLOCK_BYTES
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows of every row, itself included, by squared Euclidean distance in float32.

    Each row comes first in its own list, at distance 0; the others follow by (distance, index), so that the result is
    defined where rows are equal. Rows need no normalisation and may be zero.

    Args:
        features: (N, D) array or tensor.
        k: neighbours, the row itself included; above N it is taken as N.
        backend: where candidates come from. "float32", products on the features' device, "int8", quantised products on
            the CPU, and "faiss", its flat index on the CPU, are exact; "auto" is the faster of the first two and logs
            the seconds and bytes that it expects. "faiss_ivf" is not exact: it looks into the nearest cells only, for
            more rows than the others can take, and logs the recall of a sample.
        block_bytes: of the products, and of the features of candidates, that are in memory at once.

    Returns:
        Squared distances, float32, and row numbers, int64; both (N, min(k, N)) arrays.

    Raises:
        ValueError: on features that are not a finite (N, D) with N > 0, on k or block_bytes < 1, on an unknown or
            missing backend.
    """
    features = as_features(features)
    _check(k, backend, block_bytes)
    rows, k = len(features), min(k, len(features))
    if k == 1:
        return np.zeros((rows, 1), dtype=np.float32), np.arange(rows)[:, None]
    if backend == "auto":
        plan = cheapest(*features.shape, k, features.device, block_bytes)
        backend = plan.backend
        log_once(logger, logging.INFO, f"Nearest neighbours of {rows} x {features.shape[1]}: {plan}.")
    if backend == "float32" and features.device.type != "cpu":
        return _search_on_device(features, k, block_bytes)
    return _search_on_cpu(features.cpu(), k, backend, block_bytes)


def as_features(features: np.ndarray | Tensor) -> Tensor:
    """Features as a contiguous float32 tensor (N, D) on their device.

    Raises:
        ValueError: on another shape, no rows, or rows that are not finite; it names the rows.
    """
    if isinstance(features, np.ndarray):
        features = np.ascontiguousarray(features)  # torch takes no negative strides
    features = torch.as_tensor(features).detach().to(torch.float32).contiguous()
    if features.ndim != 2 or features.numel() == 0:
        raise ValueError(
            f"Expected features of shape (N, D) with N, D > 0, got {tuple(features.shape)}: pass one row an image."
        )
    # Negated, so that NaN is caught.
    wrong = torch.nonzero(~(squared_norms(features) <= LARGEST_SQUARED_NORM)).flatten().tolist()
    if wrong:
        shown = ", ".join(map(str, wrong[:10])) + (", ..." if len(wrong) > 10 else "")
        raise ValueError(
            f"Expected finite features, got NaN, infinite or huge values in {len(wrong)} of {len(features)} rows: "
            f"{shown}. If all are wrong the training diverged: lower the learning rate. If few are: check those images."
        )
    return features


def _check(k: int, backend: str, block_bytes: int) -> None:
    if k < 1:
        raise ValueError(f"Expected k of at least 1, the row itself, got {k}: ask for one neighbour or more.")
    if backend not in BACKENDS:
        raise ValueError(f"Expected a backend out of {', '.join(BACKENDS)}, got {backend!r}.")
    if backend.startswith("faiss") and not has_faiss():
        raise ValueError(f"Expected faiss to be installed for backend {backend!r}: install faiss-cpu, or take 'auto'.")
    if block_bytes < 1:
        raise ValueError(f"Expected block_bytes of at least 1, got {block_bytes}: leave it out for 1 GiB.")


def _search_on_cpu(features: Tensor, k: int, backend: str, block_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    rows = as_side(features, features.mean(dim=0), "int8" if backend == "int8" else "float32")
    count = candidate_count(k)
    if backend == "faiss_ivf":
        distance, index = refine(features.numpy(), ivf_candidates(rows.operand, count), k)
        _search_again(rows, distance, index, np.flatnonzero(np.isinf(distance[:, -1])))
        _log_recall(rows, distance, index)
        return distance, index
    if backend == "faiss":
        candidates = flat_candidates(rows.operand, count)
    else:
        side = isqrt(block_bytes // (4 * torch.get_num_threads()))
        candidates = tile_candidates(rows.operand, count, max(1, min(TILE, side)))
    distance, index = refine(features.numpy(), candidates, k)
    _search_again(rows, distance, index, np.flatnonzero(distance[:, -1] >= candidates.bound[:, -1]))
    return distance, index


def _search_on_device(features: Tensor, k: int, block_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    rows = as_side(features, features.mean(dim=0), "float32")
    distance, index = empty_lists(rows.number, k)
    improve_on_device(rows, rows, distance, index, block_bytes)
    return distance, index


def as_side(features: Tensor, origin: Tensor, kind: str, first: int = 0) -> Side:
    """Features (N, D) with their operand, "int8" or "float32", numbered from `first`."""
    operand = (int8_operand if kind == "int8" else float32_operand)(features, origin)
    return Side(features, operand, torch.arange(first, first + len(features), device=features.device))


def _search_again(rows: Side, distance: np.ndarray, index: np.ndarray, chosen: np.ndarray) -> None:
    """Make the lists of the chosen rows exact, in place; their ends tell how far to look."""
    if not len(chosen):
        return
    logger.debug("%d of %d rows are searched again: their neighbours are close", len(chosen), len(distance))
    queries = rows[torch.from_numpy(chosen)]
    distances, indices = empty_lists(queries.number, distance.shape[1])
    look_again(queries, rows, distances, indices, distance[chosen, -1])
    distance[chosen], index[chosen] = distances, indices


def _log_recall(rows: Side, distance: np.ndarray, index: np.ndarray) -> None:
    number, k = index.shape
    sample = np.random.default_rng(0).choice(number, min(number, RECALL_SAMPLE), replace=False)
    exact = index.copy()
    _search_again(rows, distance.copy(), exact, sample)
    recall = np.mean([len(np.intersect1d(*pair)) / k for pair in zip(index[sample], exact[sample], strict=True)])
    logger.warning("Approximate neighbours by faiss_ivf: recall %.3f on %d rows", recall, len(sample))
