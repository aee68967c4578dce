"""Heads that turn a backbone's feature map into one feature per image, or one per part."""

import torch.nn.functional as F
from fastreid.config import configurable
from fastreid.layers import get_norm, pooling
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from torch import Tensor, nn

from .errors import UserError
from .losses import full_precision


@REID_HEADS_REGISTRY.register()
class ClusterContrastHead(nn.Module):
    """Global pooling, BatchNorm and L2 normalisation (FANCL, Section IV-B; Cluster Contrast's encoder).

    Its modules have the names of fast-reid's EmbeddingHead, so a supervised checkpoint with a BNNeck initialises all of
    it.
    """

    @configurable
    def __init__(self, *, feat_dim: int, pool_type: str, norm_type: str):
        """Create the pooling and the BatchNorm.

        Args:
            feat_dim: channels D of the feature map.
            pool_type: name of a class in fastreid.layers.pooling.
            norm_type: a key of fastreid.layers.get_norm. As in Cluster Contrast, its bias stays at zero.

        Raises:
            ValueError: if the pooling is unknown.
        """
        super().__init__()
        if pool_type not in pooling.__all__:
            raise UserError(f"Expected MODEL.HEADS.POOL_LAYER to be one of {pooling.__all__}, got {pool_type!r}.")
        self.pool_layer = getattr(pooling, pool_type)()
        self.bottleneck = nn.Sequential(get_norm(norm_type, feat_dim, bias_freeze=True))

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read the arguments of `__init__` from a configuration."""
        return {
            "feat_dim": cfg.MODEL.BACKBONE.FEAT_DIM,
            "pool_type": cfg.MODEL.HEADS.POOL_LAYER,
            "norm_type": cfg.MODEL.HEADS.NORM,
        }

    def embed(self, feature_map: Tensor) -> Tensor:
        """Pool and apply BatchNorm, without L2 normalisation: (B, D, h, w) -> (B, D)."""
        return self.bottleneck(self.pool_layer(feature_map))[..., 0, 0]

    def forward(self, feature_map: Tensor, targets: Tensor | None = None) -> Tensor:
        """Pool and normalise: (B, D, h, w) -> (B, D) float32 of unit length.

        fast-reid's heads take `targets`; this one does not use it.
        """
        features = self.embed(feature_map)
        with full_precision(features.device):
            return F.normalize(features.float(), dim=1)


AXES = ("height", "width")


def stripes(feature_map: Tensor, parts: int, axis: str) -> Tensor:
    """Average each of P equal stripes along one axis of a feature map: (B, D, h, w) -> (B, P, D).

    If `parts` does not divide the axis, neighbouring stripes overlap by one row, as in adaptive pooling.
    """
    size = (parts, 1) if axis == "height" else (1, parts)
    return F.adaptive_avg_pool2d(feature_map, size).flatten(2).transpose(1, 2)


@REID_HEADS_REGISTRY.register()
class PartHead(nn.Module):
    """Uniform stripes, each with its own 1x1 reduction and BatchNorm (PCB, Sun et al., ECCV 2018; PPLR)."""

    @configurable
    def __init__(self, feat_dim: int, parts: int, axis: str = "height", reduced_dim: int = 0, norm_type: str = "BN"):
        """Create the reductions and the BatchNorm of all parts.

        Args:
            feat_dim: channels D of the feature map.
            parts: number P of stripes.
            axis: "height" places them one above the other, "width" side by side.
            reduced_dim: dimensions d of a part's feature; 0 omits the reduction.
            norm_type: a key of fastreid.layers.get_norm. Its bias stays at zero.

        Raises:
            ValueError: if the axis is unknown or there is less than one part.
        """
        super().__init__()
        if axis not in AXES or parts < 1:
            raise UserError(
                f"Expected PARTS.AXIS to be one of {AXES} and PARTS.NUMBER of at least 1, got {axis} and {parts}."
            )
        self.parts, self.axis = parts, axis
        self.feat_dim, self.dim = feat_dim, reduced_dim or feat_dim
        channels, reduced = parts * feat_dim, parts * self.dim
        self.reduction = nn.Conv2d(channels, reduced, 1, groups=parts, bias=False) if reduced_dim else nn.Identity()
        self.bottleneck = get_norm(norm_type, reduced, bias_freeze=True)

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read the arguments of `__init__` from a configuration."""
        return {
            "feat_dim": cfg.MODEL.BACKBONE.FEAT_DIM,
            "parts": cfg.PARTS.NUMBER,
            "axis": cfg.PARTS.AXIS,
            "reduced_dim": cfg.PARTS.DIM,
            "norm_type": cfg.MODEL.HEADS.NORM,
        }

    def reduce(self, pooled: Tensor) -> Tensor:
        """Apply each part's own reduction and BatchNorm: (B, P, D) -> (B, P, d)."""
        features = self.bottleneck(self.reduction(pooled.flatten(1)[..., None, None]))
        return features.flatten(1).unflatten(1, (self.parts, self.dim))

    def forward(self, feature_map: Tensor) -> Tensor:
        """Pool the stripes and reduce them: (B, D, h, w) -> (B, P, d)."""
        return self.reduce(stripes(feature_map, self.parts, self.axis))
