"""Exact squared distances, in float32: of candidates, and of whatever may be nearer than what was found.

Lists of neighbours are (distance, index) arrays (N, k), ascending by both; the row itself is first.

Shapes: N rows, D dimensions, k neighbours, C candidates a row.
"""

from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .candidates import CHUNK, TILE, Candidates, any_within, product_into, product_room
from .operands import Operand, rounding
from .threads import over_rows, run_on_threads

NO_ROW = np.iinfo(np.int64).max  # in an empty place: any row at the same distance comes before it
ROWS = 256  # of a tile of `improve`; few, so that the threads share them


class Side(NamedTuple):
    """Rows that are searched for or searched in: features (N, D), what products take, and numbers (N,), int64."""

    features: Tensor
    operand: Operand
    number: Tensor

    def __getitem__(self, rows) -> "Side":
        return Side(self.features[rows], self.operand[rows], self.number[rows])

    def cpu(self) -> "Side":
        """The same on the CPU."""
        return Side(self.features.cpu(), Operand(*(values.cpu() for values in self.operand)), self.number.cpu())


def candidate_count(k: int) -> int:
    """C: rows whose bounds are below the k-th distance, about 45 at k 30, and a gap that proves all others farther."""
    return 2 * k + 16


def empty_lists(number: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Lists (M, k) of each row itself; the other places are infinitely far and give way to any row."""
    distance = np.full((len(number), k), np.inf, dtype=np.float32)
    index = np.full((len(number), k), NO_ROW)
    distance[:, 0], index[:, 0] = 0, number.cpu().numpy()
    return distance, index


def refine(features: np.ndarray, candidates: Candidates, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest candidates of each row; places are empty where there are fewer.

    Candidates are visited by ascending bounds, until the next bound is farther than the k-th of them.
    """
    rows = len(features)
    distance, index = empty_lists(torch.arange(rows), k)
    over_rows(0, rows, lambda begin, end: _refine_rows(features, *candidates, distance, index, begin, end))
    return distance, index


@njit(cache=True, nogil=True)
def _refine_rows(features, candidates, bounds, distance, index, begin, end):
    for i in range(begin, end):
        for n in range(candidates.shape[1]):
            if bounds[i, n] > distance[i, -1]:
                break
            j = candidates[i, n]
            if j != i:
                offer(distance[i, 1:], index[i, 1:], squared_distance(features[i], features[j]), j)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def squared_distance(x, y):
    """Of two rows (D,)."""
    total = np.float32(0)
    for d in range(len(x)):
        total += (x[d] - y[d]) * (x[d] - y[d])
    return total


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


def improve(queries: Side, base: Side, distance: np.ndarray, index: np.ndarray) -> None:
    """Offer each row of the base to the queries' lists (M, k), in place; exact whatever was in them.

    Only rows whose lower bound is within the end of a list are measured, so lists that are nearly right are quick.
    Afterwards no list holds a row of the base twice if none held one before, but for the query itself.
    """

    def work(ranges) -> None:
        room = product_room(base.operand, ROWS * TILE)
        for begin in ranges:
            mine = slice(begin, begin + ROWS)
            left = queries[mine]
            for start in range(0, len(base.number), TILE):
                right = base[start : start + TILE]
                products = product_into(left.operand.values, right.operand.values, room)
                _improve_tile(products, *_arrays(left), *_arrays(right), distance[mine], index[mine])

    run_on_threads(range(0, len(queries.number), ROWS), work)


def look_again(queries: Side, base: Side, distance: np.ndarray, index: np.ndarray, farthest: np.ndarray) -> None:
    """As `improve`, where it is known that no neighbour is farther than `farthest` (M,), be it rounded otherwise."""
    limit = (1 + rounding(base.features.shape[1])) * farthest[:, None]
    index[distance > limit] = NO_ROW
    np.minimum(distance, limit, out=distance)
    improve(queries, base, distance, index)


def _arrays(side: Side) -> tuple[np.ndarray, ...]:
    return tuple(values.numpy() for values in (side.features, side.operand.scale, side.operand.norm, side.number))


@njit(cache=True, nogil=True)
def _improve_tile(products, queries, scale, norm, own, base, scales, norms, numbers, distance, index):
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
                    offer(distances, indices, squared_distance(queries[n], base[m]), j)
