"""From features to pseudo-labels: neighbours -> k-reciprocal Jaccard distance -> clusters -> their quality."""

from .jaccard import jaccard_distance
from .labels import dbscan, reliable_labels
from .neighbors import knn

__all__ = ["dbscan", "jaccard_distance", "knn", "reliable_labels"]
