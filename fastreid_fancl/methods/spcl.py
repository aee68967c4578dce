"""Self-paced Contrastive Learning with Hybrid Memory for Domain Adaptive Object Re-ID (Ge et al., NeurIPS 2020).

This is the paper's unsupervised setting: without a source domain, Eq. 1 has only clusters and un-clustered images.
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
from ..errors import UserError
from ..memory import HybridMemory
from .base import PseudoLabelMethod


@META_ARCH_REGISTRY.register()
class SpCL(PseudoLabelMethod):
    """Contrast each query with the means of the reliable clusters and with every image outside them.

    The memory of all images is filled once, before the first epoch. Later epochs cluster the features in the memory and
    do not encode all images again.
    """

    TRAINS_OUTLIERS = True

    @configurable
    def __init__(self, *, temperature: float, momentum: float, gap: float, **kwargs):
        """Set the properties of the memory and of the reliability test.

        Args:
            temperature: tau of `HybridMemory`.
            momentum: m of `HybridMemory`.
            gap: by how much the reliability test (Section 3.3) decreases and increases eps.
            **kwargs: arguments of `PseudoLabelMethod`.
        """
        super().__init__(**kwargs)
        self.bank, self.gap = {"temperature": temperature, "momentum": momentum}, gap
        self.memory: HybridMemory | None = None
        # The largest accepted 1 - independence, which the first epoch sets; NaN before.
        self.register_buffer("threshold", torch.tensor(math.nan, dtype=torch.float64))

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read the arguments of `__init__` from a configuration."""
        if cfg.PSEUDO_LABELS.ALGORITHM == "hdbscan":
            raise UserError("SpCL tests its clusters at three radii of DBSCAN: set PSEUDO_LABELS.ALGORITHM dbscan.")
        return {
            **super().from_config(cfg),
            "temperature": cfg.MEMORY.TEMPERATURE,
            "momentum": cfg.MEMORY.MOMENTUM,
            "gap": cfg.SPCL.GAP,
        }

    def load_state_dict(self, state_dict, *args, **kwargs):
        """Load a checkpoint; a checkpoint of SpCL includes the memory."""
        if "memory.features" in state_dict:
            self.memory = HybridMemory(state_dict["memory.features"].to(self.device), **self.bank)
        return super().load_state_dict(state_dict, *args, **kwargs)

    def stored_features(self) -> dict[str, Tensor] | None:
        """Return the features in the memory, except in the first epoch: its checkpoint may be from other images."""
        return {"original": self.memory.features.cpu()} if self.memory is not None and self.epoch > 0 else None

    def refine_labels(
        self, labels: np.ndarray, distance: csr_matrix, eps: float, min_samples: int, cameras: np.ndarray | None
    ) -> np.ndarray:
        """Keep the independent and compact clusters; the first epoch sets the threshold of independence."""
        is_set = self.epoch > 0 and not math.isnan(self.threshold)
        labels, threshold = reliable_labels(
            distance, eps, self.gap, min_samples, self.threshold.item() if is_set else None
        )
        self.threshold.fill_(math.nan if threshold is None else threshold)
        return labels

    def start_epoch(self, features: dict[str, Tensor], labels: Tensor, cameras: Tensor | None = None) -> None:
        """Fill the memory in the first epoch; set its classes in every epoch, with a class of its own per outlier."""
        if comm.get_world_size() > 1:
            dist.broadcast(self.threshold, src=0)
        if self.epoch == 0 or self.memory is None:
            self.memory = HybridMemory(features["original"], **self.bank)
        self.memory.labels = torch.from_numpy(noise_as_singletons(labels.cpu().numpy())).to(labels.device)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the unified contrastive loss (Eq. 1), then update the features of the batch's images (Eq. 3)."""
        queries, indices = self.encode(batch["images"]), batch["indices"]
        loss = self.memory(queries, indices)
        self.memory.update(queries, indices, batch.get("index_repeats"))
        return {"loss_unified": loss}
