"""Candidates for the nearest neighbours of all rows, by tiles of the lower triangle of their products.

Each tile of products serves its rows and its columns. A row keeps its C smallest lower bounds: bounds up to its limit
are appended to a list of twice the length, and when that is full the smaller half stays and sets the limit. A bound and
its row are one integer, the bits of the bound above those of the row, so that integers order them by (bound, row).

Threads take whole tiles, whose products run on one thread each: on shared machines that is faster than one product on
all threads. Which thread is first changes nothing, as the C smallest are the same.

Shapes: N rows, D dimensions, C candidates a row.
"""

from contextlib import nullcontext
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .operands import Operand
from .threads import over_rows, run_on_threads

TILE = 1024  # rows and columns
CHUNK = 64  # columns that are tested at once


class Candidates(NamedTuple):
    """What a candidate search found.

    Attributes:
        index: (N, C) rows that may be among the nearest, each once; the row itself may be among them.
        bound: (N, C) lower bounds of their squared distances, ascending. The last is one for the rows not listed, too.
    """

    index: np.ndarray | Tensor
    bound: np.ndarray | Tensor


class _Lists(NamedTuple):
    """Lists of all rows: keys (N, 2 C), how many there are (N,), and the limit of further bounds (N,)."""

    key: np.ndarray
    found: np.ndarray
    limit: np.ndarray


def product_into(left: Tensor, right: Tensor, out: Tensor) -> np.ndarray:
    """Products (n, m) of rows (n, D) and (m, D), as a view of `out`, int32 or float32, with room for them."""
    view = out[: len(left) * len(right)].view(len(left), len(right))
    return (torch._int_mm if left.dtype == torch.int8 else torch.mm)(left, right.T, out=view).numpy()


def product_room(operand: Operand, products: int) -> Tensor:
    """Memory for so many products."""
    return torch.empty(products, dtype=torch.int32 if operand.values.dtype == torch.int8 else torch.float32)


def tile_candidates(operand: Operand, count: int, tile: int | None = None) -> Candidates:
    """The `count` rows of the smallest lower bounds for every row, on the CPU."""
    rows, count, tile = len(operand.values), min(count, len(operand.values)), tile or TILE
    lists = _Lists(
        key=np.full((rows, 2 * count), np.iinfo(np.int64).max),
        found=np.zeros(rows, dtype=np.int64),
        limit=np.full(rows, np.inf, dtype=np.float32),
    )
    scale, norm = operand.scale.numpy(), operand.norm.numpy()
    blocks = range(0, rows, tile)
    locks = {begin: Lock() for begin in blocks}
    # By diagonals, so that tiles of the same time rarely share rows.
    tiles = ((top, top - shift) for shift in blocks for top in blocks[shift // tile :])

    def work(tiles) -> None:
        room = product_room(operand, tile * tile)
        for top, left in tiles:
            products = product_into(operand.values[top : top + tile], operand.values[left : left + tile], room)
            with locks[left], locks[top] if top != left else nullcontext():
                _offer_tile(products, scale, norm, *lists, lists.key.view(np.float32), top, left)

    run_on_threads(tiles, work)
    over_rows(0, rows, lambda begin, end: _finish_rows(*lists, begin, end))
    halves = lists.key[:, :count].view(np.int32)
    return Candidates(halves[:, ::2], halves[:, 1::2].view(np.float32))


@njit(cache=True, nogil=True)
def any_within(products, scale, norm, scales, norms, limit, limits):
    """Whether a lower bound of a row's products is within the limit of the row or of its column; vectorised."""
    found = False
    for m in range(len(products)):
        found |= norm + norms[m] - scale * scales[m] * np.float32(products[m]) <= max(limit, limits[m])
    return found


@njit(cache=True, nogil=True)
def _offer_tile(products, scale, norm, key, found, limit, half, top, left):
    height, width = products.shape
    scales, norms, limits = scale[left : left + width], norm[left : left + width], limit[left : left + width].copy()
    if top == left:
        limits[:] = -np.inf  # each pair is there a second time, with row and column exchanged
    full = key.shape[1]
    bounds = np.empty(CHUNK, dtype=np.float32)
    bits = bounds.view(np.int32)
    for i in range(top, top + height):
        row, count, last = products[i - top], found[i], limit[i]
        for begin in range(0, width, CHUNK):
            part = slice(begin, min(begin + CHUNK, width))
            if not any_within(row[part], scale[i], norm[i], scales[part], norms[part], last, limits[part]):
                continue
            for m in range(begin, part.stop):
                bound = norm[i] + norms[m] - scale[i] * scales[m] * np.float32(row[m])
                bounds[m - begin] = max(np.float32(0), bound)  # without signs, bits are in the order of the numbers
            for m in range(begin, part.stop):
                j, bound, code = left + m, bounds[m - begin], np.int64(bits[m - begin]) << 32
                if bound <= last:
                    key[i, count] = code | j
                    count += 1
                    if count == full:
                        count, last = full // 2, _halve(key[i], half[i])
                if bound <= limits[m]:
                    key[j, found[j]] = code | i
                    found[j] += 1
                    if found[j] == full:
                        found[j], limits[m] = full // 2, _halve(key[j], half[j])
                        limit[j] = limits[m]
        found[i], limit[i] = count, last


@njit(cache=True, nogil=True)
def _halve(keys, half):
    """Move the smaller half of a list to its front; the largest bound in it."""
    count = len(keys) // 2
    keys[:] = np.partition(keys, count - 1)
    return half[2 * count - 1]


@njit(cache=True, nogil=True)
def _finish_rows(key, found, limit, begin, end):
    for row in range(begin, end):
        key[row, : found[row]].sort()
