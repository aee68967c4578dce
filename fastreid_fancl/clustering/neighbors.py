"""Exact k-nearest neighbours in two steps: candidates by matrix products, then order and proof by exact distances.

A candidate search may be as rough as it likes, as long as it says how near a row that it left out could be (`floor`).
Rows whose k nearest are not proven by that are searched again one by one, so the result never depends on the search.

Shapes: N rows, D dimensions, k neighbours, C >= k candidates.
"""

import logging
from functools import lru_cache

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .candidates import (
    Candidates,
    block_candidates,
    blocks,
    faiss_candidates,
    offer,
    squared_norms,
    tile_candidates,
)
from .threads import over_rows

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "torch", "faiss")
FAISS_BELOW_DIMENSIONS = 512  # with longer rows the symmetry saves more than faiss's faster selection
LARGEST_SQUARED_NORM = 1e36  # sums of four such numbers are still float32


def knn(features: np.ndarray | Tensor, k: int, backend: str = "auto") -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows of every row, itself included, by squared Euclidean distance in float32.

    Each row comes first in its own list, at distance 0; the others follow by (distance, index), so that the result is
    defined where rows are equal. Rows need no normalisation and may be zero.

    Args:
        features: (N, D) array or tensor; a tensor is searched on its own device.
        k: neighbours, the row itself included; above N it is taken as N.
        backend: "torch", "faiss" (on the CPU), or "auto", the faster of them: faiss for short rows on the CPU if it
            is installed.

    Returns:
        Squared distances, float32, and row numbers, int64; both (N, min(k, N)) arrays.

    Raises:
        ValueError: on features that are not a finite (N, D) with N > 0, on k < 1, on an unknown or missing backend.
    """
    features = as_features(features)
    if k < 1:
        raise ValueError(f"Expected k of at least 1, the row itself, got {k}: ask for one neighbour or more.")
    k = min(k, len(features))
    if _choose_backend(backend, features) == "faiss":
        features = features.cpu()
        candidates = faiss_candidates(features, k)
    elif features.device.type == "cpu":
        candidates = tile_candidates(features, k)
    else:
        return _search_on_device(features, k)
    return _refine(features.numpy(), candidates, k)


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


def _choose_backend(backend: str, features: Tensor) -> str:
    if backend not in BACKENDS:
        raise ValueError(f"Expected a backend out of {', '.join(BACKENDS)}, got {backend!r}.")
    if backend == "faiss" and not _has_faiss():
        raise ValueError("Expected faiss to be installed for backend 'faiss': install faiss-cpu, or take 'torch'.")
    if backend != "auto":
        return backend
    short = features.device.type == "cpu" and features.shape[1] < FAISS_BELOW_DIMENSIONS
    backend = "faiss" if short and _has_faiss() else "torch"
    _log_choice(backend, features.device.type)
    return backend


@lru_cache
def _has_faiss() -> bool:
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return True


@lru_cache
def _log_choice(backend: str, device: str) -> None:
    logger.debug("Nearest neighbours by %s on %s", backend, device)


def _refine(features: np.ndarray, candidates: Candidates, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of the candidates by exact distance, or of all rows where the floor does not prove them."""
    rows = len(features)
    distance = np.full((rows, k), np.inf, dtype=np.float32)
    index = np.full((rows, k), rows, dtype=np.int64)
    over_rows(rows, lambda begin, end: _refine_rows(features, candidates.index, distance, index, begin, end))
    _search_again(features, distance, index, np.flatnonzero(distance[:, -1] >= candidates.floor))
    return distance, index


def _search_again(features: np.ndarray, distance: np.ndarray, index: np.ndarray, unproven: np.ndarray) -> None:
    if len(unproven):
        logger.debug("%d of %d rows are searched one by one: their neighbours are tied", len(unproven), len(features))
        over_rows(len(unproven), lambda begin, end: _search_rows(features, unproven[begin:end], distance, index))


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _squared_distance(x, y):
    total = np.float32(0)
    for d in range(len(x)):
        total += (x[d] - y[d]) * (x[d] - y[d])
    return total


@njit(cache=True, nogil=True)
def _refine_rows(features, candidates, distance, index, begin, end):
    """Fill distance and index of rows begin..end from their candidates, the row itself first."""
    for i in range(begin, end):
        distance[i, 0], index[i, 0] = 0, i
        for j in candidates[i]:
            if j != i:
                offer(distance[i, 1:], index[i, 1:], _squared_distance(features[i], features[j]), j)


@njit(cache=True, nogil=True)
def _search_rows(features, rows, distance, index):
    """Fill distance and index of the given rows from all rows, the row itself first."""
    for i in rows:
        distance[i, 0], index[i, 0] = 0, i
        distance[i, 1:] = np.inf
        for j in range(len(features)):
            if j != i:
                offer(distance[i, 1:], index[i, 1:], _squared_distance(features[i], features[j]), j)
            if distance[i, -1] == 0:
                break  # no later row is nearer, and of equal rows the earlier count


def _search_on_device(features: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """As the search on the CPU, on the features' device and without the symmetry."""
    candidates = block_candidates(features, k)
    distance, index = _refine_on_device(features, candidates.index, k)
    unproven = torch.nonzero(distance[:, -1] >= candidates.floor).flatten().cpu().numpy()
    distance, index = distance.cpu().numpy(), index.cpu().numpy()
    if len(unproven):
        _search_again(features.cpu().numpy(), distance, index, unproven)
    return distance, index


def _refine_on_device(features: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    rows, count = candidates.shape
    distance = torch.empty(rows, k, device=features.device)
    index = torch.empty(rows, k, dtype=torch.int64, device=features.device)
    candidates = candidates.sort(dim=1).values  # and by distance below: a stable sort leaves ties in this order
    for part in blocks(rows, count * features.shape[1]):
        exact = (features[candidates[part]] - features[part, None]).square_().sum(dim=-1)
        exact[candidates[part] == torch.arange(rows, device=features.device)[part, None]] = -1
        exact, order = exact.sort(dim=1, stable=True)
        distance[part], index[part] = exact[:, :k].clamp(min=0), candidates[part].gather(1, order[:, :k])
    return distance, index
