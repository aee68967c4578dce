"""Recognise the architecture of a state dict from its names and shapes."""

import re
from collections.abc import Iterable

RESNETS = {
    ("basic", 2, 2, 2, 2): "ResNet-18",
    ("basic", 3, 4, 6, 3): "ResNet-34",
    ("bottleneck", 3, 4, 6, 3): "ResNet-50",
    ("bottleneck", 3, 4, 23, 3): "ResNet-101",
    ("bottleneck", 3, 8, 36, 3): "ResNet-152",
}
DENSENETS = {(6, 12, 24, 16): 121, (6, 12, 36, 24): 161, (6, 12, 32, 32): 169, (6, 12, 48, 32): 201}
# torchvision's Swin, ConvNeXt, EfficientNet, MobileNet and VGG, and its vision transformers.
TORCHVISION = re.compile(r"(^|\.)(features\.\d+|conv_proj|encoder\.layers\.encoder_layer_\d+)\.")


def architecture(weights: dict) -> str | None:
    """Name the architecture of a state dict, such as "ResNet-50", whatever the prefix of its keys; None if unknown."""
    if stages := _counts(weights, r"(?:^|\.)layer([1-4])\.(\d+)\.conv1\.weight$", 4):
        block = "bottleneck" if any(key.endswith("layer1.0.conv3.weight") for key in weights) else "basic"
        return RESNETS.get((block, *stages))
    if blocks := _counts(weights, r"(?:^|\.)denseblock([1-4])\.denselayer(\d+)\.conv\.?1\.weight$", 4):
        return f"DenseNet-{DENSENETS[blocks]}" if blocks in DENSENETS else None
    embedding = next((value for key, value in weights.items() if key.endswith("patch_embed.proj.weight")), None)
    depth = _counts(weights, r"(?:^|\.)(blocks)\.(\d+)\.norm1\.weight$", 1)
    if depth and embedding is not None:
        return f"vision transformer of {depth[0]} blocks, {embedding.shape[0]} wide"
    return None


def torchvision_name(names: Iterable[str]) -> str | None:
    """Find a name that only torchvision gives to a weight, in a network whose names nothing here converts."""
    return next((name for name in names if TORCHVISION.search(name)), None)


def _counts(weights: dict, pattern: str, groups: int) -> tuple[int, ...]:
    """Count the block numbers (second group) in each stage (first group); () if there are not `groups` stages."""
    blocks: dict[str, set[str]] = {}
    for key in weights:
        if match := re.search(pattern, key):
            blocks.setdefault(match[1], set()).add(match[2])
    return tuple(len(blocks[stage]) for stage in sorted(blocks)) if len(blocks) == groups else ()
