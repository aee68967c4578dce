"""Find candidates with faiss, an optional library.

Shapes: N rows, D dimensions, C candidates a row.
"""

import logging

import numpy as np
import torch

from ...logs import log_once
from .candidates import Candidates
from .operands import Operand, rounding, squared_norms

logger = logging.getLogger(__name__)

MOST_ON_GPU = 2048  # candidates per row
CELLS_PER_SQRT_N = 4  # the inverted file has this many cells times the square root of N
PROBED_SHARE = 0.02  # share of the cells that a query looks into


def flat_candidates(operand: Operand, count: int, device: torch.device | None = None) -> Candidates:
    """Find the `count` nearest rows of every row with faiss's flat index, which multiplies in float32.

    The index lies on `device` if that is a GPU and faiss-gpu is installed, else on the CPU.
    """
    import faiss

    values, share = operand.values.numpy(), rounding(operand.values.shape[1])
    count = min(count, len(values))
    table: faiss.Index = faiss.IndexFlatL2(values.shape[1])
    if device is not None and _uses_gpu(device, count):
        table = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device.index or 0, table)
    table.add(values)
    distance, index = table.search(values, count)
    # The error grows with |x|^2 + |y|^2, and |y|^2 <= 2 |x|^2 + 2 |x - y|^2, so it is within 3 |x|^2 + 2 |x - y|^2.
    return Candidates(index, distance - share * (3 * squared_norms(operand.values).numpy()[:, None] + 2 * distance))


def _uses_gpu(device: torch.device, count: int) -> bool:
    """Whether the flat index goes to the GPU on which the features are."""
    if device.type != "cuda":
        return False
    import faiss

    why_not = "" if count <= MOST_ON_GPU else f"{count} candidates per image are more than its GPU index gives"
    if not faiss.get_num_gpus():
        why_not = "the installed faiss has no GPU support: pip install faiss-gpu in place of faiss-cpu"
    where = f"on the CPU, as {why_not}" if why_not else f"on {device}"
    log_once(logger, logging.INFO, f"faiss searches {where}.")
    return not why_not


def ivf_candidates(operand: Operand, count: int) -> Candidates:
    """Find the `count` nearest rows of every row among the cells nearest to it, with faiss's inverted file.

    The bounds are all 0, since nothing is known about the other cells. Empty places hold the row itself.
    """
    import faiss

    values, count = operand.values.numpy(), min(count, len(operand.values))
    cells = min(len(values), round(CELLS_PER_SQRT_N * len(values) ** 0.5))
    table = faiss.IndexIVFFlat(faiss.IndexFlatL2(values.shape[1]), values.shape[1], cells)
    table.cp.min_points_per_centroid = 1  # prevents a warning when there are few rows
    table.train(values)
    table.add(values)
    table.nprobe = max(1, round(PROBED_SHARE * cells))
    _, index = table.search(values, count)
    own = np.arange(len(values))[:, None]
    return Candidates(np.where(index < 0, own, index), np.zeros(index.shape, dtype=np.float32))
