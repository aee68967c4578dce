"""The steps of `jaccard_distance` on the CPU, by compiled kernels on ranges of rows.

Shapes: N rows, D dimensions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import njit
from torch import Tensor

from ..neighbors.threads import over_rows
from .rows import Kernel, Rows, Table, ensure_capacity, stack, transpose

STEP = np.float32(2**-19)  # distances are multiples of it, about 2e-6; their float32 sums err by about a quarter of it


class CpuSteps:
    """The steps of `jaccard_distance` on the CPU."""

    def encode(self, features: Tensor, squared: np.ndarray, neighbors: np.ndarray, k1: int) -> Kernel:
        """Steps 2 and 3: the encoding V, given the squared distances and numbers of the neighbours, both (N, k1)."""
        array = features.numpy()
        norms = np.einsum("nd,nd->n", array, array)
        full = _reciprocal(neighbors, k1 + 1)
        half = _reciprocal(neighbors, round(k1 / 2) + 1)
        return _on_threads(partial(_encode_rows, array, norms, squared, neighbors, *full, *half))

    def expand_queries(self, encoding: Rows, neighbors: np.ndarray) -> Kernel:
        """Step 4: the mean of the encodings of each row's neighbours (N, k2)."""
        return _on_threads(partial(_expand_rows, *encoding, neighbors))

    def overlaps(self, encoding: Rows, max_distance: float) -> Kernel:
        """Step 5: the distances of each row to itself and to the later rows."""
        by_column, place = transpose(*encoding)
        return _on_threads(partial(_overlap_rows, *encoding, *by_column, place, max_distance))


def _on_threads(kernel: Callable[[int, int], Any]) -> Kernel:
    return lambda begin, end: stack(over_rows(begin, end, kernel))


def _reciprocal(neighbors: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the reciprocal neighbours among the first `length` of each row's list: members (N, k), their number (N,)."""
    rows, length = len(neighbors), min(length, neighbors.shape[1])
    members, count = np.empty((rows, length), dtype=np.int32), np.zeros(rows, dtype=np.int64)
    over_rows(0, rows, lambda begin, end: _reciprocal_rows(neighbors, length, members, count, begin, end))
    return members, count


@njit(cache=True, nogil=True)
def _reciprocal_rows(
    neighbors: np.ndarray, length: int, members: np.ndarray, count: np.ndarray, begin: int, end: int
) -> None:
    for i in range(begin, end):
        for j in neighbors[i, :length]:
            for back in neighbors[j, :length]:
                if back == i:
                    members[i, count[i]] = j
                    count[i] += 1
                    break


@njit(cache=True, nogil=True)
def _join(i: int, candidates: np.ndarray, count: np.ndarray, mark: np.ndarray, members: np.ndarray, size: int) -> int:
    """Append the candidates that are not yet marked as row i's to its members, mark them; return the new size."""
    for j in candidates[:count]:
        if mark[j] != i:
            mark[j] = i
            members[size] = j
            size += 1
    return size


@njit(cache=True, nogil=True)
def _shares_most(i: int, candidates: np.ndarray, count: np.ndarray, reciprocal: np.ndarray) -> bool:
    """Whether more than two thirds of the candidates are reciprocal neighbours of row i."""
    shared = 0
    for j in candidates[:count]:
        shared += reciprocal[j] == i
    return bool(3 * shared > 2 * count)


@njit(cache=True, nogil=True)
def _encode_rows(
    features: np.ndarray,
    norms: np.ndarray,
    squared: np.ndarray,
    neighbors: np.ndarray,
    full: np.ndarray,
    full_count: np.ndarray,
    half: np.ndarray,
    half_count: np.ndarray,
    begin: int,
    end: int,
) -> Table:
    """Steps 2 and 3 for rows begin..end: the number of entries of each row, then the columns and values of all.

    Three marks per row j say for which row i it was last a listed neighbour, a member of R, or a member of R*. So they
    need not be cleared between rows.
    """
    rows = len(norms)
    listed, reciprocal, member = np.full(rows, -1), np.full(rows, -1), np.full(rows, -1)
    twice_product = np.empty(rows, dtype=np.float32)
    most = full.shape[1] * (1 + half.shape[1])
    counts = np.empty(end - begin, dtype=np.int64)
    columns = np.empty(most, dtype=np.int32)
    values = np.empty(most, dtype=np.float32)
    used = 0
    for i in range(begin, end):
        columns, values = ensure_capacity(columns, used, most), ensure_capacity(values, used, most)
        for n, j in enumerate(neighbors[i]):
            listed[j] = i
            twice_product[j] = norms[i] + norms[j] - squared[i, n]
        for j in full[i, : full_count[i]]:
            reciprocal[j] = i
        members = columns[used:]
        size = _join(i, full[i], full_count[i], member, members, 0)
        for j in full[i, : full_count[i]]:
            if _shares_most(i, half[j], half_count[j], reciprocal):
                size = _join(i, half[j], half_count[j], member, members, size)
        for n in range(size):
            j = members[n]
            values[used + n] = twice_product[j] if listed[j] == i else 2 * _product(features[i], features[j])
        _softmax(values[used : used + size])
        counts[i - begin] = size
        used += size
    return counts, columns[:used], values[:used]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _product(x: np.ndarray, y: np.ndarray) -> np.float32:
    """Inner product of two rows (D,)."""
    total = np.float32(0)
    for d in range(len(x)):
        total += x[d] * y[d]
    return total


@njit(cache=True, nogil=True)
def _softmax(values: np.ndarray) -> None:
    """Replace values by their softmax, in place."""
    largest, total = values.max(), np.float32(0)
    for n in range(len(values)):
        values[n] = np.exp(values[n] - largest)
        total += values[n]
    for n in range(len(values)):
        values[n] /= total


@njit(cache=True, nogil=True)
def _accumulator(columns: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Allocate sums by column, the list of columns touched, and the results of some rows: counts, columns, values."""
    sums, touched = np.zeros(columns, dtype=np.float32), np.empty(columns, dtype=np.int32)
    return sums, touched, np.empty(rows, dtype=np.int64), np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)


@njit(cache=True, nogil=True)
def _expand_rows(
    start: np.ndarray, column: np.ndarray, value: np.ndarray, neighbors: np.ndarray, begin: int, end: int
) -> Table:
    """Step 4 for rows begin..end: the number of entries of each row, then the columns and values of all."""
    rows, k2 = neighbors.shape
    total, touched, counts, columns, values = _accumulator(rows, end - begin)
    used = 0
    for i in range(begin, end):
        size = 0
        for j in neighbors[i]:
            for e in range(start[j], start[j + 1]):
                if total[column[e]] == 0 and value[e] > 0:
                    touched[size] = column[e]
                    size += 1
                total[column[e]] += value[e]
        columns, values = ensure_capacity(columns, used, size), ensure_capacity(values, used, size)
        for n in range(size):
            columns[used + n] = touched[n]
            values[used + n] = total[touched[n]] / k2
            total[touched[n]] = 0
        counts[i - begin] = size
        used += size
    return counts, columns[:used], values[:used]


@njit(cache=True, nogil=True)
def _overlap_rows(
    start: np.ndarray,
    column: np.ndarray,
    value: np.ndarray,
    column_start: np.ndarray,
    row: np.ndarray,
    transposed: np.ndarray,
    place: np.ndarray,
    max_distance: float,
    begin: int,
    end: int,
) -> Table:
    """Step 5: distances below max_distance of rows begin..end to themselves and to later rows; columns in any order.

    In the transposed encoding, the later rows that share a column with a row follow right after the row's own place.
    """
    overlap, touched, counts, columns, values = _accumulator(len(start) - 1, end - begin)
    used = 0
    for i in range(begin, end):
        size = 0
        for e in range(start[i], start[i + 1]):
            for other in range(place[e] + 1, column_start[column[e] + 1]):
                shared = min(value[e], transposed[other])
                if shared == 0:  # the softmax of a far neighbour may round to 0
                    continue
                j = row[other]
                if overlap[j] == 0:
                    touched[size] = j
                    size += 1
                overlap[j] += shared
        columns, values = ensure_capacity(columns, used, size + 1), ensure_capacity(values, used, size + 1)
        first = used
        columns[used], values[used] = i, 0
        used += 1
        for j in touched[:size]:
            distance = max(np.float32(0), 1 - overlap[j] / (2 - overlap[j]))
            distance = np.rint(distance / STEP) * STEP
            overlap[j] = 0
            if distance < max_distance:
                columns[used], values[used] = j, distance
                used += 1
        counts[i - begin] = used - first
    return counts, columns[:used], values[:used]
