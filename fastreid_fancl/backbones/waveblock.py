"""The ResNet of JCL: WaveBlock and attention after the second and third stage.

WaveBlock: Attentive WaveBlock (Wang et al., TIP 2022); attention: CBAM (Woo et al., ECCV 2018).
Shapes: B images, C channels.
"""

from collections.abc import Mapping

import torch
from fastreid.modeling.backbones import BACKBONE_REGISTRY, build_resnet_backbone
from fastreid.modeling.backbones.resnet import model_urls  # noqa: F401 (tells where its ImageNet weights are)
from torch import Tensor, nn


class WaveBlock(nn.Module):
    """Multiply all rows of a feature map by `rate` in training, except a random band; do nothing at test time.

    Each batch draws one band, from the process's generator, which all ranks seed equally.
    """

    def __init__(self, band: float = 0.3, rate: float = 1.5):
        """Set the height of the band and the factor.

        Args:
            band: height of the band that keeps its values, as a share of the map's height.
            rate: factor of all other rows.
        """
        super().__init__()
        self.band, self.rate = band, rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        if not self.training:
            return x
        height = x.shape[2]
        rows = round(self.band * height)
        first = int(torch.randint(height - rows + 1, ()))
        factor = x.new_full((height, 1), self.rate)
        factor[first : first + rows] = 1
        return x * factor


class CBAM(nn.Module):
    """Channel, then spatial attention: x -> x * a_c(x) * a_s(x * a_c(x)), both in (0, 1)."""

    def __init__(self, channels: int, reduction: int = 16, kernel: int = 7):
        """Create the layers of both attentions.

        Args:
            channels: C.
            reduction: C divided by the width of the hidden layer of the channel attention.
            kernel: kernel size of the spatial attention's convolution.
        """
        super().__init__()
        hidden = max(1, channels // reduction)
        self.channel = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )
        self.spatial = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        x = x * (self.channel(x.mean((2, 3), keepdim=True)) + self.channel(x.amax((2, 3), keepdim=True))).sigmoid()
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * self.spatial(pooled).sigmoid()


class WaveAttention(nn.Module):
    """Apply WaveBlock, then add the attention: x + cbam(x)."""

    def __init__(self, channels: int):
        """Create both modules for a map of C `channels`."""
        super().__init__()
        self.wave, self.attention = WaveBlock(), CBAM(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        x = self.wave(x)
        return x + self.attention(x)


@BACKBONE_REGISTRY.register()
def build_waveblock_resnet_backbone(cfg) -> nn.Module:
    """Build fast-reid's ResNet with a WaveAttention as the last block of layer2 and of layer3.

    All other weights keep their names, so weights of a ResNet fit; these two blocks start with random weights.
    """
    backbone = build_resnet_backbone(cfg)
    return add_wave_attention(backbone, {stage: _channels(stage) for stage in (backbone.layer2, backbone.layer3)})


def add_wave_attention(backbone: nn.Module, stages: Mapping[nn.Sequential, int]) -> nn.Module:
    """Append a `WaveAttention` to stages of a backbone, in place; it starts random, also beside pre-trained weights.

    Args:
        backbone: changed in place.
        stages: stages of the backbone, each with its output channels.
    """
    names = {stage: name for name, stage in backbone.named_modules()}
    fresh = []
    for stage, channels in stages.items():
        fresh.append(f"{names[stage]}.{len(stage)}")
        stage.append(WaveAttention(channels))
    backbone.fresh_parts = (*getattr(backbone, "fresh_parts", ()), *fresh)
    return backbone


def _channels(stage: nn.Sequential) -> int:
    """Output channels of a stage of fast-reid's ResNet: those of its last convolution."""
    return [module for module in stage.modules() if isinstance(module, nn.Conv2d)][-1].out_channels
