"""Turn features into pseudo-labels: neighbours -> k-reciprocal Jaccard distance -> clusters -> quality of clusters."""

from .eps import EpsChoice, SweepRow, choose_eps
from .guard import NoClustersError, degenerate, guarded_labels
from .hdbscan import hdbscan
from .jaccard.distance import jaccard_distance
from .labels import dbscan, noise_as_singletons, renumber
from .neighbors.ring import ring_knn
from .neighbors.search import as_features, knn
from .quality import grouping_scores, quality
from .spcl import reliable_labels

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
    "noise_as_singletons",
    "quality",
    "reliable_labels",
    "renumber",
    "ring_knn",
]
