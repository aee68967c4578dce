"""Find candidates with faiss, an optional library.

Shapes: N rows, D dimensions, C candidates a row.
"""

import numpy as np

from .candidates import Candidates
from .operands import Operand, rounding, squared_norms

CELLS_PER_SQRT_N = 4  # the inverted file has this many cells times the square root of N
PROBED_SHARE = 0.02  # share of the cells that a query looks into


def has_faiss() -> bool:
    """Whether faiss is installed."""
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return True


def flat_candidates(operand: Operand, count: int) -> Candidates:
    """Find the `count` nearest rows of every row with faiss's flat index, which multiplies in float32."""
    import faiss

    values, share = operand.values.numpy(), rounding(operand.values.shape[1])
    table = faiss.IndexFlatL2(values.shape[1])
    table.add(values)
    distance, index = table.search(values, min(count, len(values)))
    # The error grows with |x|^2 + |y|^2, and |y|^2 <= 2 |x|^2 + 2 |x - y|^2, so it is within 3 |x|^2 + 2 |x - y|^2.
    return Candidates(index, distance - share * (3 * squared_norms(operand.values).numpy()[:, None] + 2 * distance))


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
