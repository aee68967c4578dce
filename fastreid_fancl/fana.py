"""Feature-Aware Noise Addition (FANA), Section III-A of FANCL: hide the pixels to which the first layers respond most.

Shapes: B images of 3 x H x W pixels in [0, 255]; C channels of h x w in a feature map.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from fastreid.utils.registry import Registry
from torch import Tensor, nn

from .errors import UserError

NO_CONVOLUTION = "FANCL needs an encoder with a convolution: choose another MODEL.BACKBONE.TIMM."
BATCH_TRANSFORM_REGISTRY = Registry("BATCH_TRANSFORM")
BATCH_TRANSFORM_REGISTRY.__doc__ = """
Transforms of a whole batch on the model's device. `transform(images, activation)` takes (B, 3, H, W) pixels in
[0, 255] and a (B, H, W) activation map, and returns new images. fast-reid has no registry for transforms.
"""


def activation_map(feature_map: Tensor, size: tuple[int, int]) -> Tensor:
    """Eq. 1: A(x) = Resize(sigma(W * x + b), size(x)).

    The paper does not say how the channels of W * x + b become one map. Here sigma is ReLU, and A is the mean of the
    channels.

    Args:
        feature_map: (B, C, h, w), the output of a convolution or BatchNorm layer.
        size: (H, W) in pixels.

    Returns:
        (B, H, W) float32, bilinearly resized.
    """
    activation = feature_map.relu().mean(1, keepdim=True, dtype=torch.float32)
    return F.interpolate(activation, size=size, mode="bilinear", align_corners=False)[:, 0]


def noise_mask(activation: Tensor, ratio: float) -> Tensor:
    """Eq. 2: P(x) = 1 where A(x) >= gamma; gamma is chosen per image so that a given share of the area is noised.

    Args:
        activation: (B, H, W).
        ratio: share of the area to noise, in [0, 1].

    Returns:
        (B, H, W) bool with exactly round(ratio * H * W) ones per image; among pixels equal to gamma, the first ones in
        row order are taken.

    Raises:
        ValueError: if the ratio is outside [0, 1].
    """
    if not 0 <= ratio <= 1:
        raise UserError(f"Expected the share of the area to noise in [0, 1], got {ratio}: correct FANA.RATIO.")
    flat = activation.flatten(1)
    count = round(ratio * flat.shape[1])
    if count == 0:
        return torch.zeros_like(activation, dtype=torch.bool)
    gamma = flat.kthvalue(flat.shape[1] - count + 1, dim=1, keepdim=True).values
    above, equal = flat > gamma, flat == gamma
    remaining = count - above.sum(1, keepdim=True)
    return (above | (equal & (equal.cumsum(1) <= remaining))).view_as(activation)


def add_noise(images: Tensor, mask: Tensor) -> Tensor:
    """Eq. 3 with pepper noise, Noise(x) = 0: x~ = x (1 - P(x)).

    Args:
        images: (B, 3, H, W) in [0, 255], before normalisation; not changed.
        mask: (B, H, W) bool, P(x).

    Returns:
        (B, 3, H, W), a new tensor.
    """
    return images.masked_fill(mask[:, None], 0)


def first_convolution(backbone: nn.Module) -> str:
    """Return the name of a backbone's first convolution: conv1 of a ResNet, the patch embedding of a transformer.

    Raises:
        ValueError: if there is none.
    """
    name = next(_convolutions(backbone), None)
    if name is None:
        raise UserError(NO_CONVOLUTION)
    return name


def _convolutions(backbone: nn.Module) -> Iterator[str]:
    return (name for name, module in backbone.named_modules() if isinstance(module, nn.Conv2d))


@BATCH_TRANSFORM_REGISTRY.register()
class FANA(nn.Module):
    """Eq. 1-3, where W and b are those of the first layers of the original branch.

    FANA reads the activation from a layer while the original branch encodes the batch. So it needs no second forward
    pass, and no BatchNorm layer sees a batch twice.
    """

    def __init__(self, layer: str, ratio: float):
        """Choose the layer, and the share of the area.

        Args:
            layer: name, as in `named_modules()`, of the backbone's module whose output is W * x + b; "auto" is the
                first convolution.
            ratio: share of the area to noise, in [0, 1].
        """
        super().__init__()
        self.layer, self.ratio = layer, ratio

    @contextmanager
    def watch(self, backbone: nn.Module, size: tuple[int, int]) -> Iterator[list[Tensor]]:
        """Collect A(x), (B, H, W), in the yielded list for every batch or part of one that `backbone` encodes.

        Raises:
            ValueError: if the backbone has no such layer, did not run it, or it gives no (B, C, h, w).
        """
        activations: list[Tensor] = []

        def read(module, inputs, output):
            channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC" and not isinstance(module, nn.Conv2d)
            if not isinstance(output, Tensor) or output.ndim != 4 or channels_last:
                first = next(_convolutions(backbone), None)
                cure = NO_CONVOLUTION if first is None else f"Name a convolution, such as {first}."
                raise UserError(f"FANA.LAYER {self.layer} does not give a feature map (B, C, h, w). {cure}")
            # Compute it now, since the next layer may change the output in place.
            with torch.no_grad():
                activations.append(activation_map(output, size))

        handle = self._find(backbone).register_forward_hook(read)
        try:
            yield activations
        finally:
            handle.remove()
        if not activations:
            raise UserError(
                f"FANA.LAYER {self.layer} does not run as a whole: name one of its parts, such as {self.layer}.0."
            )

    def _find(self, backbone: nn.Module) -> nn.Module:
        modules = dict(backbone.named_modules())
        layer = first_convolution(backbone) if self.layer == "auto" else self.layer
        if layer not in modules or not layer:
            names = [name for name in modules if name and name.count(".") == 0]
            raise UserError(
                f"Expected FANA.LAYER to name a module of the backbone, got {self.layer!r}. Its top modules are "
                f"{', '.join(names)}; you can also name a module inside them."
            )
        return modules[layer]

    @torch.no_grad()
    def forward(self, images: Tensor, activation: Tensor) -> Tensor:
        """Eq. 2-3: images (B, 3, H, W) in [0, 255] and their A(x) (B, H, W) -> noised images (B, 3, H, W)."""
        return add_noise(images, noise_mask(activation, self.ratio))

    def extra_repr(self) -> str:
        """Show the settings when the model is printed."""
        return f"layer={self.layer!r}, ratio={self.ratio}"
