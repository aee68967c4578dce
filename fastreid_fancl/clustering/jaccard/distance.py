"""The k-reciprocal Jaccard distance on sparse rows, never as a dense N x N matrix.

Source: Zhong et al., "Re-ranking person re-identification with k-reciprocal encoding", CVPR 2017.

1. R(i, k) is the set of k-reciprocal neighbours of i: j is a member if each is among the first k of the other (Eq. 2).
2. R*(i) is R(i, k1), joined by R(j, k1/2) for each j in R(i, k1) if more than two thirds of R(j, k1/2) are in R(i, k1)
   (Eq. 3-4).
3. V_i(j) is softmax(-d(i, j)) over j in R*(i), and 0 elsewhere; d is the squared distance of L2-normalised features.
4. V_i is replaced by the mean of V over the first k2 neighbours of i: query expansion (Eq. 11).
5. The Jaccard distance is 1 - s / (2 - s), s = sum_j min(V_i(j), V_i'(j)), since each V_i sums to one (Eq. 8-9). It is
   rounded to a multiple of STEP: some values are common, such as 1/2 for images that share four of k2 = 6 neighbours,
   and with eps 0.5 the rounding errors of the sums would decide at random which of these pairs are within eps.

Step 3 and the lengths of the lists follow the code that the clustering methods share (SpCL, Cluster Contrast): the
"first k" are k + 1 neighbours that include the row itself, but at most k1; k1/2 is rounded half to even.

Shapes: N rows, D dimensions.
"""

import logging
from typing import Any

import numpy as np
import torch.distributed as dist
from scipy.sparse import csr_matrix
from torch import Tensor

from ...errors import UserError
from ...logs import log_once
from ..neighbors.device import BLOCK_BYTES
from ..neighbors.operands import squared_norms
from ..neighbors.search import as_features, knn
from .cpu import CpuSteps
from .device import DeviceSteps
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
    backend: str = "auto",
) -> csr_matrix | None:
    """Compute the k-reciprocal Jaccard distance of all pairs that are nearer than `max_distance`.

    Args:
        features: L2-normalised (N, D), array or tensor. The work is done on the tensor's device; the matrix is built on
            the CPU at the end. Zero rows are allowed: they are equal to each other, and equally far from all others.
        k1: neighbours for the reciprocal sets, the row itself included; at most N are used.
        k2: neighbours for the query expansion, the row itself included; 1 switches it off, at most k1 are used.
        max_distance: in (0, 1]; 1 is the distance of rows that share no neighbour. Most pairs that share any are nearly
            as far: for 100,000 difficult images the matrix has 154 entries per row at 0.95, and 3,546 at 1.
        neighbors: the result of `knn(features, k1)`, if it is known already.
        group: processes that share the work after the neighbour search; all of them call this with equal arguments.
        block_bytes: memory for a step of the neighbour search, and on a GPU of the distances, besides the features, the
            lists and the result.
        backend: as for `knn`, where the neighbors are not known yet.

    Returns:
        (N, N) symmetric float32 with sorted columns. Every pair nearer than `max_distance` is stored, even at
        distance 0, and so is the diagonal, which is 0; a pair that is not stored is farther or as far. The attribute
        `max_distance` lets `dbscan` reject a larger eps. With a group, None on every process except the first.

    Raises:
        ValueError: if the features are not finite or not (N, D), if k1 or k2 is below 1, if `max_distance` is outside
            (0, 1], or if the neighbours are those of other rows.
    """
    _check_arguments(k1, k2, max_distance)
    features = as_features(features)
    if k1 >= len(features):
        text = f"k1 = {k1} makes all {len(features)} images neighbours of each other"
        log_once(logger, logging.WARNING, f"{text}: set PSEUDO_LABELS.K1 near the number of images of one animal.")
    squared, index = neighbors or knn(features, k1, backend, block_bytes)
    if index.shape != (len(features), min(k1, len(features))):
        raise UserError(
            f"Expected {k1} neighbors of {len(features)} rows, got shape {index.shape}: pass the result of "
            "knn(features, k1)."
        )
    _warn_unless_normalised(features)
    steps = CpuSteps() if features.device.type == "cpu" else DeviceSteps(features.device, block_bytes)
    encoding = _rows_of_all(steps.encode(features, squared, index, k1), len(features), group)
    if k2 > 1:
        encoding = _rows_of_all(steps.expand_queries(encoding, index[:, :k2]), len(features), group)
    upper = _upper_rows(steps.overlaps(encoding, max_distance), len(features), group)
    del encoding
    if upper is None:
        return None
    distance = _symmetric(upper)
    distance.max_distance = max_distance
    return distance


def _check_arguments(k1: int, k2: int, max_distance: float) -> None:
    for name, value in (("k1", k1), ("k2", k2)):
        if value < 1:
            raise UserError(
                f"Expected {name} of at least 1, which counts the row itself, got {value}: the usual values are k1 30 "
                "and k2 6."
            )
    if not 0 < max_distance <= 1:
        raise UserError(
            f"Expected max_distance in (0, 1], got {max_distance}: 1 keeps every pair that shares a neighbour."
        )


def _warn_unless_normalised(features: Tensor) -> None:
    norms = squared_norms(features).sqrt()
    wrong = norms[((norms - 1).abs() > 0.01) & (norms > 0)]
    if len(wrong):
        logger.warning(
            "Expected L2-normalised features, got norms from %.3g to %.3g in %d of %d rows: normalise them, because "
            "the scale acts as an inverse temperature of the softmax",
            wrong.min(),
            wrong.max(),
            len(wrong),
            len(norms),
        )


def _rows_of_all(kernel: Kernel, rows: int, group: dist.ProcessGroup | None) -> Rows:
    """Apply the kernel to all rows; the processes of a group share them evenly, and each gets all results."""
    if group is None:
        return kernel(0, rows)
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    parts: list[Any] = [None] * world
    dist.all_gather_object(parts, kernel(rows * rank // world, rows * (rank + 1) // world), group)
    return _joined(parts)


def _upper_rows(kernel: Kernel, rows: int, group: dist.ProcessGroup | None) -> Rows | None:
    """Apply the kernel to all rows, for the first process only; earlier rows take longer, as more rows follow them."""
    if group is None:
        return kernel(0, rows)
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    begin, end = (round(rows * (1 - (1 - share / world) ** 0.5)) for share in (rank, rank + 1))
    parts: list[Any] = [None] * world
    first = dist.get_global_rank(group, 0)
    dist.gather_object(kernel(begin, end), parts if rank == 0 else None, dst=first, group=group)
    return _joined(parts) if rank == 0 else None


def _joined(parts: list[Rows]) -> Rows:
    tables = [(np.diff(part.start), part.column, part.value) for part in parts]
    parts.clear()  # so that `stack` can free each part once it is copied
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
