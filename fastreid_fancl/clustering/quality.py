"""How well clusters match known identities: numbers for logs and reports, which training never reads."""

import numpy as np
from sklearn.metrics import (
    adjusted_rand_score,
    completeness_score,
    homogeneity_score,
    normalized_mutual_info_score,
)
from sklearn.metrics.cluster import contingency_matrix

from ..errors import UserError
from .labels import noise_as_singletons


def quality(labels: np.ndarray, identities: np.ndarray) -> dict[str, float]:
    """Describe a clustering in numbers, and compare it with the identities where they are known.

    Args:
        labels: (N,) clusters, -1 for images left out.
        identities: (N,) true identities, integers; -1 where unknown.

    Returns:
        Always: `clusters`, their number; `left_out`, the number of images in no cluster; `mean_cluster_size`;
        `identities`, the number of known ones.
        If some clustered image has a known identity, over these images only: `ari`, the adjusted Rand index; `nmi`,
        normalised mutual information (arithmetic mean); `purity`, the share of images that have the most common
        identity of their cluster.
        If any identity is known: `ari_all`, the adjusted Rand index that counts each image left out as a cluster of its
        own. Unlike `ari`, it does not rise when hard images are left out.

    Raises:
        ValueError: if labels and identities differ in shape.
    """
    labels, identities = np.asarray(labels), np.asarray(identities)
    if labels.shape != identities.shape or labels.ndim != 1:
        raise UserError(
            f"Expected labels and identities of one shape (N,), got {labels.shape} and {identities.shape}: pass one "
            "of each per image, in the same order."
        )
    clustered, known = labels >= 0, identities >= 0
    clusters = len(np.unique(labels[clustered]))
    numbers = {
        "clusters": clusters,
        "left_out": int((~clustered).sum()),
        "mean_cluster_size": float(clustered.sum() / max(1, clusters)),
        "identities": len(np.unique(identities[known])),
    }
    if (clustered & known).any():
        numbers |= _agreement(labels[clustered & known], identities[clustered & known])
    if known.any():
        numbers["ari_all"] = float(adjusted_rand_score(identities[known], noise_as_singletons(labels)[known]))
    return numbers


def grouping_scores(labels: np.ndarray, identities: np.ndarray) -> dict[str, float]:
    """Score groups of photographs against the animals on them, over the photographs whose animal is known.

    Each ungrouped image counts as its own group, so no score rises when hard images are left out.

    Args:
        labels: (N,) groups, -1 for images left out.
        identities: (N,) true identities, integers; -1 where unknown.

    Returns:
        `ARI`, the adjusted Rand index: 1 for the true groups, 0 on average for random ones. `Purity`: the share of
        photographs that show the most common animal of their group. `homogeneity`: 1 if no group mixes animals.
        `completeness`: 1 if no animal is in two groups (Rosenberg and Hirschberg, 2007). Counted over all photographs:
        `groups`, known `animals`, and `ungrouped`, the images left out.

    Raises:
        ValueError: if labels and identities differ in shape, or no identity is known.
    """
    numbers = quality(labels, identities)
    known = np.asarray(identities) >= 0
    if not known.any():
        raise UserError("Expected photographs whose animal is known, got none: label some, or do not score the groups.")
    animals, groups = np.asarray(identities)[known], noise_as_singletons(np.asarray(labels))[known]
    return {
        "ARI": numbers["ari_all"],
        "Purity": _agreement(groups, animals)["purity"],
        "homogeneity": float(homogeneity_score(animals, groups)),
        "completeness": float(completeness_score(animals, groups)),
        "groups": numbers["clusters"],
        "animals": numbers["identities"],
        "ungrouped": numbers["left_out"],
    }


def _agreement(labels: np.ndarray, identities: np.ndarray) -> dict[str, float]:
    counts = contingency_matrix(identities, labels, sparse=True)
    return {
        "ari": float(adjusted_rand_score(identities, labels)),
        "nmi": float(normalized_mutual_info_score(identities, labels)),
        "purity": float(counts.max(axis=0).sum() / len(labels)),
    }
