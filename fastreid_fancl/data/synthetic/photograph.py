"""Draw one photograph of an animal at a place with a camera."""

import numpy as np

from .animals import Animal
from .camera import Camera
from .draw import Canvas
from .figure import View, draw_animal, outline
from .pose import draw_pose
from .scene import PLACES, occlude, shadow, tree


def take_photograph(
    animal: Animal, place: str, camera: Camera, size: tuple[int, int], rng: np.random.Generator
) -> tuple[bytes, str]:
    """Draw one photograph of an animal.

    Args:
        animal: the animal to draw.
        place: a name in ``scene.PLACES``.
        camera: ranges of viewpoint, light and noise.
        size: width and height in pixels.
        rng: source of everything random.

    Returns:
        The bytes of the JPEG file, and the direction in which the animal heads, "left" or "right".
    """
    width, height = size
    left = rng.random() < 0.5
    yaw = rng.uniform(*camera.yaw)
    view = View(np.pi - yaw if left else yaw, tilt=rng.uniform(*camera.tilt))
    pose = draw_pose(animal, rng, facing=-np.pi / 2 - view.yaw)
    view, low, high = _aim(rng, view, *outline(animal, pose, view), size, camera.framing)
    ground = high[1] - 0.06 * (high[1] - low[1])
    image = PLACES[place](rng, (height, width), ground)
    if pose.name == "climb":
        trunk_line = view.points(pose.trunk.points[[0, -2]])[:, :2]
        tree(rng, image, *trunk_line, animal.build.girth * view.scale)
    else:
        shadow(rng, image, low, high, ground)
    light = np.array([rng.normal(0, camera.sun[0]), -1.0, rng.uniform(*camera.sun[1:])])
    light = (light / np.linalg.norm(light)).astype(np.float32)
    canvas = Canvas(image, light, ambient=rng.uniform(*camera.ambient), shift=tuple(rng.integers(0, 512, 2)))
    draw_animal(canvas, animal, pose, view)
    if rng.random() >= 1 - camera.occluded:
        occlude(rng, canvas.image, place)
    return camera.encode(rng, camera.expose(rng, canvas.image)), "left" if left else "right"


def _aim(rng, view: View, low, high, size, framing) -> tuple[View, np.ndarray, np.ndarray]:
    """Frame the animal: loosely, or so tightly that something is cut off."""
    width, height = size
    span = high - low
    scale = min(width / span[0], height / span[1]) * rng.uniform(*framing)
    margin = np.array(size) - span * scale
    corner = margin * rng.uniform(0.2, 0.8, 2) + rng.normal(0, 0.03, 2) * height
    origin = corner - low * scale
    placed = View(view.yaw, view.tilt, scale, (float(origin[0]), float(origin[1])))
    return placed, corner, corner + span * scale
