"""Transforms of training images in addition to fast-reid's."""

import random

from fastreid.data.transforms import ToTensor, build_transforms
from PIL import Image, ImageFilter
from torchvision.transforms import Compose, RandomApply


class GaussianBlur:
    """Blur a PIL image with a random standard deviation (SimCLR, Chen et al., ICML 2020)."""

    def __init__(self, sigma: tuple[float, float]):
        """Draw the standard deviation, in pixels, uniformly from the range `sigma`."""
        self.sigma = sigma

    def __call__(self, image: Image.Image) -> Image.Image:
        """Blur an image."""
        return image.filter(ImageFilter.GaussianBlur(random.uniform(*self.sigma)))


def train_transforms(cfg) -> Compose:
    """Build fast-reid's transforms of a training image, with INPUT.BLUR just before the image becomes a tensor.

    At that point the image has the input size of the network, so the deviation is in pixels of that size.
    """
    stock = build_transforms(cfg, is_train=True)
    if cfg.INPUT.BLUR.ENABLED:
        place = next(n for n, step in enumerate(stock.transforms) if isinstance(step, ToTensor))
        stock.transforms.insert(place, RandomApply([GaussianBlur(tuple(cfg.INPUT.BLUR.SIGMA))], p=cfg.INPUT.BLUR.PROB))
    return stock
