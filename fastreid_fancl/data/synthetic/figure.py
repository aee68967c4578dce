"""Place an animal in a pose before the camera and draw it part by part."""

from dataclasses import dataclass

import numpy as np

from .animals import Animal
from .draw import Canvas, ellipsoid, tube
from .pose import Line, Pose


@dataclass(frozen=True)
class View:
    """Viewpoint of the camera.

    Attributes:
        yaw: the animal's heading in the picture: 0 right, pi left, -pi/2 towards the viewer.
        tilt: angle by which the camera looks down.
        scale: pixels per trunk length.
        origin: pixel of the hip.
    """

    yaw: float
    tilt: float
    scale: float = 1.0
    origin: tuple[float, float] = (0.0, 0.0)

    def directions(self, world: np.ndarray) -> np.ndarray:
        """Rotate world vectors (..., 3) into camera vectors of the same length."""
        c, s, ct, st = np.cos(self.yaw), np.sin(self.yaw), np.cos(self.tilt), np.sin(self.tilt)
        matrix = np.array([[c, -s * st, -s * ct], [-s, -c * st, -c * ct], [0, -ct, st]])
        return world @ matrix

    def points(self, world: np.ndarray) -> np.ndarray:
        """Project world points (..., 3) to pixels; the depth is in pixels too."""
        return self.directions(world) * self.scale + np.array([*self.origin, 0.0])


def outline(animal: Animal, pose: Pose, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Bounding box of the animal: its low and high corner, (2,) each, in trunk lengths around the hip."""
    build = animal.build
    parts = [(pose.trunk.points, build.girth), (pose.tail.points, build.tail_girth)]
    parts += [(leg.points, build.leg_girth) for leg in pose.legs]
    parts.append((pose.head[None], build.head * 1.2))
    flat = [(view.directions(points)[:, :2], radius) for points, radius in parts]
    return (
        np.min([points.min(0) - radius for points, radius in flat], axis=0),
        np.max([points.max(0) + radius for points, radius in flat], axis=0),
    )


def draw_animal(canvas: Canvas, animal: Animal, pose: Pose, view: View) -> None:
    """Draw the whole animal."""
    build = animal.build

    def body(part: Line, radii, coat) -> None:
        radii = np.asarray(radii) * view.scale
        tube(canvas, view.points(part.points), radii, view.directions(part.up), view.directions(part.side), coat)

    g = build.girth
    body(pose.trunk, [g * build.hip * 0.92, g, g * 1.04, g, g * build.shoulder * 0.92, build.neck_girth], animal.trunk)
    for leg, coat, thick in zip(pose.legs, animal.legs, (1.5, 1.5, 1.2, 1.2), strict=True):
        body(leg, build.leg_girth * np.array([thick, 1.0, 0.8, 0.85]), coat)
    ramp = np.linspace(0, 1, len(pose.tail.points))
    shape = 0.7 + (build.tail_bush - 0.7) * np.sin(np.pi * np.clip(0.1 + 0.8 * ramp, 0, 1))
    body(pose.tail, build.tail_girth * shape, animal.tail)
    _draw_head(canvas, animal, pose, view)


def _draw_head(canvas: Canvas, animal: Animal, pose: Pose, view: View) -> None:
    build, size = animal.build, animal.build.head
    axes = view.directions(pose.head_axes)
    radii = size * np.array([build.head_long, 0.98, 0.85])

    def blob(coat, at, half, turn=None) -> None:
        """Draw a part at ``at``, in head radii."""
        centre = view.points(pose.head + (np.asarray(at) * radii) @ pose.head_axes)
        own = axes if turn is None else view.directions(turn @ pose.head_axes)
        ellipsoid(canvas, centre, own, np.asarray(half) * size * view.scale, coat)

    blob(animal.head, (0, 0, 0), radii / size)
    m = build.muzzle
    blob(animal.muzzle, (0.8, 0, -0.32), (m * 0.9 * build.head_long, m, m * 0.8))
    blob(animal.nose, (0.8 + 0.85 * m, 0, -0.2), (0.1, 0.15, 0.1))
    for left in (-1, 1):
        blob(animal.eye, (0.78, 0.43 * left, 0.16), (0.13, 0.13, 0.13))
        lean = left * build.ear_splay
        turn = np.array([[1, 0, 0], [0, np.cos(lean), -np.sin(lean)], [0, np.sin(lean), np.cos(lean)]])
        ear = build.ear * np.array([0.35, 0.75, build.ear_long])
        blob(animal.ear, (-0.05, 0.95 * np.sin(lean), 0.95 * np.cos(lean)), ear, turn)
