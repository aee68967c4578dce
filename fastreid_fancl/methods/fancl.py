"""Feature-Aware Noise Contrastive Learning for Unsupervised Red Panda Re-Identification (Zhang, Zhao and Liu).

The paper's symbols and their names here:

- x, x~: images and noised images;
- f, f~, f^: original, noised and fused features;
- f_theta, f_theta', f_phi: `encode`, `encode_noised` and `fuse`;
- M, M~, M^: the memory banks of ORIGINAL, NOISED and FUSED;
- tau: temperature; alpha: momentum.

Shapes: B queries, N images, M clusters, D dimensions.
"""

import torch
import torch.nn.functional as F
from fastreid.config import configurable
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.heads import build_heads
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from torch import Tensor, nn

from ..backbones.probe import encode_blank
from ..fana import BATCH_TRANSFORM_REGISTRY
from ..losses import cosine, full_precision
from ..memory import ClusterMemory, cluster_centroids
from .base import PseudoLabelMethod

ORIGINAL, NOISED, FUSED = BRANCHES = ("original", "noised", "fused")


def consistency_loss(
    original: Tensor,
    noised: Tensor,
    noised_centroids: Tensor,
    targets: Tensor,
    instance: bool = True,
    cluster: bool = True,
) -> Tensor:
    """Eq. 7: L_consistency = -sim(f_q, m~_+) - sim(f_q, f~_q).

    Args:
        original: (B, D) f_q.
        noised: (B, D) f~_q.
        noised_centroids: (M, D), the bank M~.
        targets: (B,) cluster of each query, which selects m~_+.
        instance: whether to include the term sim(f_q, f~_q) (Table II).
        cluster: whether to include the term sim(f_q, m~_+) (Table II).

    Returns:
        The mean over the batch, in [-2, 2]; zero without either term.
    """
    loss = original.new_zeros((), dtype=torch.float32)
    if cluster:
        loss = loss - cosine(original, noised_centroids[targets]).mean()
    if instance:
        loss = loss - cosine(original, noised).mean()
    return loss


@META_ARCH_REGISTRY.register()
class FANCL(PseudoLabelMethod):
    """Two independent encoders (of the image and its noised copy), a fusion layer 2D -> D and three cluster memories.

    The paper leaves some details open. Here the fusion layer takes the two features at unit length, and its output is
    normalised to unit length too; the gradient of Eq. 7 reaches both encoders; the test-time feature is that of the
    original branch; f_theta' starts from the starting weights of f_theta, if there are any (Algorithm 1, "Initialize").
    """

    TWINS = ("noised_",)

    @configurable
    def __init__(
        self,
        *,
        noised_backbone: nn.Module,
        noised_heads: nn.Module,
        fana: nn.Module,
        feat_dim: int,
        temperature: float,
        momentum: float,
        update: str,
        instance: bool,
        cluster: bool,
        **kwargs,
    ):
        """Assemble the two encoders and the fusion layer.

        Args:
            noised_backbone: backbone of f_theta', built like `backbone`.
            noised_heads: head of f_theta', built like `heads`.
            fana: the noise transform, with a method `watch` as in `fana.FANA`.
            feat_dim: D.
            temperature: tau of the three `ClusterMemory`.
            momentum: alpha of the three `ClusterMemory`.
            update: "mean" or "hard", as for `ClusterMemory`.
            instance: whether Eq. 7 includes its instance term.
            cluster: whether Eq. 7 includes its cluster term.
            **kwargs: arguments of `PseudoLabelMethod`.
        """
        super().__init__(**kwargs)
        self.noised_backbone, self.noised_heads, self.fana = noised_backbone, noised_heads, fana
        self.fusion = nn.Linear(2 * feat_dim, feat_dim)
        self.bank = {"temperature": temperature, "momentum": momentum, "update": update}
        self.consistency = {"instance": instance, "cluster": cluster}

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read the arguments of `__init__` from a configuration.

        Raises:
            UserError: if FANA.LAYER is no layer of the backbone that gives a feature map.
        """
        encoder, size = super().from_config(cfg), tuple(cfg.INPUT.SIZE_TRAIN)
        fana = BATCH_TRANSFORM_REGISTRY.get("FANA")(cfg.FANA.LAYER, cfg.FANA.RATIO)
        with fana.watch(encoder["backbone"], size):
            encode_blank(encoder["backbone"], size)
        return {
            **encoder,
            "noised_backbone": build_backbone(cfg),
            "noised_heads": build_heads(cfg),
            "fana": fana,
            "feat_dim": cfg.MODEL.BACKBONE.FEAT_DIM,
            "temperature": cfg.MEMORY.TEMPERATURE,
            "momentum": cfg.MEMORY.MOMENTUM,
            "update": cfg.MEMORY.UPDATE,
            "instance": cfg.CONSISTENCY.INSTANCE,
            "cluster": cfg.CONSISTENCY.CLUSTER,
        }

    def encode_noised(self, images: Tensor) -> Tensor:
        """f_theta': encode noised images (B, 3, H, W) in [0, 255] as features (B, D) of unit length."""
        return self.noised_heads(self.noised_backbone(self.normalise(images)))

    def fuse(self, original: Tensor, noised: Tensor) -> Tensor:
        """f_phi: fuse two features (B, D) into one (B, D) of unit length."""
        fused = self.fusion(torch.cat([original, noised], dim=1))
        with full_precision(fused.device):
            return F.normalize(fused.float(), dim=1)

    def encode_branches(self, images: Tensor) -> dict[str, Tensor]:
        """Encode images (B, 3, H, W) in [0, 255] as f, f~ and f^, each (B, D).

        FANA (Eq. 1-3) makes x~ from the output of f_theta's first layers.
        """
        with self.fana.watch(self.backbone, images.shape[-2:]) as activations:
            original = self.encode(images)
        noised = self.encode_noised(self.fana(images, torch.cat(activations)))
        return {ORIGINAL: original, NOISED: noised, FUSED: self.fuse(original, noised)}

    def cluster_features(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute f, f~ and f^ (Algorithm 1, lines 2-3); f gets clustered."""
        return self.encode_branches(batch["images"])

    def start_epoch(self, features: dict[str, Tensor], labels: Tensor, cameras: Tensor | None = None) -> None:
        """Fill the banks M, M~ and M^ by Eq. 8, all three with the labels of the original features."""
        self.memory = nn.ModuleDict(
            {name: ClusterMemory(cluster_centroids(features[name], labels), **self.bank) for name in BRANCHES}
        )

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute Eq. 10, L_cluster-all (Eq. 6, an entry per branch) + L_consistency (Eq. 7), then update by Eq. 9."""
        queries, targets = self.encode_branches(batch["images"]), batch["targets"]
        losses = {f"loss_cluster_{name}": self.memory[name](queries[name], targets) for name in BRANCHES}
        if any(self.consistency.values()):
            losses["loss_consistency"] = consistency_loss(
                queries[ORIGINAL], queries[NOISED], self.memory[NOISED].centroids, targets, **self.consistency
            )
        for name in BRANCHES:
            self.memory[name].update(queries[name], targets, batch.get("target_repeats"))
        return losses
