"""Cluster Contrast for Unsupervised Person Re-Identification (Dai et al., ACCV 2022)."""

from fastreid.config import configurable
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from torch import Tensor

from ..memory import ClusterMemory, cluster_centroids
from .base import PseudoLabelMethod


@META_ARCH_REGISTRY.register()
class ClusterContrast(PseudoLabelMethod):
    """Contrast each query with one feature a cluster, and let the queries move these features.

    Their update is the running mean of the paper's first version ("mean") or follows the hardest query ("hard"). The
    head, the augmentation and the batches are those of the FANCL paper, which compares with it: the released code also
    erases rectangles, pools by generalised means on request and prefers images of several cameras in a batch.
    """

    @configurable
    def __init__(self, *, temperature: float, momentum: float, update: str, **kwargs):
        """
        Args:
            temperature, momentum, update: of `ClusterMemory`.
            **kwargs: of `PseudoLabelMethod`.
        """
        super().__init__(**kwargs)
        self.bank = {"temperature": temperature, "momentum": momentum, "update": update}

    @classmethod
    def from_config(cls, cfg) -> dict:
        return {
            **super().from_config(cfg),
            "temperature": cfg.MEMORY.TEMPERATURE,
            "momentum": cfg.MEMORY.MOMENTUM,
            "update": cfg.MEMORY.UPDATE,
        }

    def start_epoch(self, features: dict[str, Tensor], labels: Tensor, cameras: Tensor | None = None) -> None:
        """Start the bank from the mean feature of each cluster (its Eq. 2)."""
        self.memory = ClusterMemory(cluster_centroids(features["original"], labels), **self.bank)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The cluster-level InfoNCE (its Eq. 3), then the momentum update of the bank (Eq. 4 or 5)."""
        queries, targets = self.encode(batch["images"]), batch["targets"]
        loss = self.memory(queries, targets)
        self.memory.update(queries, targets, batch.get("target_repeats"))
        return {"loss_cluster": loss}
