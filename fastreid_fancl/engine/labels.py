"""From features to the pseudo-labels of an epoch.

Shapes: N training images, D feature dimensions, M clusters.
"""

import csv
import logging
from collections import Counter
from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_matrix
from torch import Tensor

from .. import clustering
from ..files import replacing

logger = logging.getLogger(__name__)


def assign_labels(
    features: Tensor, identities: np.ndarray, cameras: np.ndarray | None, options, refine: Callable
) -> tuple[np.ndarray, float | None]:
    """Pseudo-labels by PSEUDO_LABELS.ALGORITHM.

    Args:
        features: (N, D).
        identities: (N,) true identities, -1 where unknown; read by the oracle only.
        cameras: (N,) numbers 0.., None where they are not known.
        options: the PSEUDO_LABELS node of the configuration.
        refine: a method's `refine_labels`; the oracle's labels are not refined.

    Returns:
        (N,) clusters 0..M-1 with -1 for images left out, and the eps used, None without one.

    Raises:
        ValueError: if no clustering is usable, or the oracle has no identities.
    """
    if options.ALGORITHM == "oracle":
        return oracle_labels(identities), None
    distance = clustering.jaccard_distance(features, options.K1, options.K2, reach(options))
    labels, eps = cluster(distance, options)
    return refine(labels, distance, eps, options.MIN_SAMPLES, cameras), eps


def reach(options) -> float:
    """The distance up to which a clustering by the options, the PSEUDO_LABELS node, needs pairs.

    Farther pairs are most of all, and of no use to DBSCAN: none of the radii that are tried for it is above 0.9.
    """
    near = options.ALGORITHM != "hdbscan" and (options.EPS == "auto" or options.EPS <= 0.9)
    return 0.95 if near else 1.0


def cluster(distance: csr_matrix, options) -> tuple[np.ndarray, float | None]:
    """Clusters of images by HDBSCAN or DBSCAN that are not degenerate, and DBSCAN's eps, None for HDBSCAN.

    Raises:
        ValueError: if no clustering is usable.
    """
    if options.ALGORITHM == "hdbscan":
        labels = clustering.hdbscan(distance, options.MIN_SAMPLES)
        reason = clustering.degenerate(labels)
        if reason:
            raise ValueError(
                f"HDBSCAN's clustering is degenerate: {reason}. Go on by --resume with PSEUDO_LABELS.ALGORITHM dbscan, "
                "whose radius moves to where it is not, or start from better weights."
            )
        return labels, None
    eps = options.EPS
    if eps == "auto":
        eps = clustering.choose_eps(distance, options.MIN_SAMPLES).eps
    labels, used, reason = clustering.guarded_labels(distance, eps, options.MIN_SAMPLES)
    if reason:
        logger.warning("The clustering at eps %.3g is degenerate: %s. Training on eps %.3g instead.", eps, reason, used)
    return labels, used


def oracle_labels(identities: np.ndarray) -> np.ndarray:
    """The true identities as pseudo-labels, (N,) -> (N,), said loudly.

    Raises:
        ValueError: with fewer than two known identities.
    """
    known = np.unique(identities[identities >= 0])
    if len(known) < 2:
        raise ValueError(
            "PSEUDO_LABELS.ALGORITHM oracle needs at least two identities among the training images, found "
            f"{len(known)}: label them, or use dbscan."
        )
    logger.warning(
        "ORACLE: training on the TRUE identities, %d of them. This is an upper bound, not a method.", len(known)
    )
    return np.where(identities >= 0, np.searchsorted(known, identities), -1)


def write_clusters(path: str, items: list[tuple], labels: np.ndarray) -> None:
    """Write the epoch's clusters as a table of image and cluster, largest cluster first, images left out at the end."""
    sizes = Counter(labels.tolist())
    order = sorted(range(len(labels)), key=lambda n: (labels[n] < 0, -sizes[labels[n]], labels[n], n))
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "cluster"))
        table.writerows((items[n][0], labels[n] if labels[n] >= 0 else "") for n in order)
