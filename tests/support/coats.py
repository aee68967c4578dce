"""Drawn coats of spots."""

import cv2
import numpy as np

SIZE = (200, 150)  # width, height


def coat(animal: int) -> np.ndarray:
    """(H, W) uint8: spots of an animal, with some noise so that every place has a texture."""
    rng = np.random.default_rng(animal)
    picture = np.full(SIZE[::-1], 200, dtype=np.uint8)
    for _ in range(70):
        centre = [int(rng.integers(length)) for length in SIZE]
        axes = [int(length) for length in rng.integers(3, 12, 2)]
        cv2.ellipse(picture, centre, axes, int(rng.integers(180)), 0, 360, int(rng.integers(0, 150)), -1)
    noise = cv2.GaussianBlur(rng.normal(0, 40, picture.shape), (0, 0), 1)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)
