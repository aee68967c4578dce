"""The guard against clusterings that no training should see."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

from .labels import dbscan, dbscan_sweep


class NoClustersError(ValueError):
    """No radius, or HDBSCAN, gives clusters that can be used; `reason` says in numbers what they fall short of."""

    def __init__(self, message: str, reason: str = ""):
        super().__init__(message)
        self.reason = reason


def cluster_shares(labels: np.ndarray) -> np.ndarray:
    """(M,) share of the clustered images that each cluster holds."""
    sizes = np.bincount(labels[labels >= 0])
    return sizes / max(1, sizes.sum())


def degenerate(
    labels: np.ndarray, min_clusters: int = 2, max_share: float = 0.5, max_left_out: float = 0.9
) -> str | None:
    """Why a clustering must not be trained on, or None.

    The rule, in this order:

    1. fewer than `min_clusters` clusters;
    2. more than `max_left_out` of all images left out;
    3. one cluster holds more than `max_share` of the clustered images, or, where an even split comes near to that, more
       than 1.6 times an even share: 0.8 of two clusters, 0.53 of three. Ten images of two animals, 6 and 4, may pass.

    Args:
        labels: (N,), -1 for images left out.
        min_clusters: 2, as one class teaches nothing.
        max_share: in (0, 1].
        max_left_out: in [0, 1].

    Returns:
        A sentence's end with the numbers, such as "1 cluster of 600 images, at least 2 are needed".
    """
    shares = cluster_shares(labels)
    clusters, left_out = len(shares), (labels < 0).mean()
    if clusters < min_clusters:
        return f"{clusters} cluster{'s' * (clusters != 1)} of {len(labels)} images, at least {min_clusters} are needed"
    if left_out > max_left_out:
        return f"{left_out:.1%} of {len(labels)} images are left out, more than {max_left_out:.0%}"
    limit = max(max_share, 1.6 / clusters)
    if shares.max() > limit:
        return f"one of {clusters} clusters holds {shares.max():.1%} of the clustered images, more than {limit:.0%}"
    return None


def guarded_labels(
    distance: csr_matrix,
    eps: float,
    min_samples: int = 4,
    candidates: Sequence[float] | None = None,
    **limits: float,
) -> tuple[np.ndarray, float, str | None]:
    """DBSCAN's labels at `eps`, or at the nearest candidate where they are not degenerate (of two, the tighter).

    Args:
        distance: (N, N) of `jaccard_distance`.
        eps: the radius wished for.
        min_samples: of DBSCAN.
        candidates: radii to move to, as far as distances are stored; None for 0.2 to 0.9 in steps of 0.025.
        **limits: of `degenerate`.

    Returns:
        Labels (N,), the eps used, and why it is not the one wished for; None if it is.

    Raises:
        NoClustersError: (a ValueError) if the clustering is degenerate at every radius.
        ValueError: as `dbscan` does.
    """
    labels = dbscan(distance, eps, min_samples)
    reason = degenerate(labels, **limits)
    if reason is None:
        return labels, eps, None
    radii = radii_of(candidates)
    stored = [radius for radius in radii if radius < getattr(distance, "max_distance", 1)]
    tried = zip(stored, dbscan_sweep(distance, stored, min_samples), strict=True)
    for other, labels in sorted(tried, key=lambda pair: (abs(pair[0] - eps), pair[0])):
        if degenerate(labels, **limits) is None:
            return labels, other, reason
    raise NoClustersError(
        f"Expected clusters to train on, got none at eps {eps} ({reason}) nor at any of {len(radii)} radii from "
        f"{radii[0]} to {radii[-1]}: the features tell too little. Start from pre-trained weights, lower the learning "
        "rate, take k1 (PSEUDO_LABELS.K1) near the images of one identity, or lower min_samples "
        "(PSEUDO_LABELS.MIN_SAMPLES) for few images.",
        reason,
    )


CANDIDATES = tuple(n / 40 for n in range(8, 37))  # 0.2, 0.225, ..., 0.9


def radii_of(candidates: Sequence[float] | None) -> list[float]:
    radii = sorted({float(eps) for eps in (CANDIDATES if candidates is None else candidates)})
    if not radii:
        raise ValueError("Expected at least one candidate for eps, got none: leave them out for 0.2 to 0.9.")
    return radii
