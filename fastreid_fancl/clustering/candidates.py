"""Candidates for the nearest neighbours: a search may be rough, as long as it says how near it could have missed.

Shapes: N rows, D dimensions, k neighbours, C >= k candidates.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .threads import over_rows

SPARE_CANDIDATES = 8  # beyond k: a gap between neighbour k and the floor, wider than rounding errors
TILE = (512, 4096)  # rows and columns, a multiple of the rows, of the products on the CPU; 8 MB of float32
DEVICE_BLOCK_ELEMENTS = 1 << 28  # of the products, and of the gathered candidates, on other devices; 1 GB of float32


class Candidates(NamedTuple):
    """What a candidate search found.

    Attributes:
        index: (N, C) rows that may be among the k nearest; the row itself may be missing, as it is known to be first.
        floor: (N,) no row outside the list has a smaller squared distance; infinite where none is outside.
    """

    index: np.ndarray | Tensor
    floor: np.ndarray | Tensor


def squared_norms(features: Tensor) -> Tensor:
    """(N,) squared Euclidean norms of the rows."""
    return torch.linalg.vector_norm(features, dim=1).square()


def _centred(features: Tensor) -> tuple[Tensor, Tensor]:
    """Features less their mean, (N, D), and their squared norms, (N,).

    Distances stay, and what rounding takes from |x|^2 + |y|^2 - 2 x.y shrinks: the features of one network often lie in
    a narrow cone.
    """
    centred = features - features.mean(dim=0)
    return centred, squared_norms(centred)


def _rounding(dimensions: int) -> float:
    """A share e, so that (1 - e) (|x|^2 + |y|^2) - 2 x.y is a lower bound of the squared distance.

    The error of a float32 dot product is about sqrt(D) eps |x| |y|; this is four times that.
    """
    return 4 * torch.finfo(torch.float32).eps * dimensions**0.5


def _candidate_count(rows: int, k: int) -> int:
    return min(rows, k + SPARE_CANDIDATES)


def tile_candidates(features: Tensor, k: int) -> Candidates:
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
def offer(distances: np.ndarray, indices: np.ndarray, distance: float, index: int) -> None:
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
                offer(own_bounds, own_index, bound, left + m)
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
                offer(bounds[left + m], index[left + m], bound, top + n)
                limits[m] = bounds[left + m, -1]


def faiss_candidates(features: Tensor, k: int) -> Candidates:
    """Candidates by faiss's flat index."""
    import faiss

    features, squared = _centred(features)
    rows, count = len(features), _candidate_count(len(features), k)
    table = faiss.IndexFlatL2(features.shape[1])
    table.add(features.numpy())
    distance, index = table.search(features.numpy(), count)
    if count == rows:
        return Candidates(index, np.full(rows, np.inf, dtype=np.float32))
    # The error of a distance grows with the norms of both rows; but a row left out with more than four times
    # |x|^2 + last is farther than the last by the triangle inequality, whatever its error.
    last, error = distance[:, -1], _rounding(features.shape[1])
    return Candidates(index, last - error * (5 * squared.numpy() + 4 * last))


@contextmanager
def _full_float32():
    """Products of all 24 bits on GPUs that would take TensorFloat-32's 11."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed


def block_candidates(features: Tensor, k: int) -> Candidates:
    """Candidates by blocks of rows of all products, on the features' device."""
    features, squared = _centred(features)
    norms = (1 - _rounding(features.shape[1])) * squared
    rows, count = len(features), _candidate_count(len(features), k)
    index = torch.empty(rows, count, dtype=torch.int64, device=features.device)
    floor = torch.full_like(norms, torch.inf)
    with _full_float32():
        for part in blocks(rows, rows):
            bounds = torch.addmm(norms, features[part], features.T, alpha=-2).add_(norms[part, None])
            nearest, index[part] = bounds.topk(count, largest=False)
            if count < rows:
                floor[part] = nearest[:, -1]
    return Candidates(index, floor)


def blocks(rows: int, elements_a_row: int) -> Iterator[slice]:
    """Consecutive slices of `range(rows)`, of a bounded number of elements each."""
    size = max(1, DEVICE_BLOCK_ELEMENTS // elements_a_row)
    return (slice(begin, begin + size) for begin in range(0, rows, size))
