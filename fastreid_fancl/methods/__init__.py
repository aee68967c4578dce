"""One paper a file: importing this package registers every meta-architecture."""

from .base import PseudoLabelMethod
from .cluster_contrast import ClusterContrast
from .fancl import FANCL

__all__ = ["FANCL", "ClusterContrast", "PseudoLabelMethod"]
