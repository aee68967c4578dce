"""Detect degenerate clusterings, on which nothing can be trained, and move to a radius that avoids them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from ..errors import UserError
from .labels import dbscan, dbscan_sweep


class NoClustersError(UserError):
    """Neither DBSCAN at any radius nor HDBSCAN gives usable clusters; `reason` says in numbers why."""

    def __init__(self, message: str, reason: str = ""):
        super().__init__(message)
        self.reason = reason


def cluster_shares(labels: np.ndarray) -> np.ndarray:
    """Share of the clustered images that each cluster holds, (M,)."""
    sizes = np.bincount(labels[labels >= 0])
    return sizes / max(1, sizes.sum())


def degenerate(
    labels: np.ndarray, min_clusters: int = 2, max_share: float = 0.5, max_left_out: float = 0.9
) -> str | None:
    """Say why a clustering is degenerate, so that nothing can be trained on it; None if it is not.

    These rules are checked in order:

    1. it has fewer than `min_clusters` clusters;
    2. more than the share `max_left_out` of the images is left out;
    3. one cluster holds more than the share `max_share` of the clustered images. Few clusters may hold up to 1.6 times
       an even share each: 0.8 of two clusters, 0.53 of three. So ten images of two animals, 6 and 4, may pass.

    Args:
        labels: (N,), -1 for images left out.
        min_clusters: 2 by default, since a single class teaches nothing.
        max_share: in (0, 1].
        max_left_out: in [0, 1].

    Returns:
        The reason with its numbers, such as "1 cluster of 600 images, at least 2 are needed", or None.
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
    **limits: Any,
) -> tuple[np.ndarray, float, str | None]:
    """Run DBSCAN at `eps`, or, if that is degenerate, at the nearest candidate that is not.

    Of two candidates that are equally near, the smaller is taken.

    Args:
        distance: (N, N) from `jaccard_distance`.
        eps: the preferred radius.
        min_samples: as for `dbscan`.
        candidates: radii to move to, up to the largest stored distance; None for 0.2 to 0.9 in steps of 0.025.
        **limits: keyword arguments of `degenerate`.

    Returns:
        Labels (N,), the eps used, and the reason why it is not the preferred one, None if it is.

    Raises:
        NoClustersError: (a ValueError) if the clustering is degenerate at every radius.
        ValueError: as `dbscan` does.
    """
    labels = dbscan(distance, eps, min_samples)
    reason = degenerate(labels, **limits)
    if reason is None:
        return labels, eps, None
    radii = sorted_radii(candidates)
    stored = [radius for radius in radii if radius < getattr(distance, "max_distance", 1)]
    tried = zip(stored, dbscan_sweep(distance, stored, min_samples), strict=True)
    for other, labels in sorted(tried, key=lambda pair: (abs(pair[0] - eps), pair[0])):
        if degenerate(labels, **limits) is None:
            return labels, other, reason
    raise NoClustersError(
        f"Expected clusters to train on, got none at eps {eps} ({reason}) nor at any of {len(radii)} radii from "
        f"{radii[0]} to {radii[-1]}: the features do not separate the images. Start from pre-trained weights, lower "
        "the learning rate, set PSEUDO_LABELS.K1 near the number of images of one identity, or, with few images, lower "
        "PSEUDO_LABELS.MIN_SAMPLES.",
        reason,
    )


CANDIDATES = tuple(n / 40 for n in range(8, 37))  # 0.2, 0.225, ..., 0.9


def sorted_radii(candidates: Sequence[float] | None) -> list[float]:
    """Sort the candidates for eps without repeats; None for the default ones.

    Raises:
        ValueError: if there are none.
    """
    radii = sorted({float(eps) for eps in (CANDIDATES if candidates is None else candidates)})
    if not radii:
        raise UserError("Expected at least one candidate for eps, got none: pass None for the default, 0.2 to 0.9.")
    return radii
