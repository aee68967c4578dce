"""Sparse rows, stored one after another: entries start[i]..start[i + 1] are those of row i."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit


class Rows(NamedTuple):
    """Sparse rows: start (N + 1,), and the column and value of each stored entry."""

    start: np.ndarray
    column: np.ndarray
    value: np.ndarray


Kernel = Callable[[int, int], Rows]  # of a range of rows; row i of the result is row begin + i


@njit(cache=True, nogil=True)
def ensure_capacity(array, used, more):
    """The array, or a longer copy if fewer than `more` entries are free after the first `used`."""
    if used + more <= len(array):
        return array
    longer = np.empty(2 * (used + more), dtype=array.dtype)
    longer[:used] = array[:used]
    return longer


def stack(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Rows:
    """Rows of consecutive ranges, each (entries of each row, columns, values), as one; empties the list.

    Each range is freed once it is copied, and new memory is taken only as it is filled, so that no second copy is held.
    """
    start = np.concatenate([[0], np.cumsum(np.concatenate([counts for counts, *_ in parts]))])
    column, value = np.empty(start[-1], dtype=parts[0][1].dtype), np.empty(start[-1], dtype=parts[0][2].dtype)
    end = start[-1]
    while parts:
        _, columns, values = parts.pop()
        column[end - len(columns) : end], value[end - len(columns) : end] = columns, values
        end -= len(columns)
    return Rows(start, column, value)


@njit(cache=True, nogil=True)
def transpose(start, column, value):
    """Row numbers and values by column, in ascending rows, and the place of each entry there."""
    column_start = np.zeros(len(start), dtype=np.int64)
    for j in column:
        column_start[j + 1] += 1
    column_start = np.cumsum(column_start)
    free = column_start[:-1].copy()
    row, transposed, place = np.empty_like(column), np.empty_like(value), np.empty(len(column), dtype=np.int64)
    for i in range(len(start) - 1):
        for e in range(start[i], start[i + 1]):
            place[e] = free[column[e]]
            free[column[e]] += 1
            row[place[e]] = i
            transposed[place[e]] = value[e]
    return (column_start, row, transposed), place


@njit(cache=True, nogil=True)
def mirror(start, column, value):
    """The symmetric rows of upper ones that begin with the diagonal, all with ascending columns.

    Filled by ascending rows, the lower half of each row comes out ascending; then so does the upper from the lower.
    """
    rows = len(start) - 1
    count = np.zeros(rows + 1, dtype=np.int64)
    for i in range(rows):
        count[i + 1] += start[i + 1] - start[i]
        for e in range(start[i] + 1, start[i + 1]):
            count[column[e] + 1] += 1
    full = np.cumsum(count)
    free = full[:-1].copy()
    columns, values = np.empty(full[-1], dtype=column.dtype), np.empty(full[-1], dtype=value.dtype)
    for i in range(rows):
        for e in range(start[i], start[i + 1]):
            j = column[e]
            columns[free[j]], values[free[j]] = i, value[e]
            free[j] += 1
    lower = free.copy()
    for i in range(rows):
        for e in range(full[i], lower[i]):
            j = columns[e]
            if j != i:
                columns[free[j]], values[free[j]] = i, values[e]
                free[j] += 1
    return full, columns, values
