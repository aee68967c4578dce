"""Nearest neighbours on GPUs and other devices: candidates by blocks of rows, exact distances of those.

Shapes: N rows, D dimensions, k neighbours, C candidates a row.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .candidates import Candidates
from .operands import Operand

BLOCK_BYTES = 1 << 30  # of the products, and of the gathered candidates


def block_candidates(operand: Operand, count: int, block_rows: int | None = None) -> Candidates:
    """The `count` rows of the smallest lower bounds for every row, by products of `block_rows` rows with all others."""
    rows, count = len(operand.values), min(count, len(operand.values))
    index = torch.empty(rows, count, dtype=torch.int64, device=operand.values.device)
    bound = torch.empty(rows, count, device=operand.values.device)
    with _full_float32():
        for part in _blocks(rows, block_rows or _rows_a_block(4 * rows)):
            bounds = torch.addmm(operand.norm, operand.values[part], operand.values.T, alpha=-2)
            bounds += operand.norm[part, None]
            bound[part], index[part] = bounds.topk(count, largest=False)
    return Candidates(index, bound)


@contextmanager
def _full_float32():
    """Products of all 24 bits on GPUs that would take TensorFloat-32's 11."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed


def refine_on_device(features: Tensor, candidates: Candidates, k: int) -> tuple[Tensor, Tensor]:
    """As `exact.refine`, on the features' device."""
    rows, count = candidates.index.shape
    distance = torch.empty(rows, k, device=features.device)
    index = torch.empty(rows, k, dtype=torch.int64, device=features.device)
    numbers = torch.arange(rows, device=features.device)[:, None]
    for part in _blocks(rows, _rows_a_block(4 * count * features.shape[1])):
        mine = candidates.index[part].sort(dim=1).values  # by distance below: a stable sort leaves ties in this order
        exact = (features[mine] - features[part, None]).square_().sum(dim=-1)
        exact[mine == numbers[part]] = -1
        exact, order = exact.sort(dim=1, stable=True)
        distance[part], index[part] = exact[:, :k].clamp(min=0), mine.gather(1, order[:, :k])
    return distance, index


def _rows_a_block(bytes_a_row: int) -> int:
    return max(1, BLOCK_BYTES // bytes_a_row)


def _blocks(rows: int, size: int) -> Iterator[slice]:
    return (slice(begin, begin + size) for begin in range(0, rows, size))
