"""Find candidates for the nearest neighbours of all rows, from tiles of the lower triangle of their products.

Each tile of products serves both its rows and its columns. Every row keeps its C smallest lower bounds: bounds up to
the row's limit are appended to a list of length 2 C; when the list is full, its smaller half stays and sets the new
limit. A bound and the number of its row are packed into one integer, the bits of the bound above those of the row, so
that sorting the integers sorts by (bound, row).

Each thread processes whole tiles, whose products run on that thread alone: on shared machines this is faster than one
product on all threads. The order of the threads does not matter, since the C smallest bounds are the same.

Shapes: N rows, D dimensions, C candidates a row.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .operands import Operand
from .threads import over_rows, run_on_threads

TILE = 1024  # rows and columns of a tile
CHUNK = 64  # columns whose bounds are tested together


class Candidates(NamedTuple):
    """Result of a candidate search.

    Attributes:
        row: (N, C) rows that may be among the nearest, each once; the row itself may be one of them.
        bound: (N, C) lower bounds of their squared distances, ascending. The last is also a lower bound for every row
            that is not listed.
    """

    row: np.ndarray
    bound: np.ndarray


class _CandidateLists(NamedTuple):
    """Candidate lists of all rows.

    Attributes:
        key: (N, 2 C) packed bounds and row numbers.
        length: (N,) how many keys of each list are in use.
        limit: (N,) largest bound that is still appended.
    """

    key: np.ndarray
    length: np.ndarray
    limit: np.ndarray


def product_into(left: Tensor, right: Tensor, out: Tensor) -> np.ndarray:
    """Inner products (n, m) of rows (n, D) and (m, D), written to the buffer `out` and returned as a view of it."""
    view = out[: len(left) * len(right)].view(len(left), len(right))
    return (torch._int_mm if left.dtype == torch.int8 else torch.mm)(left, right.T, out=view).numpy()


def product_buffer(operand: Operand, products: int) -> Tensor:
    """Allocate a buffer for so many products of an operand: int32 for int8 values, else float32."""
    return torch.empty(products, dtype=torch.int32 if operand.values.dtype == torch.int8 else torch.float32)


def tile_candidates(operand: Operand, count: int, tile: int | None = None) -> Candidates:
    """Find, for every row, the `count` rows with the smallest lower bounds; on the CPU, in tiles of side `tile`."""
    rows, count, tile = len(operand.values), min(count, len(operand.values)), tile or TILE
    lists = _CandidateLists(
        key=np.full((rows, 2 * count), np.iinfo(np.int64).max),
        length=np.zeros(rows, dtype=np.int64),
        limit=np.full(rows, np.inf, dtype=np.float32),
    )
    scale, norm = operand.scale.numpy(), operand.norm.numpy()
    blocks = range(0, rows, tile)
    locks = {begin: Lock() for begin in blocks}
    # In the order of diagonals, so that tiles processed at the same time rarely share rows and wait for a lock.
    tiles = ((top, top - shift) for shift in blocks for top in blocks[shift // tile :])

    def work(tiles: Iterator[tuple[int, int]]) -> None:
        buffer = product_buffer(operand, tile * tile)
        for top, left in tiles:
            products = product_into(operand.values[top : top + tile], operand.values[left : left + tile], buffer)
            with locks[left], locks[top] if top != left else nullcontext():
                _append_tile(products, scale, norm, *lists, lists.key.view(np.float32), top, left)

    run_on_threads(tiles, work)
    over_rows(0, rows, lambda begin, end: _finish_rows(lists, begin, end))
    halves = lists.key[:, :count].view(np.int32)
    return Candidates(halves[:, ::2], halves[:, 1::2].view(np.float32))


@njit(cache=True, nogil=True)
def any_within(
    products: np.ndarray,
    scale: float,
    norm: float,
    scales: np.ndarray,
    norms: np.ndarray,
    limit: float,
    limits: np.ndarray,
) -> bool:
    """Whether any lower bound from a row's products is within the limit of the row or of its column; vectorised."""
    within = False
    for m in range(len(products)):
        within |= norm + norms[m] - scale * scales[m] * np.float32(products[m]) <= max(limit, limits[m])
    return within


@njit(cache=True, nogil=True)
def _append_tile(
    products: np.ndarray,
    scale: np.ndarray,
    norm: np.ndarray,
    key: np.ndarray,
    length: np.ndarray,
    limit: np.ndarray,
    half: np.ndarray,
    top: int,
    left: int,
) -> None:
    """Append a tile's rows to the lists of its columns and the other way round; `half` is `key` viewed as float32."""
    height, width = products.shape
    scales, norms, limits = scale[left : left + width], norm[left : left + width], limit[left : left + width].copy()
    if top == left:
        limits[:] = -np.inf  # a tile on the diagonal holds each pair twice: rows serve both directions
    full = key.shape[1]
    bounds = np.empty(CHUNK, dtype=np.float32)
    bits = bounds.view(np.int32)
    for i in range(top, top + height):
        row, count, last = products[i - top], length[i], limit[i]
        for begin in range(0, width, CHUNK):
            part = slice(begin, min(begin + CHUNK, width))
            if not any_within(row[part], scale[i], norm[i], scales[part], norms[part], last, limits[part]):
                continue
            for m in range(begin, part.stop):
                bound = norm[i] + norms[m] - scale[i] * scales[m] * np.float32(row[m])
                bounds[m - begin] = max(np.float32(0), bound)  # the bits of floats without a sign sort as the floats do
            for m in range(begin, part.stop):
                j, bound, code = left + m, bounds[m - begin], np.int64(bits[m - begin]) << 32
                if bound <= last:
                    key[i, count] = code | j
                    count += 1
                    if count == full:
                        count, last = full // 2, _halve(key[i], half[i])
                if bound <= limits[m]:
                    key[j, length[j]] = code | i
                    length[j] += 1
                    if length[j] == full:
                        length[j], limits[m] = full // 2, _halve(key[j], half[j])
                        limit[j] = limits[m]
        length[i], limit[i] = count, last


@njit(cache=True, nogil=True)
def _halve(keys: np.ndarray, half: np.ndarray) -> np.float32:
    """Move the smaller half of a list to its front; return the largest bound in it.

    By Hoare's quickselect: numba takes more than ten seconds to compile `np.partition`.
    """
    last = len(keys) // 2 - 1
    low, high = 0, len(keys) - 1
    while low < high:
        pivot, i, j = keys[(low + high) // 2], low, high
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while keys[j] > pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i, j = i + 1, j - 1
        if j < last < i:
            break
        low, high = (low, j) if last <= j else (i, high)
    return half[2 * last + 1]


def _finish_rows(lists: _CandidateLists, begin: int, end: int) -> None:
    """Sort the lists of rows begin..end. By NumPy, as numba takes seconds to compile its sort, which is slower."""
    keys = lists.key[begin:end]
    keys[np.arange(keys.shape[1]) >= lists.length[begin:end, None]] = np.iinfo(np.int64).max  # left by `_halve`
    keys.sort(axis=1)
