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


def under_text(picture: np.ndarray) -> np.ndarray:
    """A coat under the bar of text that a camera trap writes into the upper 15% of its photographs."""
    written = picture.copy()
    written[:30] = 0
    cv2.putText(written, "STATION 04  21C", (4, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 2)
    return written
