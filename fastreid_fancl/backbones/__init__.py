"""Backbones that fast-reid lacks: importing this package registers them."""

from .timm import build_timm_backbone, build_waveblock_timm_backbone
from .waveblock import build_waveblock_resnet_backbone

__all__ = [
    "build_timm_backbone",
    "build_waveblock_resnet_backbone",
    "build_waveblock_timm_backbone",
]
