"""Prepare features for matrix products that give a lower bound of every squared distance.

For float32 rows the bound needs a margin for rounding only. int8 rows multiply several times faster; their margin also
covers the quantisation error. A row x is stored as step_x q_x with integers q_x, with the error
e_x = |x - step_x q_x|, so by Cauchy-Schwarz

    |x . y - step_x step_y q_x . q_y| <= e_x m_y + m_x e_y,    m_x = max(|x|, |step_x q_x|).

By 2 a b <= T a^2 + b^2 / T this is at most half of (T e_x^2 + m_x^2 / T) + (T e_y^2 + m_y^2 / T). Each row's term is
subtracted from its squared norm. A rotation first spreads large coordinates over many: it leaves distances unchanged
and makes steps and errors smaller.

Shapes: N rows, D dimensions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import hadamard
from torch import Tensor
from torch.nn.functional import pad

from .threads import run_on_threads

ROTATED_DIMENSIONS = 128  # dimensions that the rotation mixes; a power of two
T = 128.0  # about |x| / e_x of rotated rows, for which the bound is tightest
ROWS = 256  # rows converted at once


@dataclass(frozen=True)
class Operand:
    """Rows ready for products: |x - y|^2 >= norm_x + norm_y - scale_x scale_y (values_x . values_y).

    Attributes:
        values: (N, D'), int8 or float32.
        scale, norm: (N,) float32.
    """

    values: Tensor
    scale: Tensor
    norm: Tensor

    def __getitem__(self, rows: slice | Tensor) -> "Operand":
        return Operand(self.values[rows], self.scale[rows], self.norm[rows])

    def cpu(self) -> "Operand":
        """Copy to the CPU."""
        return Operand(self.values.cpu(), self.scale.cpu(), self.norm.cpu())


def squared_norms(features: Tensor) -> Tensor:
    """Squared Euclidean norms of the rows, (N,)."""
    return torch.linalg.vector_norm(features, dim=1).square()


def rounding(dimensions: int) -> float:
    """Relative margin e with which (1 - e) (|x|^2 + |y|^2) - 2 x.y, in float32, is a lower bound of |x - y|^2.

    The rounding error of a float32 dot product is about sqrt(D) eps |x| |y|; this margin is four times as large.
    """
    return 4 * torch.finfo(torch.float32).eps * dimensions**0.5


def float32_operand(features: Tensor, origin: Tensor) -> Operand:
    """Subtract the origin (D,) from features (N, D), on their device.

    The origin changes no distance, but it changes the rounding errors. The features of a network often lie in a narrow
    cone, so their mean is a good origin.
    """
    centred = features - origin
    norm = (1 - rounding(features.shape[1])) * squared_norms(centred)
    return Operand(centred, torch.full_like(norm, 2**0.5), norm)


def int8_operand(features: Tensor, origin: Tensor) -> Operand:
    """Subtract the origin (D,) from features (N, D), rotate them, and round each row to 8 bits; on the CPU."""
    rows, dimensions = features.shape
    blocks, rotation = -(-dimensions // ROTATED_DIMENSIONS), _rotation()
    operand = Operand(
        torch.empty(rows, blocks * ROTATED_DIMENSIONS, dtype=torch.int8), torch.empty(rows), torch.empty(rows)
    )

    def convert(begins: Iterator[int]) -> None:
        for begin in begins:
            part = slice(begin, begin + ROWS)
            centred = pad(features[part] - origin, (0, blocks * ROTATED_DIMENSIONS - dimensions))
            # Each block takes every blocks-th dimension, so that large neighbouring dimensions go to different blocks.
            rotated = (centred.view(-1, ROTATED_DIMENSIONS, blocks).transpose(1, 2) @ rotation).flatten(1)
            step = (rotated.abs().amax(1, keepdim=True) / 127).clamp_(min=torch.finfo(torch.float32).tiny)
            codes = (rotated / step).round_()
            operand.values[part], operand.scale[part] = codes, 2**0.5 * step[:, 0]
            operand.norm[part] = _lowered_norms(centred, rotated, codes.mul_(step))

    run_on_threads(range(0, rows, ROWS), convert)
    return operand


def _rotation() -> Tensor:
    """Orthogonal matrix (ROTATED_DIMENSIONS, ROTATED_DIMENSIONS) that spreads each coordinate over all.

    Random signs keep the image of a constant row small, which a Hadamard matrix alone would map to one coordinate.
    """
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(ROTATED_DIMENSIONS, 1))
    return torch.from_numpy(signs * hadamard(ROTATED_DIMENSIONS) / ROTATED_DIMENSIONS**0.5).float()


def _lowered_norms(centred: Tensor, rotated: Tensor, rounded: Tensor) -> Tensor:
    """Squared norms less each row's term of the margin, (N,)."""
    squared, margin = squared_norms(centred), rounding(centred.shape[1])
    error = torch.linalg.vector_norm(rotated - rounded, dim=1) + margin * squared.sqrt()  # the rotation rounds as well
    larger = torch.maximum(squared, squared_norms(rounded))
    return (1 - margin) * squared - (T * error.square() + larger / T)
