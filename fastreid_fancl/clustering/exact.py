"""Exact squared distances, in float32: of candidates, and of whatever may be nearer than what was found.

Lists of neighbours are (distance, index) arrays (N, k), ascending by both; the row itself is first.

Shapes: N rows, D dimensions, k neighbours, C candidates a row.
"""

import numpy as np
from numba import njit

from .candidates import CHUNK, TILE, Candidates, any_within, product_into, product_room
from .operands import Operand
from .threads import over_rows, share

ROWS = 256  # of a tile of `improve`; few, so that the rows without proof are enough for all threads


def refine(features: np.ndarray, candidates: Candidates, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest candidates of each row; infinitely far and numbered N where there are fewer.

    Candidates are visited by ascending bounds, until the next bound is farther than the k-th of them.
    """
    rows = len(features)
    distance, index = np.full((rows, k), np.inf, dtype=np.float32), np.full((rows, k), rows)
    over_rows(rows, lambda begin, end: _refine_rows(features, *candidates, distance, index, begin, end))
    return distance, index


@njit(cache=True, nogil=True)
def _refine_rows(features, candidates, bounds, distance, index, begin, end):
    for i in range(begin, end):
        distance[i, 0], index[i, 0] = 0, i
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


def improve(
    queries: np.ndarray,
    query_operand: Operand,
    own: np.ndarray,
    base: np.ndarray,
    base_operand: Operand,
    first: int,
    distance: np.ndarray,
    index: np.ndarray,
) -> None:
    """Offer each row of `base` to the lists of the queries, which it changes; exact whatever the lists were.

    Only rows whose lower bound is within the end of a list are measured, so lists that are nearly right are quick.

    Args:
        queries: (M, D), with their operand, their numbers `own` (M,) and lists (M, k).
        base: (N, D), with its operand; row n has the number `first` + n. None of the lists holds any of them but `own`.
    """
    def work(ranges) -> None:
        room = product_room(base_operand, ROWS * TILE)
        for begin in ranges:
            mine = slice(begin, begin + ROWS)
            left = query_operand[mine]
            for start in range(0, len(base), TILE):
                theirs = slice(start, start + TILE)
                right = base_operand[theirs]
                _improve_tile(
                    product_into(left.values, right.values, room),
                    *(side.numpy() for side in (left.scale, left.norm, right.scale, right.norm)),
                    *(queries[mine], own[mine], base[theirs], first + start),
                    *(distance[mine], index[mine]),
                )

    share(range(0, len(queries), ROWS), work)


@njit(cache=True, nogil=True)
def _improve_tile(products, scale, norm, scales, norms, queries, own, base, first, distance, index):
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
                j = first + m
                if j != own[n] and (bound < distances[-1] or (bound == distances[-1] and j < indices[-1])):
                    offer(distances, indices, squared_distance(queries[n], base[m]), j)
