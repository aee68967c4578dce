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


HARD = {
    "easy": {"rows": 600, "identities": 20, "spread": 0.6},
    "middling": {"rows": 600, "identities": 20, "spread": 1.0},
    "hard": {"rows": 600, "identities": 20, "spread": 1.3},
    "very uneven": {"rows": 600, "identities": 20, "spread": 0.9, "unevenness": 1.4},
    "strong cameras": {"rows": 600, "identities": 20, "spread": 0.8, "shift": 0.9},
    "steep spectrum": {"rows": 600, "identities": 20, "spread": 0.7, "decay": 0.8},
    "many identities": {"rows": 900, "identities": 80, "spread": 0.9},
    "few identities": {"rows": 300, "identities": 5, "spread": 1.0},
}


def unit(rng, *shape):
    """Rows of unit length, drawn at random."""
    values = rng.normal(size=shape)
    return values / np.linalg.norm(values, axis=1, keepdims=True)
