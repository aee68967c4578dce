"""Backbones that fast-reid lacks: importing this package registers them."""

from .densenet import build_densenet_backbone
from .timm import build_timm_backbone, build_waveblock_timm_backbone
from .waveblock import build_waveblock_resnet_backbone

__all__ = [
    "build_densenet_backbone",
    "build_timm_backbone",
    "build_waveblock_resnet_backbone",
    "build_waveblock_timm_backbone",
]
