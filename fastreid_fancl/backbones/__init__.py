"""Backbones that fast-reid lacks: importing this package registers them."""

from .waveblock import build_waveblock_resnet_backbone

__all__ = ["build_waveblock_resnet_backbone"]
