"""The steps of `jaccard` on the CPU, by compiled kernels on ranges of rows.

Shapes: N rows, D dimensions.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numba import njit
from torch import Tensor

from ..neighbors.threads import over_rows
from .rows import Kernel, Rows, ensure_capacity, stack, transpose

STEP = np.float32(2**-19)  # 2e-6, of the distances; their float32 sums are right to about a quarter of it


class OnThreads:
    """The steps of `jaccard` on the CPU."""

    def encode(self, features: Tensor, squared: np.ndarray, neighbors: np.ndarray, k1: int) -> Kernel:
        """V of step 3, by rows."""
        features = features.numpy()
        norms = np.einsum("nd,nd->n", features, features)
        full = _reciprocal(neighbors, k1 + 1)
        half = _reciprocal(neighbors, round(k1 / 2) + 1)
        return _on_threads(partial(_encode_rows, features, norms, squared, neighbors, *full, *half))

    def expand_queries(self, encoding: Rows, neighbors: np.ndarray) -> Kernel:
        """Step 4: the mean of the encodings of each row's neighbours, (N, k2)."""
        return _on_threads(partial(_expand_rows, *encoding, neighbors))

    def overlaps(self, encoding: Rows, max_distance: float) -> Kernel:
        """Step 5, of each row and the later ones."""
        by_column, place = transpose(*encoding)
        return _on_threads(partial(_overlap_rows, *encoding, *by_column, place, max_distance))


def _on_threads(kernel: Callable) -> Kernel:
    return lambda begin, end: stack(over_rows(begin, end, kernel))


def _reciprocal(neighbors: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Reciprocal neighbours among the first `length` of each row's list: (N, k) with (N,) how many of it count."""
    rows, length = len(neighbors), min(length, neighbors.shape[1])
    members, count = np.empty((rows, length), dtype=np.int32), np.zeros(rows, dtype=np.int64)
    over_rows(0, rows, lambda begin, end: _reciprocal_rows(neighbors, length, members, count, begin, end))
    return members, count


@njit(cache=True, nogil=True)
def _reciprocal_rows(neighbors, length, members, count, begin, end):
    for i in range(begin, end):
        for j in neighbors[i, :length]:
            for back in neighbors[j, :length]:
                if back == i:
                    members[i, count[i]] = j
                    count[i] += 1
                    break


@njit(cache=True, nogil=True)
def _join(i, candidates, count, mark, members, found):
    """Append the candidates that are not marked as row i's to its members, mark them; the new number of members."""
    for j in candidates[:count]:
        if mark[j] != i:
            mark[j] = i
            members[found] = j
            found += 1
    return found


@njit(cache=True, nogil=True)
def _shares_most(i, candidates, count, reciprocal):
    """Whether more than two thirds of the candidates are row i's reciprocal neighbours."""
    shared = 0
    for j in candidates[:count]:
        shared += reciprocal[j] == i
    return 3 * shared > 2 * count


@njit(cache=True, nogil=True)
def _encode_rows(features, norms, squared, neighbors, full, full_count, half, half_count, begin, end):
    """Steps 2 and 3 for rows begin..end: number of entries of each row, and the columns and values of all.

    The marks hold i where a row belongs to row i's neighbours, R or R*, so that nothing is cleared between rows.
    """
    rows = len(norms)
    known, reciprocal, member = np.full(rows, -1), np.full(rows, -1), np.full(rows, -1)
    twice_product = np.empty(rows, dtype=np.float32)
    most = full.shape[1] * (1 + half.shape[1])
    counts = np.empty(end - begin, dtype=np.int64)
    columns = np.empty(most, dtype=np.int32)
    values = np.empty(most, dtype=np.float32)
    used = 0
    for i in range(begin, end):
        columns, values = ensure_capacity(columns, used, most), ensure_capacity(values, used, most)
        for n, j in enumerate(neighbors[i]):
            known[j] = i
            twice_product[j] = norms[i] + norms[j] - squared[i, n]
        for j in full[i, : full_count[i]]:
            reciprocal[j] = i
        members = columns[used:]
        found = _join(i, full[i], full_count[i], member, members, 0)
        for j in full[i, : full_count[i]]:
            if _shares_most(i, half[j], half_count[j], reciprocal):
                found = _join(i, half[j], half_count[j], member, members, found)
        for n in range(found):
            j = members[n]
            values[used + n] = twice_product[j] if known[j] == i else 2 * _product(features[i], features[j])
        _softmax(values[used : used + found])
        counts[i - begin] = found
        used += found
    return counts, columns[:used], values[:used]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _product(x, y):
    total = np.float32(0)
    for d in range(len(x)):
        total += x[d] * y[d]
    return total


@njit(cache=True, nogil=True)
def _softmax(values):
    """In place."""
    largest, total = values.max(), np.float32(0)
    for n in range(len(values)):
        values[n] = np.exp(values[n] - largest)
        total += values[n]
    for n in range(len(values)):
        values[n] /= total


@njit(cache=True, nogil=True)
def _accumulator(columns, rows):
    """Sums by column, the columns that have one, and room for what becomes of some rows: counts, columns, values."""
    sums, touched = np.zeros(columns, dtype=np.float32), np.empty(columns, dtype=np.int32)
    return sums, touched, np.empty(rows, dtype=np.int64), np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)


@njit(cache=True, nogil=True)
def _expand_rows(start, column, value, neighbors, begin, end):
    rows, k2 = neighbors.shape
    total, touched, counts, columns, values = _accumulator(rows, end - begin)
    used = 0
    for i in range(begin, end):
        found = 0
        for j in neighbors[i]:
            for e in range(start[j], start[j + 1]):
                if total[column[e]] == 0 and value[e] > 0:
                    touched[found] = column[e]
                    found += 1
                total[column[e]] += value[e]
        columns, values = ensure_capacity(columns, used, found), ensure_capacity(values, used, found)
        for n in range(found):
            columns[used + n] = touched[n]
            values[used + n] = total[touched[n]] / k2
            total[touched[n]] = 0
        counts[i - begin] = found
        used += found
    return counts, columns[:used], values[:used]


@njit(cache=True, nogil=True)
def _overlap_rows(start, column, value, column_start, row, transposed, place, max_distance, begin, end):
    """Distances of rows begin..end to themselves and later rows, nearer than max_distance; columns in no order.

    A row meets the later rows of each of its columns right after its own place there.
    """
    overlap, touched, counts, columns, values = _accumulator(len(start) - 1, end - begin)
    used = 0
    for i in range(begin, end):
        found = 0
        for e in range(start[i], start[i + 1]):
            for other in range(place[e] + 1, column_start[column[e] + 1]):
                shared = min(value[e], transposed[other])
                if shared == 0:  # a softmax may give that, to neighbours that are far
                    continue
                j = row[other]
                if overlap[j] == 0:
                    touched[found] = j
                    found += 1
                overlap[j] += shared
        columns, values = ensure_capacity(columns, used, found + 1), ensure_capacity(values, used, found + 1)
        first = used
        columns[used], values[used] = i, 0
        used += 1
        for j in touched[:found]:
            distance = max(np.float32(0), 1 - overlap[j] / (2 - overlap[j]))
            distance = np.rint(distance / STEP) * STEP
            overlap[j] = 0
            if distance < max_distance:
                columns[used], values[used] = j, distance
                used += 1
        counts[i - begin] = used - first
    return counts, columns[:used], values[:used]
