"""Candidates by faiss's indices, an optional library.

Shapes: N rows, D dimensions, C candidates a row.
"""

import logging

import numpy as np
import torch

from ...logs import log_once
from .candidates import Candidates
from .operands import Operand, rounding, squared_norms

logger = logging.getLogger(__name__)

INSTALL = "pip install faiss-cpu, or faiss-gpu for NVIDIA GPUs"
MOST_ON_GPU = 2048  # candidates a row
CELLS = 4  # times the square root of N
PROBED = 0.02  # share of the cells


def has_faiss() -> bool:
    """Whether faiss is installed."""
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return True


def flat_candidates(operand: Operand, count: int, device: torch.device | None = None) -> Candidates:
    """The `count` nearest rows of every row by faiss's flat index, all products in float32.

    It lies on `device` where that is a GPU and faiss-gpu is installed, else on the CPU.
    """
    import faiss

    values, share = operand.values.numpy(), rounding(operand.values.shape[1])
    count = min(count, len(values))
    table = faiss.IndexFlatL2(values.shape[1])
    if _uses_gpu(device, count):
        table = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device.index or 0, table)
    table.add(values)
    distance, index = table.search(values, count)
    # An error grows with both rows' squared norms, and the other's is within twice the own and twice the distance.
    return Candidates(index, distance - share * (3 * squared_norms(operand.values).numpy()[:, None] + 2 * distance))


def _uses_gpu(device: torch.device | None, count: int) -> bool:
    """Whether the flat index goes to the GPU on which the features are."""
    if device is None or device.type != "cuda":
        return False
    import faiss

    why_not = "" if count <= MOST_ON_GPU else f"{count} candidates per image are more than its GPU index gives"
    if not faiss.get_num_gpus():
        why_not = "the installed faiss has no GPU support: pip install faiss-gpu in place of faiss-cpu"
    where = f"on the CPU, as {why_not}" if why_not else f"on {device}"
    log_once(logger, logging.INFO, f"faiss searches {where}.")
    return not why_not


def ivf_candidates(operand: Operand, count: int) -> Candidates:
    """Rows out of the cells nearest to every row, by faiss's inverted file; nothing is known of the others.

    Places that are not taken hold the row itself.
    """
    import faiss

    values, count = operand.values.numpy(), min(count, len(operand.values))
    cells = min(len(values), round(CELLS * len(values) ** 0.5))
    table = faiss.IndexIVFFlat(faiss.IndexFlatL2(values.shape[1]), values.shape[1], cells)
    table.cp.min_points_per_centroid = 1  # no warning on few rows
    table.train(values)
    table.add(values)
    table.nprobe = max(1, round(PROBED * cells))
    _, index = table.search(values, count)
    own = np.arange(len(values))[:, None]
    return Candidates(np.where(index < 0, own, index), np.zeros(index.shape, dtype=np.float32))
