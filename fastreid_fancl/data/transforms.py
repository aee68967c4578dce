"""What training does to a photograph beside fast-reid's own transforms."""

import random

from fastreid.data.transforms import ToTensor, build_transforms
from PIL import Image, ImageFilter
from torchvision.transforms import Compose, RandomApply


class GaussianBlur:
    """Blur a PIL image with a deviation drawn evenly from `sigma`, in pixels (SimCLR, Chen et al., ICML 2020)."""

    def __init__(self, sigma: tuple[float, float]):
        self.sigma = sigma

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(*self.sigma)))


def train_transforms(cfg) -> Compose:
    """fast-reid's transforms of a training image, with INPUT.BLUR before the image becomes a tensor.

    There the image has the size that the network sees, in whose pixels the deviation is given.
    """
    stock = build_transforms(cfg, is_train=True)
    if cfg.INPUT.BLUR.ENABLED:
        place = next(n for n, step in enumerate(stock.transforms) if isinstance(step, ToTensor))
        stock.transforms.insert(place, RandomApply([GaussianBlur(tuple(cfg.INPUT.BLUR.SIGMA))], p=cfg.INPUT.BLUR.PROB))
    return stock
