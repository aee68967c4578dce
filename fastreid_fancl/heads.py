"""Heads that turn a backbone's feature map into one feature an image."""

import torch.nn.functional as F
from fastreid.config import configurable
from fastreid.layers import get_norm, pooling
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from torch import Tensor, nn

from .losses import full_precision


@REID_HEADS_REGISTRY.register()
class ClusterContrastHead(nn.Module):
    """Global pooling, BatchNorm, L2 normalisation (FANCL, Section IV-B; Cluster Contrast's encoder).

    Its modules carry the names of fast-reid's EmbeddingHead, so a supervised checkpoint with a BNNeck starts it whole.
    """

    @configurable
    def __init__(self, *, feat_dim: int, pool_type: str, norm_type: str):
        """
        Args:
            feat_dim: channels D of the feature map.
            pool_type: a class of fastreid.layers.pooling.
            norm_type: a key of fastreid.layers.get_norm. As in Cluster Contrast its bias stays at zero.

        Raises:
            ValueError: on an unknown pooling.
        """
        super().__init__()
        if pool_type not in pooling.__all__:
            raise ValueError(f"Expected MODEL.HEADS.POOL_LAYER to be one of {pooling.__all__}, got {pool_type!r}.")
        self.pool_layer = getattr(pooling, pool_type)()
        self.bottleneck = nn.Sequential(get_norm(norm_type, feat_dim, bias_freeze=True))

    @classmethod
    def from_config(cls, cfg) -> dict:
        return {
            "feat_dim": cfg.MODEL.BACKBONE.FEAT_DIM,
            "pool_type": cfg.MODEL.HEADS.POOL_LAYER,
            "norm_type": cfg.MODEL.HEADS.NORM,
        }

    def embed(self, feature_map: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, D) after BatchNorm, before L2."""
        return self.bottleneck(self.pool_layer(feature_map))[..., 0, 0]

    def forward(self, feature_map: Tensor, targets: Tensor | None = None) -> Tensor:
        """(B, D, h, w) -> (B, D) float32 of unit length. `targets` is there because fast-reid's heads take it."""
        features = self.embed(feature_map)
        with full_precision(features.device):
            return F.normalize(features.float(), dim=1)


AXES = ("height", "width")


def stripes(feature_map: Tensor, parts: int, axis: str) -> Tensor:
    """The mean of each of P equal stripes across one axis of a feature map, (B, D, h, w) -> (B, P, D).

    Stripes overlap by one row where `parts` does not divide the axis, as adaptive pooling's do.
    """
    size = (parts, 1) if axis == "height" else (1, parts)
    return F.adaptive_avg_pool2d(feature_map, size).flatten(2).transpose(1, 2)


@REID_HEADS_REGISTRY.register()
class PartHead(nn.Module):
    """Uniform stripes, each with a 1x1 reduction and a BatchNorm of its own (PCB, Sun et al., ECCV 2018; PPLR)."""

    @configurable
    def __init__(self, feat_dim: int, parts: int, axis: str = "height", reduced_dim: int = 0, norm_type: str = "BN"):
        """
        Args:
            feat_dim: channels D of the feature map.
            parts: P stripes.
            axis: "height" lays them one above the other, "width" side by side.
            reduced_dim: d, dimensions of a part's feature; 0 leaves out the reduction.
            norm_type: a key of fastreid.layers.get_norm. Its bias stays at zero.

        Raises:
            ValueError: on an unknown axis or fewer than one part.
        """
        super().__init__()
        if axis not in AXES or parts < 1:
            raise ValueError(f"Expected PARTS.AXIS of {AXES} and PARTS.NUMBER of 1 or more, got {axis}, {parts}.")
        self.parts, self.axis = parts, axis
        self.feat_dim, self.dim = feat_dim, reduced_dim or feat_dim
        whole, reduced = parts * feat_dim, parts * self.dim
        self.reduction = nn.Conv2d(whole, reduced, 1, groups=parts, bias=False) if reduced_dim else nn.Identity()
        self.bottleneck = get_norm(norm_type, reduced, bias_freeze=True)

    @classmethod
    def from_config(cls, cfg) -> dict:
        return {
            "feat_dim": cfg.MODEL.BACKBONE.FEAT_DIM,
            "parts": cfg.PARTS.NUMBER,
            "axis": cfg.PARTS.AXIS,
            "reduced_dim": cfg.PARTS.DIM,
            "norm_type": cfg.MODEL.HEADS.NORM,
        }

    def reduce(self, pooled: Tensor) -> Tensor:
        """Each part by its own reduction and BatchNorm, (B, P, D) -> (B, P, d)."""
        features = self.bottleneck(self.reduction(pooled.flatten(1)[..., None, None]))
        return features.view(len(features), self.parts, self.dim)

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, P, d)."""
        return self.reduce(stripes(feature_map, self.parts, self.axis))
