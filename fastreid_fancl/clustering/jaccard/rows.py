"""Sparse rows that are stored one after another: the entries of row i are start[i]..start[i + 1]."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit

Table = tuple[np.ndarray, np.ndarray, np.ndarray]  # the entries of some rows: counts or starts, columns, values


class Rows(NamedTuple):
    """Sparse rows: where each begins, (N + 1,), and the column and the value of each stored entry."""

    start: np.ndarray
    column: np.ndarray
    value: np.ndarray


Kernel = Callable[[int, int], Rows]  # takes a range (begin, end) of rows; row i of the result is row begin + i


@njit(cache=True, nogil=True)
def ensure_capacity(array: np.ndarray, used: int, more: int) -> np.ndarray:
    """Return the array, or a longer copy if fewer than `more` entries are free after the first `used`."""
    if used + more <= len(array):
        return array
    longer = np.empty(2 * (used + more), dtype=array.dtype)
    for n in range(used):  # numba compiles the assignment of a slice for seconds
        longer[n] = array[n]
    return longer


def stack(parts: list[Table]) -> Rows:
    """Join the rows of consecutive ranges, each (entries per row, columns, values); empties the list.

    Each range is freed once it is copied, and the new memory is touched only as it is filled, so the rows are never in
    memory twice.
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
def transpose(start: np.ndarray, column: np.ndarray, value: np.ndarray) -> tuple[Table, np.ndarray]:
    """Transpose sparse rows: rows and values sorted by column and then row, and the new place of each entry."""
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
def mirror(start: np.ndarray, column: np.ndarray, value: np.ndarray) -> Table:
    """Make symmetric rows from upper triangular ones that begin with the diagonal; all columns come out ascending.

    Going through the upper rows in order fills the lower half of each row in order; going through the lower halves in
    order then fills the upper half of each row in order.
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
