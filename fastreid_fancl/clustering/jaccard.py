"""The k-reciprocal Jaccard distance (Zhong et al., "Re-ranking person re-identification with k-reciprocal encoding",
CVPR 2017) on sparse rows, never as an N x N matrix.

1. R(i, k) are the k-reciprocal neighbours of i: j is in it if each is among the other's first k (Eq. 2).
2. R*(i) adds R(j, k1/2) of each j in R(i, k1) that shares more than two thirds of it (Eq. 3-4).
3. V_i has softmax(-d(i, j)) over j in R*(i), d the squared distance of L2-normalised features, and 0 elsewhere.
4. V_i becomes the mean of V over the first k2 neighbours of i: query expansion (Eq. 11).
5. Jaccard distance: 1 - s / (2 - s), s = sum_j min(V_i(j), V_i'(j)), as each V_i sums to one (Eq. 8-9). It is rounded
   to a multiple of STEP: some values are common, such as 1/2 for images that share four of k2 = 6 neighbours, and with
   eps 0.5 the rounding errors of the sums would toss a coin for each of these pairs.

Step 3 and the lengths of the lists are those of the code that the clustering methods share (SpCL, Cluster Contrast):
"first k" is k + 1 neighbours with the row itself, but no more than k1 of them; k1/2 is rounded half to even.

Shapes: N rows, D dimensions.
"""

import logging

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix
from torch import Tensor

from .neighbors import as_features, knn
from .rows import Rows, mirror, room, stack, transpose
from .threads import over_rows

logger = logging.getLogger(__name__)

STEP = np.float32(2**-19)  # 2e-6, of the distances; their float32 sums are right to about a quarter of it


def jaccard_distance(
    features: np.ndarray | Tensor,
    k1: int = 30,
    k2: int = 6,
    max_distance: float = 1.0,
    neighbors: tuple[np.ndarray, np.ndarray] | None = None,
) -> csr_matrix:
    """The k-reciprocal Jaccard distance of all pairs that are nearer than `max_distance`.

    Args:
        features: L2-normalised (N, D), array or tensor; the neighbours are searched on a tensor's device. Zero rows are
            allowed: equal to each other, and equally far from all others.
        k1: neighbours of the reciprocal sets, the row itself included; above N it is taken as N.
        k2: neighbours of the query expansion, the row itself included; 1 for none, above k1 it is taken as k1.
        max_distance: in (0, 1]; 1 is the distance of rows that share no neighbour. Most pairs that share any are nearly
            as far: at 0.95 the matrix of 100,000 hard rows has 154 entries a row, at 1 it has 3,546.
        neighbors: what `knn(features, k1)` returns, where it is known already.

    Returns:
        (N, N) symmetric float32 with sorted columns. Every pair nearer than `max_distance` is stored, even at
        distance 0, and so is the diagonal, which is 0; a pair that is not stored is at least as far. Its attribute
        `max_distance` lets `dbscan` refuse a larger eps.

    Raises:
        ValueError: on features that are not a finite (N, D), k1 or k2 below 1, `max_distance` outside (0, 1], or
            neighbors of other rows.
    """
    for name, value in (("k1", k1), ("k2", k2)):
        if value < 1:
            raise ValueError(f"Expected {name} of at least 1, the row itself, got {value}: the usual are k1 30, k2 6.")
    if not 0 < max_distance <= 1:
        raise ValueError(f"Expected max_distance in (0, 1], got {max_distance}: 1 keeps all that share a neighbour.")
    features = as_features(features)
    if k1 >= len(features):
        logger.warning(
            "k1 %d of %d images makes all of them neighbours: take k1 near the images of one animal", k1, len(features)
        )
    squared, neighbors = neighbors or knn(features, k1)
    if neighbors.shape != (len(features), min(k1, len(features))):
        raise ValueError(
            f"Expected {k1} neighbors of {len(features)} rows, got {neighbors.shape}: pass those of knn(features, k1)."
        )
    features = features.cpu().numpy()
    _warn_unless_normalised(features)
    encoding = _encode(features, squared, neighbors, k1)
    if k2 > 1:
        encoding = _expand_queries(encoding, neighbors[:, :k2])
    upper = _overlaps(encoding, max_distance)
    del encoding
    distance = _symmetric(upper)
    distance.max_distance = max_distance
    return distance


def _warn_unless_normalised(features: np.ndarray) -> None:
    norms = np.sqrt(np.einsum("nd,nd->n", features, features))
    wrong = (np.abs(norms - 1) > 0.01) & (norms > 0)
    if wrong.any():
        logger.warning(
            "Expected L2-normalised features, got norms from %.3g to %.3g in %d of %d rows: normalise them, as their "
            "scale is the inverse temperature of the softmax",
            norms[wrong].min(),
            norms[wrong].max(),
            wrong.sum(),
            len(norms),
        )


def _encode(features: np.ndarray, squared: np.ndarray, neighbors: np.ndarray, k1: int) -> Rows:
    """V of step 3."""
    norms = np.einsum("nd,nd->n", features, features)
    full = _reciprocal(neighbors, k1 + 1)
    half = _reciprocal(neighbors, round(k1 / 2) + 1)
    return stack(
        over_rows(
            len(features),
            lambda begin, end: _encode_rows(features, norms, squared, neighbors, *full, *half, begin, end),
        )
    )


def _reciprocal(neighbors: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Reciprocal neighbours among the first `length` of each row's list: (N, k) with (N,) how many of it count."""
    rows, length = len(neighbors), min(length, neighbors.shape[1])
    members, count = np.empty((rows, length), dtype=np.int32), np.zeros(rows, dtype=np.int64)
    over_rows(rows, lambda begin, end: _reciprocal_rows(neighbors, length, members, count, begin, end))
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
        columns, values = room(columns, used, most), room(values, used, most)
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


def _expand_queries(encoding: Rows, neighbors: np.ndarray) -> Rows:
    """Step 4: the mean of the encodings of each row's neighbours, (N, k2)."""
    return stack(
        over_rows(len(neighbors), lambda begin, end: _expand_rows(*encoding, neighbors, begin, end)),
    )


@njit(cache=True, nogil=True)
def _expand_rows(start, column, value, neighbors, begin, end):
    rows, k2 = neighbors.shape
    total = np.zeros(rows, dtype=np.float32)
    touched = np.empty(rows, dtype=np.int32)
    counts = np.empty(end - begin, dtype=np.int64)
    columns = np.empty(0, dtype=np.int32)
    values = np.empty(0, dtype=np.float32)
    used = 0
    for i in range(begin, end):
        found = 0
        for j in neighbors[i]:
            for e in range(start[j], start[j + 1]):
                if total[column[e]] == 0 and value[e] > 0:
                    touched[found] = column[e]
                    found += 1
                total[column[e]] += value[e]
        columns, values = room(columns, used, found), room(values, used, found)
        for n in range(found):
            columns[used + n] = touched[n]
            values[used + n] = total[touched[n]] / k2
            total[touched[n]] = 0
        counts[i - begin] = found
        used += found
    return counts, columns[:used], values[:used]


def _overlaps(encoding: Rows, max_distance: float) -> Rows:
    """Step 5, of each row and the later ones."""
    rows = len(encoding.start) - 1
    by_column, place = transpose(*encoding)
    return stack(
        over_rows(rows, lambda begin, end: _overlap_rows(*encoding, *by_column, place, max_distance, begin, end))
    )


def _symmetric(upper: Rows) -> csr_matrix:
    start, column, value = mirror(*upper)
    if len(column) <= np.iinfo(np.int32).max:
        start = start.astype(np.int32)
    rows = len(start) - 1
    distance = csr_matrix((rows, rows), dtype=np.float32)
    distance.data, distance.indices, distance.indptr = value, column.astype(start.dtype, copy=False), start
    distance.has_canonical_format = True
    return distance


@njit(cache=True, nogil=True)
def _overlap_rows(start, column, value, column_start, row, transposed, place, max_distance, begin, end):
    """Distances of rows begin..end to themselves and later rows, nearer than max_distance; columns in no order.

    A row meets the later rows of each of its columns right after its own place there.
    """
    rows = len(start) - 1
    overlap = np.zeros(rows, dtype=np.float32)
    touched = np.empty(rows, dtype=np.int32)
    counts = np.empty(end - begin, dtype=np.int64)
    columns = np.empty(0, dtype=np.int32)
    values = np.empty(0, dtype=np.float32)
    used = 0
    for i in range(begin, end):
        found = 0
        for e in range(start[i], start[i + 1]):
            for other in range(place[e] + 1, column_start[column[e] + 1]):
                j = row[other]
                if overlap[j] == 0:
                    touched[found] = j
                    found += 1
                overlap[j] += min(value[e], transposed[other])
        columns, values = room(columns, used, found + 1), room(values, used, found + 1)
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
