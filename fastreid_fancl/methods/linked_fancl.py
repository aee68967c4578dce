"""FANCL on a project of individuals: its clusters are groups that respect what is known of the photographs.

The losses are those of Zhang, Zhao and Liu; `individuals.train` gives the constraints.
"""

from typing import ClassVar

import numpy as np
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from scipy.sparse import csr_matrix

from ..clustering import degenerate, renumber
from ..clustering.constraints import RADII, Constraints, labels_at, tree
from ..clustering.eps import modularities
from .fancl import FANCL


@META_ARCH_REGISTRY.register()
class LinkedFANCL(FANCL):
    """FANCL whose clusters are the groups of a project: must-links are positives, cannot-links in no one cluster.

    Attributes:
        constraints: of the training images, in the order of the data set; set before a training.
    """

    constraints: ClassVar[Constraints] = Constraints()

    def refine_labels(
        self, labels: np.ndarray, distance: csr_matrix, eps: float, min_samples: int, cameras: np.ndarray | None
    ) -> np.ndarray:
        """Groups under the constraints in place of DBSCAN's; photographs alone are left out (-1)."""
        found, _ = tree(distance, self.constraints, RADII[-1])
        groups = labels_at(len(labels), self.constraints, found, RADII)
        groups = np.array([renumber(one, smallest=min_samples) for one in groups])
        usable = [r for r in range(len(RADII)) if degenerate(groups[r]) is None]
        if not usable:
            return labels
        scores = modularities(distance, groups)
        return groups[max(usable, key=lambda r: (round(float(scores[r]), 9), -r))]
