"""Features as a matrix product takes them, with a lower bound of each squared distance that the product proves.

float32 rows need a margin for rounding alone. int8 rows multiply several times faster, and the margin holds what they
lose: a row x is kept as step_x q_x with integers q_x, which misses it by e_x = |x - step_x q_x|, so by Cauchy-Schwarz

    |x . y - step_x step_y q_x . q_y| <= e_x m_y + m_x e_y,    m_x = max(|x|, |step_x q_x|).

By 2 a b <= T a^2 + b^2 / T this is at most half of (T e_x^2 + m_x^2 / T) + (T e_y^2 + m_y^2 / T), a term a row, which
goes into the row's norm. A rotation spreads large coordinates first: distances stay, steps and errors shrink.

Shapes: N rows, D dimensions.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import hadamard
from torch import Tensor
from torch.nn.functional import pad

from .threads import run_on_threads

MIXED = 128  # dimensions that the rotation mixes; a power of two
T = 128.0  # about |x| / e_x of rotated rows, where the bound is tightest
ROWS = 256  # converted at a time


class Operand(NamedTuple):
    """Rows ready for products: |x - y|^2 >= norm_x + norm_y - scale_x scale_y (values_x . values_y).

    Attributes:
        values: (N, D') int8, or float32.
        scale, norm: (N,) float32.
    """

    values: Tensor
    scale: Tensor
    norm: Tensor

    def __getitem__(self, rows) -> "Operand":
        return Operand(self.values[rows], self.scale[rows], self.norm[rows])


def squared_norms(features: Tensor) -> Tensor:
    """(N,) squared Euclidean norms of the rows."""
    return torch.linalg.vector_norm(features, dim=1).square()


def rounding(dimensions: int) -> float:
    """A share e, so that (1 - e) (|x|^2 + |y|^2) - 2 x.y is a lower bound of the squared distance in float32.

    The error of a float32 dot product is about sqrt(D) eps |x| |y|; this is four times that.
    """
    return 4 * torch.finfo(torch.float32).eps * dimensions**0.5


def float32_operand(features: Tensor, origin: Tensor) -> Operand:
    """Features (N, D) less the origin (D,), on their device.

    Distances do not depend on the origin, the rounding errors do: the features of one network often lie in a narrow
    cone, and its mean is a good origin.
    """
    centred = features - origin
    norm = (1 - rounding(features.shape[1])) * squared_norms(centred)
    return Operand(centred, torch.full_like(norm, 2**0.5), norm)


def int8_operand(features: Tensor, origin: Tensor) -> Operand:
    """Features (N, D) less the origin (D,), rotated and rounded to 8 bits with a step a row; on the CPU."""
    rows, dimensions = features.shape
    blocks, mixer = -(-dimensions // MIXED), _mixer()
    operand = Operand(torch.empty(rows, blocks * MIXED, dtype=torch.int8), torch.empty(rows), torch.empty(rows))

    def convert(ranges) -> None:
        for begin in ranges:
            part = slice(begin, begin + ROWS)
            centred = pad(features[part] - origin, (0, blocks * MIXED - dimensions))
            # Blocks of dimensions far from each other: where a few next to each other are large, each block has some.
            rotated = (centred.view(-1, MIXED, blocks).transpose(1, 2) @ mixer).flatten(1)
            step = (rotated.abs().amax(1, keepdim=True) / 127).clamp_(min=torch.finfo(torch.float32).tiny)
            codes = (rotated / step).round_()
            operand.values[part], operand.scale[part] = codes, 2**0.5 * step[:, 0]
            operand.norm[part] = _lowered_norms(centred, rotated, codes.mul_(step))

    run_on_threads(range(0, rows, ROWS), convert)
    return operand


def _mixer() -> Tensor:
    """An orthogonal map (MIXED, MIXED) that spreads each coordinate over all; its signs keep the mean of all small."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(MIXED, 1))
    return torch.from_numpy(signs * hadamard(MIXED) / MIXED**0.5).float()


def _lowered_norms(centred: Tensor, rotated: Tensor, rounded: Tensor) -> Tensor:
    squared, share = squared_norms(centred), rounding(centred.shape[1])
    error = torch.linalg.vector_norm(rotated - rounded, dim=1) + share * squared.sqrt()  # and that of the rotation
    larger = torch.maximum(squared, squared_norms(rounded))
    return (1 - share) * squared - (T * error.square() + larger / T)
