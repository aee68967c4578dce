"""Cluster Contrast for Unsupervised Person Re-Identification (Dai et al., ACCV 2022)."""

from fastreid.config import configurable
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from torch import Tensor

from ..memory import ClusterMemory, cluster_centroids
from .base import PseudoLabelMethod


@META_ARCH_REGISTRY.register()
class ClusterContrast(PseudoLabelMethod):
    """Contrast each query with one momentum-updated feature per cluster.

    The update is either a running mean ("mean"), as in the later versions, or uses the hardest query only ("hard"), as
    the released code did until November 2021. Head, augmentation and batches are those of the FANCL paper, which
    compares with this method. The released code also erases random rectangles, can pool by generalised means, and
    prefers images of several cameras in a batch.
    """

    @configurable
    def __init__(self, *, temperature: float, momentum: float, update: str, **kwargs):
        """Set the properties of the memory, which `start_epoch` fills.

        Args:
            temperature: tau of `ClusterMemory`.
            momentum: as for `ClusterMemory`.
            update: as for `ClusterMemory`.
            **kwargs: arguments of `PseudoLabelMethod`.
        """
        super().__init__(**kwargs)
        self.bank = {"temperature": temperature, "momentum": momentum, "update": update}

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read the arguments of `__init__` from a configuration."""
        return {
            **super().from_config(cfg),
            "temperature": cfg.MEMORY.TEMPERATURE,
            "momentum": cfg.MEMORY.MOMENTUM,
            "update": cfg.MEMORY.UPDATE,
        }

    def start_epoch(self, features: dict[str, Tensor], labels: Tensor, cameras: Tensor | None = None) -> None:
        """Fill the bank with the mean feature of each cluster (the paper's Eq. 2)."""
        self.memory = ClusterMemory(cluster_centroids(features["original"], labels), **self.bank)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the cluster-level InfoNCE (the paper's Eq. 3), then update the bank (its Eq. 4 or 5)."""
        queries, targets = self.encode(batch["images"]), batch["targets"]
        loss = self.memory(queries, targets)
        self.memory.update(queries, targets, batch.get("target_repeats"))
        return {"loss_cluster": loss}
