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

    def forward(self, feature_map: Tensor, targets: Tensor | None = None) -> Tensor:
        """(B, D, h, w) -> (B, D) float32 of unit length. `targets` is there because fast-reid's heads take it."""
        features = self.bottleneck(self.pool_layer(feature_map))[..., 0, 0]
        with full_precision(features.device):
            return F.normalize(features.float(), dim=1)
