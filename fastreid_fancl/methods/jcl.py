"""Unsupervised Joint Contrastive Learning for Aerial Person Re-Identification (Zhang, Li and Ye).

This is written from the paper's abstract, which names the components but gives no equations. We chose:

- the cluster loss and the memory update of Cluster Contrast, the usual ones; one temperature and one momentum for both
  losses and memories, and equal weights of the losses, since nothing suggests different ones;
- an instance memory that is refilled in every epoch, so its features are as old as the labels;
- 50 hard negatives per query, the number that ICE and PPLR use between cameras; images in no cluster are neither
  positives nor negatives, since their identity is unknown;
- the unfiltered clustering if the camera filter would leave a degenerate one.

The WaveBlock attention: `backbones.waveblock`.
Shapes: B queries, N images, M clusters, D dimensions.
"""

import logging

import numpy as np
import torch
import torch.nn.functional as F
from fastreid.config import configurable
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from scipy.sparse import csr_matrix
from torch import Tensor

from ..clustering import degenerate, renumber
from ..losses import full_precision
from ..memory import InstanceMemory
from .cluster_contrast import ClusterContrast

logger = logging.getLogger(__name__)


def hard_instances(
    queries: Tensor, features: Tensor, labels: Tensor, targets: Tensor, temperature: float, negatives: int
) -> Tensor:
    """Contrast each query with its hardest positive and its hardest negatives among all images.

    L = -log exp(s_+ / tau) / (exp(s_+ / tau) + sum_n exp(s_n / tau)), where s_+ is the similarity to the least similar
    image of the query's own cluster, and s_n are the similarities to the most similar images of other clusters.

    Args:
        queries: (B, D) of unit length.
        features: (N, D) of unit length, the instance memory.
        labels: (N,) clusters, -1 for images in no cluster.
        targets: (B,) cluster of each query.
        temperature: tau.
        negatives: number of hard negatives.

    Returns:
        The mean over the batch, a float32 scalar.
    """
    # Select the images without gradients and copy them: the memory changes before backward runs.
    with torch.no_grad(), full_precision(queries.device):
        similarity = queries.float() @ features.T
        positive = similarity.masked_fill(labels != targets[:, None], torch.inf).argmin(dim=1, keepdim=True)
        other = (labels != targets[:, None]) & (labels >= 0)
        hardest = similarity.masked_fill(~other, -torch.inf).topk(min(negatives, len(features)), dim=1).indices
        chosen = features[torch.cat([positive, hardest], dim=1)]
        missing = F.pad(~other.gather(1, hardest), (1, 0))  # if there are fewer negatives than requested
    with full_precision(queries.device):
        logits = torch.einsum("bd,bkd->bk", queries.float(), chosen) / temperature
        return F.cross_entropy(logits.masked_fill(missing, -torch.inf), torch.zeros_like(targets))


def drop_single_camera_clusters(labels: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """Remove the clusters whose images all come from one camera.

    Args:
        labels: (N,) clusters 0..M-1, -1 for images in no cluster.
        cameras: (N,) camera numbers.

    Returns:
        (N,) labels of the remaining clusters, renumbered from 0, and -1.
    """
    pairs = np.unique(np.stack([labels, cameras], axis=1)[labels >= 0], axis=0)
    several = np.bincount(pairs[:, 0], minlength=labels.max(initial=-1) + 1) > 1
    return renumber(np.where(np.append(several, False)[labels], labels, -1))


@META_ARCH_REGISTRY.register()
class JCL(ClusterContrast):
    """Contrast each query with the clusters and with its hardest positive and negative images."""

    @configurable
    def __init__(self, *, weight: float, negatives: int, **kwargs):
        """Set the weight and the number of negatives of the instance loss.

        Args:
            weight: weight of the instance loss; that of the cluster loss is 1.
            negatives: number of hard negatives per query.
            **kwargs: arguments of `ClusterContrast`; the instance memory has the same temperature and momentum.
        """
        super().__init__(**kwargs)
        self.weight, self.negatives = weight, negatives

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read the arguments of `__init__` from a configuration."""
        return {**super().from_config(cfg), "weight": cfg.JCL.INSTANCE_WEIGHT, "negatives": cfg.JCL.NEGATIVES}

    def refine_labels(
        self, labels: np.ndarray, distance: csr_matrix, eps: float, min_samples: int, cameras: np.ndarray | None
    ) -> np.ndarray:
        """Keep the clusters seen by two or more cameras; keep all if cameras are unknown or too few would remain."""
        if cameras is None:
            return labels
        kept = drop_single_camera_clusters(labels, cameras)
        reason = degenerate(kept)
        if reason:
            logger.warning("The camera filter is skipped in this epoch, since it would leave too little: %s.", reason)
            return labels
        return kept

    def start_epoch(self, features: dict[str, Tensor], labels: Tensor, cameras: Tensor | None = None) -> None:
        """Fill the cluster memory with the mean feature of each cluster, and the instance memory with every image."""
        super().start_epoch(features, labels, cameras)
        self.instances = InstanceMemory(features["original"], self.bank["momentum"])
        self.labels = labels

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the cluster loss and the instance loss, then update both memories."""
        queries, targets = self.encode(batch["images"]), batch["targets"]
        instance = hard_instances(
            queries, self.instances.features, self.labels, targets, self.bank["temperature"], self.negatives
        )
        losses = {"loss_cluster": self.memory(queries, targets), "loss_instance": self.weight * instance}
        self.memory.update(queries, targets, batch.get("target_repeats"))
        self.instances.update(queries, batch["indices"], batch.get("index_repeats"))
        return losses
