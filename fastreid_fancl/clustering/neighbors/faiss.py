"""Candidates by faiss's indices, an optional library.

Shapes: N rows, D dimensions, C candidates a row.
"""

import numpy as np

from .candidates import Candidates
from .operands import Operand, rounding, squared_norms

CELLS = 4  # times the square root of N
PROBED = 0.02  # share of the cells


def has_faiss() -> bool:
    """Whether faiss is installed."""
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return True


def flat_candidates(operand: Operand, count: int) -> Candidates:
    """The `count` nearest rows of every row by faiss's flat index, all products in float32."""
    import faiss

    values, share = operand.values.numpy(), rounding(operand.values.shape[1])
    table = faiss.IndexFlatL2(values.shape[1])
    table.add(values)
    distance, index = table.search(values, min(count, len(values)))
    # An error grows with both rows' squared norms, and the other's is within twice the own and twice the distance.
    return Candidates(index, distance - share * (3 * squared_norms(operand.values).numpy()[:, None] + 2 * distance))


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
