"""The k-reciprocal Jaccard distance as a sparse matrix."""

from .distance import jaccard_distance

__all__ = ["jaccard_distance"]
