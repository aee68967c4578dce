"""Distances and features to cluster."""

import numpy as np
from scipy.sparse import csr_matrix


def groups(sizes, within=0.1, between=1.0):
    """A sparse distance of groups of images: `within` a group, `between` consecutive groups where that is below 1."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    full = np.ones((len(group), len(group)), dtype=np.float32)
    full[group[:, None] == group] = within
    full[abs(group[:, None] - group) == 1] = between
    np.fill_diagonal(full, 0)
    near = np.argwhere(full < 1)
    return csr_matrix((full[tuple(near.T)], tuple(near.T)), shape=full.shape)


def unit(rng, *shape):
    """Rows of unit length, drawn at random."""
    values = rng.normal(size=shape)
    return values / np.linalg.norm(values, axis=1, keepdims=True)
