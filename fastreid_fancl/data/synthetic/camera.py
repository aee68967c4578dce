"""The camera: viewpoint, light, lens and sensor, from the colours of a scene to the bytes of a photograph."""

from dataclasses import dataclass

import cv2
import numpy as np

from .scene import clouds


@dataclass(frozen=True)
class Camera:
    """How much the photographs of one data set differ, as standard deviations or ranges.

    Attributes:
        warmth: standard deviation of the colour temperature (log gain of red against blue).
        tint: standard deviation of the log gain of green.
        exposure: standard deviation of the brightness, in stops.
        contrast: standard deviation of the logarithm of gamma.
        shade: largest depth of the shadows of leaves or bars, 0 to 1.
        blur: largest blur, as a share of the height.
        noise: largest standard deviation of the sensor noise.
        quality: range of the JPEG quality.
        yaw: range of the angle (radians) by which the view turns towards the animal's front or back.
        tilt: range of the angle (radians) by which the camera looks down.
        framing: range of the animal's size, where 1 fills the picture.
        sun: standard deviation of the light's horizontal direction, and the range of its height.
        ambient: range of the share of ambient light.
        occluded: share of pictures with something in front of the animal.
    """

    warmth: float = 0.05
    tint: float = 0.02
    exposure: float = 0.15
    contrast: float = 0.08
    shade: float = 0.4
    blur: float = 0.009
    noise: float = 0.03
    quality: tuple[int, int] = (55, 92)
    yaw: tuple[float, float] = (-0.6, 0.2)
    tilt: tuple[float, float] = (-0.05, 0.4)
    framing: tuple[float, float] = (0.88, 1.03)
    sun: tuple[float, float, float] = (0.5, 0.3, 1.2)
    ambient: tuple[float, float] = (0.45, 0.75)
    occluded: float = 0.2

    def expose(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
        """Expose a scene (H, W, 3), float RGB in [0, 1]: (H, W, 3) uint8 RGB."""
        shape = image.shape[:2]
        if rng.random() < 0.5:
            soft = clouds(rng, shape, rng.uniform(1.5, 5))
            image = image * (1 - rng.uniform(0, self.shade) * np.clip(soft * 3 - 1, 0, 1))[..., None]
        warm, tint = rng.normal(0, self.warmth), rng.normal(0, self.tint)
        gain = np.exp([warm, tint, -warm]) * 2 ** rng.normal(0, self.exposure)
        image = np.clip(image * gain.astype(np.float32), 0, 1) ** np.float32(np.exp(rng.normal(0, self.contrast)))
        image = self._blur(rng, image)
        noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(0, self.noise))
        return np.clip((image + noise) * 255 + 0.5, 0, 255).astype(np.uint8)

    def _blur(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
        size = rng.uniform(0, self.blur) * image.shape[0]
        if size > 0.3:
            image = cv2.GaussianBlur(image, (0, 0), size)
        if rng.random() < 0.15:
            length = max(2, round(3 * self.blur * image.shape[0]))
            image = cv2.filter2D(image, -1, np.full((1, length), 1 / length, np.float32))
        return image

    def encode(self, rng: np.random.Generator, photograph: np.ndarray) -> bytes:
        """Encode a photograph (H, W, 3), uint8 RGB, as JPEG."""
        quality = int(rng.integers(*self.quality, endpoint=True))
        done, data = cv2.imencode(".jpg", photograph[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert done
        return data.tobytes()
