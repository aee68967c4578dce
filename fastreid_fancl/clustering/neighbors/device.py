"""Search on a GPU or another device: find candidates for a block of rows, then compute their exact distances.

Shapes: M queries, N rows of the base, D dimensions, k neighbours, C candidates a row.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from .exact import RowBlock, candidate_count, update_nearest_within
from .operands import Operand

logger = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 30  # memory for the products, and the same again for the features of the candidates


def update_nearest_on_device(
    queries: RowBlock, base: RowBlock, distance: np.ndarray, index: np.ndarray, block_bytes: int = BLOCK_BYTES
) -> None:
    """Do what `exact.update_nearest` does, on the device of the features.

    Rows whose candidates are not proven to include the k nearest are searched on the CPU.
    """
    distances, indices = (torch.tensor(values, device=queries.features.device) for values in (distance, index))
    unproven = _update_from_candidates(queries, base, distances, indices, block_bytes)
    rows = unproven.cpu().numpy()
    exact = distance[rows], index[rows]
    distance[:], index[:] = distances.cpu().numpy(), indices.cpu().numpy()
    if len(rows):
        logger.info(
            "The CPU searches %d of %d rows exactly: their neighbours are too close together for the bounds of the GPU",
            len(rows),
            len(distance),
        )
        update_nearest_within(queries[unproven].cpu(), base.cpu(), *exact, distance[rows, -1])
        distance[rows], index[rows] = exact


def _update_from_candidates(
    queries: RowBlock, base: RowBlock, distance: Tensor, index: Tensor, block_bytes: int
) -> Tensor:
    """Put the C candidates of each query into its list; return the queries for which other rows may be near enough."""
    count = min(candidate_count(distance.shape[1]), len(base.number))
    rows = max(1, block_bytes // (4 * max(len(base.number), count * base.features.shape[1])))
    unproven = torch.zeros(len(queries.number), dtype=torch.bool, device=distance.device)
    with _full_float32():
        for begin in range(0, len(queries.number), rows):
            part = slice(begin, begin + rows)
            bound, candidates = _lower_bounds(queries.operand[part], base.operand).topk(count, largest=False)
            _merge(queries[part], base.features[candidates], base.number[candidates], distance[part], index[part])
            unproven[part] = (distance[part, -1] >= bound[:, -1]) & (count < len(base.number))
    return torch.nonzero(unproven).flatten()


def _lower_bounds(left: Operand, right: Operand) -> Tensor:
    """Lower bounds of all squared distances of two float32 operands, whose scales multiply to 2."""
    return torch.addmm(right.norm, left.values, right.values.T, alpha=-2).add_(left.norm[:, None])


def _merge(queries: RowBlock, features: Tensor, number: Tensor, distance: Tensor, index: Tensor) -> None:
    """Merge candidates (M, C, D), numbered (M, C), into the lists, in place; each list begins with its query."""
    exact = (features - queries.features[:, None]).square_().sum(dim=-1)
    exact[number == queries.number[:, None]] = torch.inf
    index_order = torch.cat([index[:, 1:], number], dim=1).sort(dim=1)
    exact = torch.cat([distance[:, 1:], exact], dim=1).gather(1, index_order.indices)
    exact, order = exact.sort(dim=1, stable=True)  # ties stay in the order of their numbers
    places = distance.shape[1] - 1
    distance[:, 1:], index[:, 1:] = exact[:, :places], index_order.values.gather(1, order[:, :places])


@contextmanager
def _full_float32() -> Iterator[None]:
    """Multiply with all 24 bits of float32 on GPUs that might use the 11 bits of TensorFloat-32."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
