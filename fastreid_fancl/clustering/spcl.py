"""SpCL's reliable clusters."""

import numpy as np
from scipy.sparse import csr_matrix

from .labels import dbscan_sweep, noise_alone, renumber


def reliable_labels(
    distance: csr_matrix, eps: float, gap: float, min_samples: int = 4, threshold: float | None = None
) -> tuple[np.ndarray, float | None]:
    """DBSCAN's clusters less what SpCL (Ge et al., NeurIPS 2020, Section 3.3) finds unreliable.

    Let I(i), I_tight(i), I_loose(i) be the images in the cluster of i at eps, eps - gap, eps + gap, where noise is
    alone, and |A n B| / |A u B| the overlap of two sets. As in SpCL's released code:

    - a cluster's independence is the best overlap of I and I_loose among its images. Where it is too small (1 - overlap
      above `threshold`) the whole cluster falls apart: it would merge with others at a looser eps;
    - an image's compactness is the overlap of I and I_tight. Images below the best of their cluster leave it.

    Images that fail, noise, and an image that is left alone in its cluster all get -1: in SpCL each of them is then a
    class of its own, whatever the reason.

    Args:
        distance: (N, N) of `jaccard_distance`.
        eps: DBSCAN's radius.
        gap: how much tighter and looser to look; eps - gap and eps + gap stay in (0, 1).
        min_samples: of DBSCAN.
        threshold: largest 1 - independence that is relied on, as returned by the first epoch's call; None chooses it,
            so that about nine tenths of the clusters pass.

    Returns:
        (N,) int64 labels 0..M-1 or -1, and the threshold; None if there was no cluster to choose it by.

    Raises:
        ValueError: as `dbscan` does, at any of the three radii, or on a negative gap.
    """
    if gap < 0:
        raise ValueError(f"Expected a gap of at least 0, got {gap}: SpCL's is 0.02.")
    tight, labels, loose = dbscan_sweep(distance, (eps - gap, eps, eps + gap), min_samples)
    clustered = labels >= 0
    scatter, dependence = _change(labels, tight), _change(labels, loose)
    least_scatter = _least(scatter[clustered], labels[clustered])
    least_dependence = _least(dependence[clustered], labels[clustered])
    if threshold is None:
        threshold = _ninth_tenth(least_dependence[np.bincount(labels[clustered]) > 1])
    if threshold is None:
        return np.full_like(labels, -1), None
    kept = labels.copy()
    kept[clustered] = np.where(
        (least_dependence[labels[clustered]] <= threshold) & (scatter[clustered] <= least_scatter[labels[clustered]]),
        labels[clustered],
        -1,
    )
    return renumber(kept, smallest=2), threshold


def _change(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) 1 - |A n B| / |A u B| of each image's clusters A and B in two clusterings, float32."""
    labels, others = noise_alone(labels), noise_alone(others)
    _, pair, common = np.unique(labels * len(others) + others, return_inverse=True, return_counts=True)
    common = common[pair]
    union = np.bincount(labels)[labels] + np.bincount(others)[others] - common
    return 1 - common.astype(np.float32) / union.astype(np.float32)


def _least(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(M,) the least value of each cluster's images."""
    least = np.full(labels.max(initial=-1) + 1, np.inf, dtype=values.dtype)
    np.minimum.at(least, labels, values)
    return least


def _ninth_tenth(values: np.ndarray) -> float | None:
    return float(np.sort(values)[min(len(values) - 1, round(0.9 * len(values)))]) if len(values) else None
