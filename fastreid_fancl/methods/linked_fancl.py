"""FANCL on a project of individuals: its clusters are groups that respect what is known of the photographs.

The losses are those of Zhang, Zhao and Liu; `individuals.train` gives the constraints.
"""

from typing import ClassVar

import numpy as np
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from scipy.sparse import csr_matrix

from ..clustering import NoClustersError, degenerate, renumber
from ..clustering.constraints import RADII, Constraints, labels_at, tree
from ..clustering.eps import modularities
from .fancl import FANCL


@META_ARCH_REGISTRY.register()
class LinkedFANCL(FANCL):
    """FANCL whose clusters are the groups of a project: must-linked photographs share one, cannot-linked never do.

    Attributes:
        constraints: of the training images, in the order of the data set; set before a training.
    """

    constraints: ClassVar[Constraints] = Constraints()

    def refine_labels(
        self, labels: np.ndarray, distance: csr_matrix, eps: float, min_samples: int, cameras: np.ndarray | None
    ) -> np.ndarray:
        """Replace DBSCAN's clusters by groups under the constraints; those below `min_samples` are left out (-1).

        Raises:
            NoClustersError: if they make less than two groups at every radius.
        """
        merges, _ = tree(distance, self.constraints, RADII[-1])
        groups = labels_at(len(labels), self.constraints, merges, RADII)
        groups = np.array([renumber(one, smallest=min_samples) for one in groups])
        reasons = [degenerate(one) for one in groups]
        if all(reasons):  # the links of a common animal may make a group of most photographs
            reasons = [degenerate(one, max_share=1) for one in groups]
        usable = [r for r, reason in enumerate(reasons) if reason is None]
        if not usable:
            raise NoClustersError(f"There are no groups to train on: {reasons[-1]}.", str(reasons[-1]))
        scores = modularities(distance, groups)
        return groups[max(usable, key=lambda r: (round(float(scores[r]), 9), -r))]
