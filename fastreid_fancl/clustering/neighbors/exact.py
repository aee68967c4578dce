"""Exact squared distances, in float32, of the candidates and of every row that may be nearer than they are.

Neighbour lists are a pair of arrays (distance, index), each (N, k), sorted by distance and then index; each row comes
first in its own list.

Shapes: N rows, D dimensions, k neighbours, C candidates a row.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .candidates import CHUNK, TILE, Candidates, any_within, product_buffer, product_into
from .operands import Operand, rounding
from .threads import over_rows, run_on_threads

NO_ROW = np.iinfo(np.int64).max  # fills empty places: any row at the same distance sorts before it
ROWS = 256  # rows of a tile in `update_nearest`; few, so that there are tiles for all threads


@dataclass(frozen=True)
class RowBlock:
    """Rows to search for or to search in.

    Attributes:
        features: (N, D).
        operand: the same rows as matrix products take them.
        number: (N,) int64, the row numbers.
    """

    features: Tensor
    operand: Operand
    number: Tensor

    def __getitem__(self, rows: slice | Tensor) -> "RowBlock":
        return RowBlock(self.features[rows], self.operand[rows], self.number[rows])

    def cpu(self) -> "RowBlock":
        """Copy to the CPU."""
        return RowBlock(self.features.cpu(), self.operand.cpu(), self.number.cpu())


def candidate_count(k: int) -> int:
    """Number C of candidates to keep for k neighbours.

    The bounds of about 45 rows lie below the k-th distance at k = 30; the rest is a margin that proves that all rows
    that are not candidates are farther.
    """
    return 2 * k + 16


def empty_lists(number: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Neighbour lists (M, k) that hold only each row itself; the other places are at infinity, so any row fits in."""
    distance = np.full((len(number), k), np.inf, dtype=np.float32)
    index = np.full((len(number), k), NO_ROW)
    distance[:, 0], index[:, 0] = 0, number.cpu().numpy()
    return distance, index


def refine(features: np.ndarray, candidates: Candidates, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest candidates of each row; places stay empty if there are fewer.

    Candidates are visited in the order of their lower bounds, until a bound exceeds the k-th distance so far.
    """
    rows = len(features)
    distance, index = empty_lists(torch.arange(rows), k)
    over_rows(0, rows, lambda begin, end: _refine_rows(features, *candidates, distance, index, begin, end))
    return distance, index


@njit(cache=True, nogil=True)
def _refine_rows(
    features: np.ndarray,
    candidates: np.ndarray,
    bounds: np.ndarray,
    distance: np.ndarray,
    index: np.ndarray,
    begin: int,
    end: int,
) -> None:
    for i in range(begin, end):
        for n in range(candidates.shape[1]):
            if bounds[i, n] > distance[i, -1]:
                break
            j = candidates[i, n]
            if j != i:
                insert_sorted(distance[i, 1:], index[i, 1:], squared_distance(features[i], features[j]), j)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def squared_distance(x: np.ndarray, y: np.ndarray) -> np.float32:
    """Squared Euclidean distance of two rows (D,)."""
    total = np.float32(0)
    for d in range(len(x)):
        total += (x[d] - y[d]) * (x[d] - y[d])
    return total


@njit(cache=True, nogil=True)
def insert_sorted(distances: np.ndarray, indices: np.ndarray, distance: float, index: int) -> None:
    """Insert (distance, index) into a sorted list of fixed length, in place; the last entry drops out."""
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


def update_nearest(queries: RowBlock, base: RowBlock, distance: np.ndarray, index: np.ndarray) -> None:
    """Put every row of the base that is near enough into the queries' neighbour lists (M, k), in place.

    The result is exact, whatever the lists held before. The exact distance of a row is computed only if its lower
    bound is within the last distance of a list, so lists that are nearly right take little time. The base must not
    hold rows that are in the lists already, except for the queries themselves: they would be listed twice.
    """

    def work(begins: Iterator[int]) -> None:
        buffer = product_buffer(base.operand, ROWS * TILE)
        for begin in begins:
            rows = slice(begin, begin + ROWS)
            left = queries[rows]
            for start in range(0, len(base.number), TILE):
                right = base[start : start + TILE]
                products = product_into(left.operand.values, right.operand.values, buffer)
                _update_tile(products, *_arrays(left), *_arrays(right), distance[rows], index[rows])

    run_on_threads(range(0, len(queries.number), ROWS), work)


def update_nearest_within(
    queries: RowBlock, base: RowBlock, distance: np.ndarray, index: np.ndarray, farthest: np.ndarray
) -> None:
    """Call `update_nearest`, given that no neighbour is farther than `farthest` (M,), except for rounding."""
    limit = (1 + rounding(base.features.shape[1])) * farthest[:, None]
    index[distance > limit] = NO_ROW
    np.minimum(distance, limit, out=distance)
    update_nearest(queries, base, distance, index)


def _arrays(block: RowBlock) -> tuple[np.ndarray, ...]:
    return tuple(values.numpy() for values in (block.features, block.operand.scale, block.operand.norm, block.number))


@njit(cache=True, nogil=True)
def _update_tile(
    products: np.ndarray,
    queries: np.ndarray,
    scale: np.ndarray,
    norm: np.ndarray,
    own: np.ndarray,
    base: np.ndarray,
    scales: np.ndarray,
    norms: np.ndarray,
    numbers: np.ndarray,
    distance: np.ndarray,
    index: np.ndarray,
) -> None:
    height, width = products.shape
    none = np.full(width, -np.inf, dtype=np.float32)
    for n in range(height):
        distances, indices = distance[n, 1:], index[n, 1:]
        for begin in range(0, width, CHUNK):
            part = slice(begin, min(begin + CHUNK, width))
            chunk = products[n, part]
            if not any_within(chunk, scale[n], norm[n], scales[part], norms[part], distances[-1], none[part]):
                continue
            for m in range(begin, part.stop):
                bound = max(np.float32(0), norm[n] + norms[m] - scale[n] * scales[m] * np.float32(products[n, m]))
                j = numbers[m]
                if j != own[n] and (bound < distances[-1] or (bound == distances[-1] and j < indices[-1])):
                    insert_sorted(distances, indices, squared_distance(queries[n], base[m]), j)
