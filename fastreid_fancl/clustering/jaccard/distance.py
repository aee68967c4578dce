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
import torch.distributed as dist
from scipy.sparse import csr_matrix
from torch import Tensor

from ..neighbors.device import BLOCK_BYTES
from ..neighbors.operands import squared_norms
from ..neighbors.search import as_features, knn
from .cpu import OnThreads
from .device import OnDevice
from .rows import Kernel, Rows, mirror, stack

logger = logging.getLogger(__name__)


def jaccard_distance(
    features: np.ndarray | Tensor,
    k1: int = 30,
    k2: int = 6,
    max_distance: float = 1.0,
    neighbors: tuple[np.ndarray, np.ndarray] | None = None,
    group: dist.ProcessGroup | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> csr_matrix | None:
    """The k-reciprocal Jaccard distance of all pairs that are nearer than `max_distance`.

    Args:
        features: L2-normalised (N, D), array or tensor; all is done on a tensor's device, but for what the matrix is
            filled from at the end. Zero rows are allowed: equal to each other, and equally far from all others.
        k1: neighbours of the reciprocal sets, the row itself included; above N it is taken as N.
        k2: neighbours of the query expansion, the row itself included; 1 for none, above k1 it is taken as k1.
        max_distance: in (0, 1]; 1 is the distance of rows that share no neighbour. Most pairs that share any are nearly
            as far: at 0.95 the matrix of 100,000 hard rows has 154 entries a row, at 1 it has 3,546.
        neighbors: what `knn(features, k1)` returns, where it is known already.
        group: of processes that share the work after the neighbours; all of them call this, with equal arguments.
        block_bytes: of what is in memory of a GPU at once besides the features, the lists and a step's result.

    Returns:
        (N, N) symmetric float32 with sorted columns. Every pair nearer than `max_distance` is stored, even at
        distance 0, and so is the diagonal, which is 0; a pair that is not stored is at least as far. Its attribute
        `max_distance` lets `dbscan` refuse a larger eps. With a group, None on all processes but the first.

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
    squared, neighbors = neighbors or knn(features, k1, block_bytes=block_bytes)
    if neighbors.shape != (len(features), min(k1, len(features))):
        raise ValueError(
            f"Expected {k1} neighbors of {len(features)} rows, got {neighbors.shape}: pass those of knn(features, k1)."
        )
    _warn_unless_normalised(features)
    steps = OnThreads() if features.device.type == "cpu" else OnDevice(features.device, block_bytes)
    encoding = _rows_of_all(steps.encode(features, squared, neighbors, k1), len(features), group)
    if k2 > 1:
        encoding = _rows_of_all(steps.expand_queries(encoding, neighbors[:, :k2]), len(features), group)
    upper = _upper_rows(steps.overlaps(encoding, max_distance), len(features), group)
    del encoding
    if upper is None:
        return None
    distance = _symmetric(upper)
    distance.max_distance = max_distance
    return distance


def _warn_unless_normalised(features: Tensor) -> None:
    norms = squared_norms(features).sqrt()
    wrong = norms[((norms - 1).abs() > 0.01) & (norms > 0)]
    if len(wrong):
        logger.warning(
            "Expected L2-normalised features, got norms from %.3g to %.3g in %d of %d rows: normalise them, as their "
            "scale is the inverse temperature of the softmax",
            wrong.min(),
            wrong.max(),
            len(wrong),
            len(norms),
        )


def _rows_of_all(kernel: Kernel, rows: int, group: dist.ProcessGroup | None) -> Rows:
    """What the kernel makes of all rows, on every process of a group that shares them evenly."""
    if group is None:
        return kernel(0, rows)
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    parts = [None] * world
    dist.all_gather_object(parts, kernel(rows * rank // world, rows * (rank + 1) // world), group)
    return _joined(parts)


def _upper_rows(kernel: Kernel, rows: int, group: dist.ProcessGroup | None) -> Rows | None:
    """As `_rows_of_all`, on the first process only, where a row is as much work as there are later ones."""
    if group is None:
        return kernel(0, rows)
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    begin, end = (round(rows * (1 - (1 - share / world) ** 0.5)) for share in (rank, rank + 1))
    parts = [None] * world if rank == 0 else None
    dist.gather_object(kernel(begin, end), parts, dst=dist.get_global_rank(group, 0), group=group)
    return _joined(parts) if rank == 0 else None


def _joined(parts: list[Rows]) -> Rows:
    tables = [(np.diff(part.start), part.column, part.value) for part in parts]
    parts.clear()  # `stack` frees each as it is copied
    return stack(tables)


def _symmetric(upper: Rows) -> csr_matrix:
    start, column, value = mirror(*upper)
    if len(column) <= np.iinfo(np.int32).max:
        start = start.astype(np.int32)
    rows = len(start) - 1
    distance = csr_matrix((rows, rows), dtype=np.float32)
    distance.data, distance.indices, distance.indptr = value, column.astype(start.dtype, copy=False), start
    distance.has_canonical_format = True
    return distance
