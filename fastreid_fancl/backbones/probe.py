"""One forward pass of a backbone when it is built, so that what it cannot do stops a run before anything is written."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def encode_blank(backbone: nn.Module, size: tuple[int, int], images: int = 1) -> Tensor:
    """Encode blank images in evaluation mode; the backbone's weights, statistics and modes stay as they are.

    Args:
        backbone: any backbone.
        size: (H, W) of the images in pixels.
        images: their number B.

    Returns:
        The feature map (B, D, h, w).
    """
    modes = {module: module.training for module in backbone.modules()}
    backbone.eval()
    try:
        return backbone(torch.zeros(images, 3, *size, device=next(backbone.parameters()).device))
    finally:
        for module, mode in modes.items():
            module.training = mode
