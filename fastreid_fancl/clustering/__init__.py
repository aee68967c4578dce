"""From features to pseudo-labels: neighbours -> k-reciprocal Jaccard distance -> clusters -> their quality."""

from .hierarchy import hdbscan
from .jaccard import jaccard_distance
from .labels import dbscan, noise_alone, reliable_labels, renumber
from .neighbors import as_features, knn
from .quality import grouping_scores, quality
from .ring import ring_knn
from .sweep import EpsChoice, NoClustersError, SweepRow, choose_eps, degenerate, guarded_labels

__all__ = [
    "EpsChoice",
    "NoClustersError",
    "SweepRow",
    "as_features",
    "choose_eps",
    "dbscan",
    "degenerate",
    "grouping_scores",
    "guarded_labels",
    "hdbscan",
    "jaccard_distance",
    "knn",
    "noise_alone",
    "quality",
    "reliable_labels",
    "renumber",
    "ring_knn",
]
