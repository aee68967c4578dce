"""Keypoints of one photograph and what the coat looks like around each.

Shapes: n keypoints, W dimensions of a descriptor.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from ..data.images import pixels_of, read_image
from ..errors import UserError

Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
UNIT = 512  # the length of a stored descriptor; no entry of a RootSIFT is near half of it


@dataclass(frozen=True)
class Settings:
    """How keypoints are found. Another value of any of them is another file in the cache.

    Attributes:
        extractor: a name in `EXTRACTORS`.
        keypoints: at most, those of the highest contrast.
        side: of the photograph, or of the animal's box, in pixels: larger ones are made smaller to it.
        contrast: SIFT's threshold; below it a spot is no keypoint.
    """

    extractor: str = "rootsift"
    keypoints: int = 600
    side: int = 400
    contrast: float = 0.02


DEFAULT = Settings()


class LocalFeatures(NamedTuple):
    """Keypoints of a photograph.

    Attributes:
        points: (n, 2) float16, x and y as shares of the box's width and height; of the photograph's without a box.
        descriptors: (n, W) uint8, whole numbers, so that their products are exact in float32 in any order.
        size: (width, height) of the box in the pixels in which the keypoints were found.
        digest: of the file, the box and the settings.
        box: left, top, right, bottom as shares of the photograph.
    """

    points: np.ndarray
    descriptors: np.ndarray
    size: tuple[int, int]
    digest: str
    box: Box = WHOLE

    @property
    def pixels(self) -> np.ndarray:
        """(n, 2) float32, the points in pixels of `size`."""
        return self.points.astype(np.float32) * np.float32(self.size)

    @property
    def places(self) -> np.ndarray:
        """(n, 2) float64, the points as shares of the photograph."""
        left, top, right, bottom = self.box
        return self.points.astype(np.float64) * (right - left, bottom - top) + (left, top)

    def keep(self, chosen: np.ndarray) -> "LocalFeatures":
        """Those keypoints only; `chosen` is (n,) booleans."""
        return self._replace(points=self.points[chosen], descriptors=self.descriptors[chosen])


def nothing(digest: str) -> LocalFeatures:
    """No keypoints."""
    return LocalFeatures(np.empty((0, 2), np.float16), np.empty((0, 128), np.uint8), (1, 1), digest)


def extract(
    path: str | os.PathLike,
    settings: Settings = DEFAULT,
    box: Box | None = None,
    mask: np.ndarray | None = None,
    digest: str = "",
) -> LocalFeatures:
    """Find the keypoints of a photograph.

    Args:
        path: of the photograph.
        settings: how.
        box: left, top, right, bottom of the animal as shares of the width and height; keypoints are found inside only,
            at `settings.side` pixels of the box.
        mask: (H, W), not zero where the animal is, of any size in the photograph's proportions.
        digest: to keep with the features; by default that of the pixels, the box, the mask and the settings.

    Raises:
        UnreadableImage: (a UserError) as `read_image`.
        UserError: on an unknown extractor, or a box outside the photograph.
    """
    return extract_from(read_image(path), settings, box, mask, digest)


def extract_from(
    image: Image.Image,
    settings: Settings = DEFAULT,
    box: Box | None = None,
    mask: np.ndarray | None = None,
    digest: str = "",
) -> LocalFeatures:
    """`extract` of a photograph that was read."""
    if settings.extractor not in EXTRACTORS:
        raise UserError(f"Expected an extractor out of {', '.join(EXTRACTORS)}, got {settings.extractor!r}.")
    if box is not None and not (0 <= box[0] <= box[2] <= 1 and 0 <= box[1] <= box[3] <= 1):
        raise UserError(f"Expected a box as left, top, right, bottom in shares from 0 to 1, got {box}.")
    left, top, right, bottom = pixels_of(box or WHOLE, image.size)
    crop = image.crop((left, top, right, bottom)).convert("L")
    scale = min(1.0, settings.side / max(crop.size))
    small = [max(1, round(length * scale)) for length in crop.size]
    inside = None if mask is None else _crop_of_mask(mask, image.size, (left, top, right, bottom), small)
    pixels = np.asarray(crop.resize(small, Image.Resampling.BILINEAR, reducing_gap=2))
    places, descriptors = EXTRACTORS[settings.extractor](pixels, inside, settings)
    width, height = image.size
    found = left / width, top / height, right / width, bottom / height
    digest = digest or _digest_of_pixels(image, settings, box, mask)
    return LocalFeatures(((places + 0.5) / small).astype(np.float16), descriptors, (small[0], small[1]), digest, found)


def _digest_of_pixels(image: Image.Image, settings: Settings, box: Box | None, mask: np.ndarray | None) -> str:
    """What keypoints of a photograph without a file's digest are known by."""
    digest = hashlib.blake2b(image.tobytes(), digest_size=16)
    digest.update(repr((image.size, settings, box)).encode())
    if mask is not None:
        digest.update(np.packbits(np.asarray(mask) != 0).tobytes() + repr(mask.shape).encode())
    return digest.hexdigest()


def _crop_of_mask(mask: np.ndarray, size: tuple[int, int], corners: tuple, small: list[int]) -> np.ndarray:
    """The box of a mask at the size of the box's pixels: 255 inside the animal, 0 elsewhere."""
    image = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))
    return np.asarray(
        image.resize(size, Image.Resampling.NEAREST).crop(corners).resize(small, Image.Resampling.NEAREST)
    )


def rootsift(pixels: np.ndarray, mask: np.ndarray | None, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """SIFT (Lowe, IJCV 2004) with the square roots of its entries (RootSIFT: Arandjelovic and Zisserman, CVPR 2012).

    Args:
        pixels: (H, W) uint8, grey.
        mask: (H, W) uint8, keypoints where it is not zero; None for everywhere.
        settings: of keypoints and contrast.

    Returns:
        Places (n, 2) float64, x and y in pixels from the centre of the first one; descriptors (n, 128) uint8.
    """
    # One for each call: a detector is not safe in several threads.
    sift = cv2.SIFT_create(nfeatures=settings.keypoints, contrastThreshold=settings.contrast)
    keypoints, descriptors = sift.detectAndCompute(pixels, mask)
    if not keypoints:
        return np.empty((0, 2)), np.empty((0, 128), dtype=np.uint8)
    # A spot may have two keypoints of two orientations, and OpenCV may give more than the number asked for.
    order = sorted(range(len(keypoints)), key=lambda n: (-keypoints[n].response, *keypoints[n].pt, keypoints[n].angle))
    order = order[: settings.keypoints]
    shares = descriptors[order] / np.maximum(descriptors[order].sum(axis=1, keepdims=True), 1e-9)
    stored = np.rint(UNIT * np.sqrt(shares)).clip(0, 255).astype(np.uint8)
    return np.array([keypoints[n].pt for n in order], dtype=np.float64), stored


# From grey pixels, a mask and the settings to places and uint8 descriptors, as `rootsift`. Add a function for another.
EXTRACTORS: dict[str, Callable] = {"rootsift": rootsift}
