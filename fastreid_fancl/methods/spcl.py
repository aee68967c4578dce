"""Self-paced Contrastive Learning with Hybrid Memory for Domain Adaptive Object Re-ID (Ge et al., NeurIPS 2020).

Its unsupervised setting: there is no source domain, so Eq. 1 has clusters and un-clustered images only.
Shapes: N images, D dimensions.
"""

import math

import numpy as np
import torch
import torch.distributed as dist
from fastreid.config import configurable
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from fastreid.utils import comm
from scipy.sparse import csr_matrix
from torch import Tensor

from ..clustering import noise_as_singletons, reliable_labels
from ..memory import HybridMemory
from .base import PseudoLabelMethod


@META_ARCH_REGISTRY.register()
class SpCL(PseudoLabelMethod):
    """Contrast each query with the means of the reliable clusters and with every image outside them.

    The memory of all images is filled once, before the first epoch, and lives on: later epochs cluster what it holds
    instead of encoding all images anew.
    """

    TRAINS_OUTLIERS = True

    @configurable
    def __init__(self, *, temperature: float, momentum: float, gap: float, **kwargs):
        """
        Args:
            temperature, momentum: of `HybridMemory`.
            gap: by how much the reliability test (Section 3.3) tightens and loosens eps.
            **kwargs: of `PseudoLabelMethod`.
        """
        super().__init__(**kwargs)
        self.bank, self.gap = {"temperature": temperature, "momentum": momentum}, gap
        self.memory: HybridMemory | None = None
        # The largest 1 - independence to rely on, of the first epoch; not a number before it.
        self.register_buffer("threshold", torch.tensor(math.nan, dtype=torch.float64))

    @classmethod
    def from_config(cls, cfg) -> dict:
        if cfg.PSEUDO_LABELS.ALGORITHM == "hdbscan":
            raise ValueError("SpCL tests its clusters at three radii of DBSCAN: set PSEUDO_LABELS.ALGORITHM dbscan.")
        return {
            **super().from_config(cfg),
            "temperature": cfg.MEMORY.TEMPERATURE,
            "momentum": cfg.MEMORY.MOMENTUM,
            "gap": cfg.SPCL.GAP,
        }

    def load_state_dict(self, state_dict, *args, **kwargs):
        """Load a checkpoint; one of SpCL brings its memory."""
        if "memory.features" in state_dict:
            self.memory = HybridMemory(state_dict["memory.features"].to(self.device), **self.bank)
        return super().load_state_dict(state_dict, *args, **kwargs)

    def stored_features(self) -> dict[str, Tensor] | None:
        """What the memory holds, but in the first epoch, whose weights may come with the memory of other images."""
        return {"original": self.memory.features.cpu()} if self.memory is not None and self.epoch > 0 else None

    def refine_labels(
        self, labels: np.ndarray, distance: csr_matrix, eps: float, min_samples: int, cameras: np.ndarray | None
    ) -> np.ndarray:
        """Clusters that are independent and compact; the threshold of independence is the first epoch's."""
        known = self.epoch > 0 and not math.isnan(self.threshold)
        labels, threshold = reliable_labels(
            distance, eps, self.gap, min_samples, self.threshold.item() if known else None
        )
        self.threshold.fill_(math.nan if threshold is None else threshold)
        return labels

    def start_epoch(self, features: dict[str, Tensor], labels: Tensor, cameras: Tensor | None = None) -> None:
        """Fill the memory in the first epoch; in every epoch tell it the classes, an own one for each outlier."""
        if comm.get_world_size() > 1:
            dist.broadcast(self.threshold, src=0)
        if self.epoch == 0 or self.memory is None:
            self.memory = HybridMemory(features["original"], **self.bank)
        self.memory.labels = torch.from_numpy(noise_as_singletons(labels.cpu().numpy())).to(labels.device)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The unified contrastive loss (Eq. 1), then the momentum update of the batch's images (Eq. 3)."""
        queries, indices = self.encode(batch["images"]), batch["indices"]
        loss = self.memory(queries, indices)
        self.memory.update(queries, indices, batch.get("index_repeats"))
        return {"loss_unified": loss}
