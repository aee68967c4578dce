"""Exact k-nearest neighbours in two steps: candidates by matrix products, then order and proof by exact distances.

A candidate search may be as rough as it likes, as long as it says how near a row that it left out could be (`floor`).
Rows whose k nearest are not proven by that are searched again one by one, so the result never depends on the search.

Shapes: N rows, D dimensions, k neighbours, C >= k candidates.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .threads import over_rows

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "torch", "faiss")
SPARE_CANDIDATES = 8  # beyond k: a gap between neighbour k and the floor, wider than rounding errors
TILE = (512, 4096)  # rows and columns of the products on the CPU; 8 MB of float32
DEVICE_BLOCK_ELEMENTS = 1 << 28  # of the products, and of the gathered candidates, on other devices; 1 GB of float32
LARGEST_SQUARED_NORM = 1e36  # sums of four such numbers are still float32


class Candidates(NamedTuple):
    """What a candidate search found.

    Attributes:
        index: (N, C) rows that may be among the k nearest; the row itself may be missing, as it is known to be first.
        floor: (N,) no row outside the list has a smaller squared distance; infinite where none is outside.
    """

    index: np.ndarray | Tensor
    floor: np.ndarray | Tensor


def knn(features: np.ndarray | Tensor, k: int, backend: str = "auto") -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows of every row, itself included, by squared Euclidean distance in float32.

    Each row comes first in its own list, at distance 0; the others follow by (distance, index), so that the result is
    defined where rows are equal. Rows need no normalisation and may be zero.

    Args:
        features: (N, D) array or tensor; a tensor is searched on its own device.
        k: neighbours, the row itself included; above N it is taken as N.
        backend: "torch", "faiss" (on the CPU), or "auto", the faster of them.

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
        candidates = _faiss_candidates(features, k)
    elif features.device.type == "cpu":
        candidates = _tile_candidates(features, k)
    else:
        return _search_on_device(features, k)
    return _refine(features.numpy(), candidates, k)


def as_features(features: np.ndarray | Tensor) -> Tensor:
    """Features as a contiguous float32 tensor (N, D) on their device.

    Raises:
        ValueError: on another shape, no rows, or rows that are not finite; it names the rows.
    """
    features = torch.as_tensor(features).detach().to(torch.float32).contiguous()
    if features.ndim != 2 or features.numel() == 0:
        raise ValueError(
            f"Expected features of shape (N, D) with N, D > 0, got {tuple(features.shape)}: pass one row an image."
        )
    # Negated, so that NaN is caught.
    wrong = torch.nonzero(~(_squared_norms(features) <= LARGEST_SQUARED_NORM)).flatten().tolist()
    if wrong:
        shown = ", ".join(map(str, wrong[:10])) + (", ..." if len(wrong) > 10 else "")
        raise ValueError(
            f"Expected finite features, got NaN, infinite or huge values in {len(wrong)} of {len(features)} rows ({shown}). "
            "If all rows are wrong the training diverged: lower the learning rate. If few are: check those images."
        )
    return features


def _squared_norms(features: Tensor) -> Tensor:
    return torch.linalg.vector_norm(features, dim=1).square()


def _choose_backend(backend: str, features: Tensor) -> str:
    if backend not in BACKENDS:
        raise ValueError(f"Expected a backend out of {', '.join(BACKENDS)}, got {backend!r}.")
    if backend == "faiss" and not _has_faiss():
        raise ValueError("Expected faiss to be installed for backend 'faiss': install faiss-cpu, or take 'torch'.")
    if backend != "auto":
        return backend
    _log_choice("torch", features.device.type)
    return "torch"


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


def _centred(features: Tensor) -> tuple[Tensor, Tensor]:
    """Features less their mean, (N, D), and their squared norms, (N,).

    Distances stay, and what rounding takes from |x|^2 + |y|^2 - 2 x.y shrinks: the features of one network often lie in
    a narrow cone.
    """
    centred = features - features.mean(dim=0)
    return centred, _squared_norms(centred)


def _rounding(dimensions: int) -> float:
    """A share e, so that (1 - e) (|x|^2 + |y|^2) - 2 x.y is a lower bound of the squared distance.

    The error of a float32 dot product is about sqrt(D) eps |x| |y|; this is four times that.
    """
    return 4 * torch.finfo(torch.float32).eps * dimensions**0.5


def _candidate_count(rows: int, k: int) -> int:
    return min(rows, k + SPARE_CANDIDATES)


def _tile_candidates(features: Tensor, k: int) -> Candidates:
    """Candidates by tiles of the lower triangle of all products, each of which serves its rows and its columns."""
    features, squared = _centred(features)
    norms = ((1 - _rounding(features.shape[1])) * squared).numpy()
    rows, count = len(features), _candidate_count(len(features), k)
    bounds = np.full((rows, count), np.inf, dtype=np.float32)
    index = np.full((rows, count), rows, dtype=np.int64)
    for top in range(0, rows, TILE[0]):
        bottom = min(top + TILE[0], rows)
        for left in range(0, bottom, TILE[1]):
            right = min(left + TILE[1], bottom)
            products = torch.mm(features[top:bottom], features[left:right].T).numpy()
            _offer_tile(products, norms, bounds, index, top, left)
    return Candidates(index, bounds[:, -1] if count < rows else np.full(rows, np.inf, dtype=np.float32))


def _offer_tile(products: np.ndarray, norms: np.ndarray, bounds: np.ndarray, index: np.ndarray, top: int, left: int):
    height, width = products.shape

    def offer_columns_to_rows(begin: int, end: int) -> None:
        _offer_to_rows(products, norms, bounds, index, top, left, begin, end)

    def offer_rows_to_columns(begin: int, end: int) -> None:
        _offer_to_columns(products, norms, bounds, index, top, left, begin, end)

    over_rows(height, offer_columns_to_rows, ranges_per_thread=1)
    over_rows(min(width, top - left), offer_rows_to_columns, ranges_per_thread=1)


@njit(cache=True, nogil=True)
def _offer(distances: np.ndarray, indices: np.ndarray, distance: float, index: int) -> None:
    """Insert (distance, index) into an ascending list of fixed length, which loses its last entry."""
    place = len(distances)
    while place > 0 and (
        distance < distances[place - 1] or (distance == distances[place - 1] and index < indices[place - 1])
    ):
        place -= 1
    if place == len(distances):
        return
    for n in range(len(distances) - 1, place, -1):
        distances[n] = distances[n - 1]
        indices[n] = indices[n - 1]
    distances[place] = distance
    indices[place] = index


@njit(cache=True, nogil=True)
def _offer_to_rows(products, norms, bounds, index, top, left, begin, end):
    """Offer all columns of a tile to its rows begin..end."""
    for n in range(begin, end):
        norm, own_bounds, own_index = norms[top + n], bounds[top + n], index[top + n]
        limit = own_bounds[-1]
        for m in range(products.shape[1]):
            bound = norm + norms[left + m] - 2 * products[n, m]
            if bound <= limit:
                _offer(own_bounds, own_index, bound, left + m)
                limit = own_bounds[-1]


@njit(cache=True, nogil=True)
def _offer_to_columns(products, norms, bounds, index, top, left, begin, end):
    """Offer all rows of a tile to its columns begin..end."""
    limits = bounds[left : left + end, -1].copy()
    for n in range(products.shape[0]):
        norm = norms[top + n]
        for m in range(begin, end):
            bound = norm + norms[left + m] - 2 * products[n, m]
            if bound <= limits[m]:
                _offer(bounds[left + m], index[left + m], bound, top + n)
                limits[m] = bounds[left + m, -1]


def _faiss_candidates(features: Tensor, k: int) -> Candidates:
    """Candidates by faiss's flat index."""
    import faiss

    features, squared = _centred(features)
    rows, count = len(features), _candidate_count(len(features), k)
    table = faiss.IndexFlatL2(features.shape[1])
    table.add(features.numpy())
    distance, index = table.search(features.numpy(), count)
    if count == rows:
        return Candidates(index, np.full(rows, np.inf, dtype=np.float32))
    return Candidates(index, distance[:, -1] - _rounding(features.shape[1]) * (squared + squared.max()).numpy())


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
                _offer(distance[i, 1:], index[i, 1:], _squared_distance(features[i], features[j]), j)


@njit(cache=True, nogil=True)
def _search_rows(features, rows, distance, index):
    """Fill distance and index of the given rows from all rows, the row itself first."""
    for i in rows:
        distance[i, 1:] = np.inf
        for j in range(len(features)):
            if j != i:
                _offer(distance[i, 1:], index[i, 1:], _squared_distance(features[i], features[j]), j)
            if distance[i, -1] == 0:
                break  # no later row is nearer, and of equal rows the earlier count


def _search_on_device(features: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """As the search on the CPU, on the features' device and without the symmetry."""
    with _full_float32():
        candidates = _block_candidates(features, k)
    distance, index = _refine_on_device(features, candidates.index, k)
    unproven = torch.nonzero(distance[:, -1] >= candidates.floor).flatten().cpu().numpy()
    distance, index = distance.cpu().numpy(), index.cpu().numpy()
    if len(unproven):
        _search_again(features.cpu().numpy(), distance, index, unproven)
    return distance, index


@contextmanager
def _full_float32():
    """Products of all 24 bits on GPUs that would take TensorFloat-32's 11."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed


def _block_candidates(features: Tensor, k: int) -> Candidates:
    features, squared = _centred(features)
    norms = (1 - _rounding(features.shape[1])) * squared
    rows, count = len(features), _candidate_count(len(features), k)
    index = torch.empty(rows, count, dtype=torch.int64, device=features.device)
    floor = torch.full_like(norms, torch.inf)
    for part in _blocks(rows, rows):
        bounds = torch.addmm(norms, features[part], features.T, alpha=-2).add_(norms[part, None])
        nearest, index[part] = bounds.topk(count, largest=False)
        if count < rows:
            floor[part] = nearest[:, -1]
    return Candidates(index, floor)


def _refine_on_device(features: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    rows, count = candidates.shape
    distance = torch.empty(rows, k, device=features.device)
    index = torch.empty(rows, k, dtype=torch.int64, device=features.device)
    candidates = candidates.sort(dim=1).values  # and by distance below: a stable sort leaves ties in this order
    for part in _blocks(rows, count * features.shape[1]):
        exact = (features[candidates[part]] - features[part, None]).square_().sum(dim=-1)
        exact[candidates[part] == torch.arange(rows, device=features.device)[part, None]] = -1
        exact, order = exact.sort(dim=1, stable=True)
        distance[part], index[part] = exact[:, :k].clamp(min=0), candidates[part].gather(1, order[:, :k])
    return distance, index


def _blocks(rows: int, elements_a_row: int) -> Iterator[slice]:
    size = max(1, DEVICE_BLOCK_ELEMENTS // elements_a_row)
    return (slice(begin, begin + size) for begin in range(0, rows, size))
