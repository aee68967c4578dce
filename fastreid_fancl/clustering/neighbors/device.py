"""The search on GPUs and other devices: candidates by blocks of rows, exact distances of those.

Shapes: M queries, N rows of the base, D dimensions, k neighbours, C candidates a row.
"""

import logging
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from .exact import Side, candidate_count, look_again
from .operands import Operand

logger = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 30  # of the products, and of the features of the candidates


def improve_on_device(
    queries: Side, base: Side, distance: np.ndarray, index: np.ndarray, block_bytes: int = BLOCK_BYTES
) -> None:
    """As `exact.improve`, on the features' device but for the rows whose neighbours are too close to tell there."""
    lists = [torch.tensor(values, device=queries.features.device) for values in (distance, index)]
    unproven = _offer_nearest(queries, base, *lists, block_bytes)
    rows = unproven.cpu().numpy()
    again = distance[rows], index[rows]
    distance[:], index[:] = (values.cpu().numpy() for values in lists)
    if len(rows):
        logger.info("%d of %d rows are searched again on the CPU: their neighbours are close", len(rows), len(distance))
        look_again(queries[unproven].cpu(), base.cpu(), *again, distance[rows, -1])
        distance[rows], index[rows] = again


def _offer_nearest(queries: Side, base: Side, distance: Tensor, index: Tensor, block_bytes: int) -> Tensor:
    """Offer C rows of the base to each query; returns the queries for which another row may be near enough, too."""
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
    """Of float32 operands, whose scales multiply to 2."""
    return torch.addmm(right.norm, left.values, right.values.T, alpha=-2).add_(left.norm[:, None])


def _merge(queries: Side, features: Tensor, number: Tensor, distance: Tensor, index: Tensor) -> None:
    """Put candidates (M, C, D) with their numbers (M, C) into lists, in place; a query is first in its list already."""
    exact = (features - queries.features[:, None]).square_().sum(dim=-1)
    exact[number == queries.number[:, None]] = torch.inf
    index_order = torch.cat([index[:, 1:], number], dim=1).sort(dim=1)
    exact = torch.cat([distance[:, 1:], exact], dim=1).gather(1, index_order.indices)
    exact, order = exact.sort(dim=1, stable=True)  # leaves ties by number
    places = distance.shape[1] - 1
    distance[:, 1:], index[:, 1:] = exact[:, :places], index_order.values.gather(1, order[:, :places])


@contextmanager
def _full_float32():
    """Products of all 24 bits on GPUs that would take TensorFloat-32's 11."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
