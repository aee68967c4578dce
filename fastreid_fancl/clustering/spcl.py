"""SpCL's test of which clusters are reliable."""

import numpy as np
from scipy.sparse import csr_matrix

from ..errors import UserError
from .labels import dbscan_sweep, noise_as_singletons, renumber


def reliable_labels(
    distance: csr_matrix, eps: float, gap: float, min_samples: int = 4, threshold: float | None = None
) -> tuple[np.ndarray, float | None]:
    """Run DBSCAN and remove what SpCL (Ge et al., NeurIPS 2020, Section 3.3) considers unreliable.

    Let I(i), I_tight(i), I_loose(i) be the images in the cluster of i at eps, eps - gap and eps + gap, where a noise
    image is a cluster of its own, and let |A n B| / |A u B| be the overlap of two sets. As in SpCL's released code:

    - the independence of a cluster is the largest overlap of I and I_loose among its images. If it is too small
      (1 - independence above `threshold`) the whole cluster is removed, since it would merge with others at a larger
      eps;
    - the compactness of an image is the overlap of I and I_tight. Images whose compactness is below the largest of
      their cluster leave it.

    Removed images, noise, and an image that remains alone in its cluster are all labelled -1. SpCL makes each of them a
    class of its own.

    Args:
        distance: (N, N) from `jaccard_distance`.
        eps: DBSCAN's radius.
        gap: by how much the test decreases and increases eps; eps - gap and eps + gap must lie in (0, 1).
        min_samples: as for `dbscan`.
        threshold: largest accepted 1 - independence, as returned by the first epoch's call; None chooses it so that
            about nine tenths of the clusters pass.

    Returns:
        (N,) int64 labels 0..M-1 or -1, and the threshold, None if there were no clusters to choose it from.

    Raises:
        ValueError: as `dbscan` does, at any of the three radii, or if the gap is negative.
    """
    if gap < 0:
        raise UserError(f"Expected a gap of at least 0, got {gap}: SpCL uses 0.02.")
    tight, labels, loose = dbscan_sweep(distance, (eps - gap, eps, eps + gap), min_samples)
    clustered = labels >= 0
    scatter, dependence = _cluster_change(labels, tight), _cluster_change(labels, loose)
    least_scatter = _cluster_minimum(scatter[clustered], labels[clustered])
    least_dependence = _cluster_minimum(dependence[clustered], labels[clustered])
    if threshold is None:
        threshold = _ninetieth_percentile(least_dependence[np.bincount(labels[clustered]) > 1])
    if threshold is None:
        return np.full_like(labels, -1), None
    kept = labels.copy()
    kept[clustered] = np.where(
        (least_dependence[labels[clustered]] <= threshold) & (scatter[clustered] <= least_scatter[labels[clustered]]),
        labels[clustered],
        -1,
    )
    return renumber(kept, smallest=2), threshold


def _cluster_change(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """1 - |A n B| / |A u B| of each image's clusters A and B in two clusterings, (N,) float32."""
    labels, others = noise_as_singletons(labels), noise_as_singletons(others)
    _, pair, common = np.unique(labels * len(others) + others, return_inverse=True, return_counts=True)
    common = common[pair]
    union = np.bincount(labels)[labels] + np.bincount(others)[others] - common
    return 1 - common.astype(np.float32) / union.astype(np.float32)


def _cluster_minimum(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Smallest value among the images of each cluster, (M,)."""
    least = np.full(labels.max(initial=-1) + 1, np.inf, dtype=values.dtype)
    np.minimum.at(least, labels, values)
    return least


def _ninetieth_percentile(values: np.ndarray) -> float | None:
    return float(np.sort(values)[min(len(values) - 1, round(0.9 * len(values)))]) if len(values) else None
