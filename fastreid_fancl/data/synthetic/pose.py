"""Poses: the positions of an animal's joints in one picture.

World coordinates, in trunk lengths from the hip: x forward, y left, z up. A pose consists of lines for the trunk (hip
to head), the tail and the legs, and the orientation of the head.
"""

from dataclasses import dataclass

import numpy as np

from .animals import Animal


@dataclass
class Line:
    """A bent line: points (N, 3) and, at each, unit vectors towards the animal's back and its left."""

    points: np.ndarray
    up: np.ndarray
    side: np.ndarray


@dataclass
class Pose:
    """The lines of trunk, tail and legs, and the position and the axes (forward, left, up) of the head."""

    name: str
    trunk: Line
    tail: Line
    legs: list[Line]
    head: np.ndarray
    head_axes: np.ndarray


def frame(yaw, pitch) -> np.ndarray:
    """Axes (..., 3, 3), as rows forward, left and up, for a heading ``yaw`` (from x to y) and a slope ``pitch``."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    zero = np.zeros_like(cy * cp)
    forward = np.stack([cp * cy, cp * sy, sp + zero], -1)
    left = np.stack([-sy + zero, cy + zero, zero], -1)
    return np.stack([forward, left, np.cross(forward, left)], -2)


def line(start: np.ndarray, yaw: np.ndarray, pitch: np.ndarray, lengths: np.ndarray, backward: bool = False) -> Line:
    """Join segments of given headings and lengths to a line; a tail runs `backward`, so its left side is swapped."""
    axes = frame(yaw, pitch)
    points = start + np.concatenate([np.zeros((1, 3)), np.cumsum(axes[:, 0] * lengths[:, None], axis=0)])
    sign = -1 if backward else 1
    up, side = axes[:, 2], sign * axes[:, 1]
    return Line(points, np.concatenate([up, up[-1:]]), np.concatenate([side, side[-1:]]))


def draw_pose(animal: Animal, rng: np.random.Generator, facing: float) -> Pose:
    """Choose a random pose; the animal may turn its head towards the yaw ``facing``."""
    name = str(rng.choice(list(animal.poses), p=list(animal.poses.values())))
    build = animal.build
    bend, arch = rng.normal(0, 0.12), rng.normal(0.0, 0.1)
    pitch = {
        "walk": rng.normal(0, 0.06),
        "sit": rng.uniform(0.7, 1.2),
        "climb": rng.uniform(0.8, 1.45),
        "lie": rng.normal(0, 0.08),
        "curl": 0.0,
    }[name]
    if name == "curl":
        bend = rng.choice([-1, 1]) * rng.uniform(0.5, 0.75)
    step = np.linspace(-1, 1, 4)
    yaw, pitches = bend * step, pitch - arch * step
    trunk = line(np.zeros(3), yaw, pitches, np.full(4, 0.25))
    neck_pitch = rng.uniform(-0.3, 0.7) * (0.4 if name in ("curl", "climb") else 1) + 0.35 * pitch + build.carriage
    neck = line(trunk.points[-1], yaw[-1:] + 0.6 * bend, np.array([neck_pitch]), np.array([build.neck]))
    trunk = Line(*(np.concatenate([getattr(trunk, k), getattr(neck, k)[1:]]) for k in ("points", "up", "side")))
    legs = _legs(animal, trunk, name, yaw, rng)
    tail = _tail(animal, trunk, name, yaw[0], bend, rng)
    turn = np.clip(_wrap(facing - yaw[-1]), -1.1, 1.1) * rng.uniform(0, 1)
    axes = frame(yaw[-1] + turn + rng.normal(0, 0.15), rng.normal(-0.1, 0.2) + 0.3 * neck_pitch)
    tilt = rng.normal(0, 0.15)
    axes = np.stack(
        [axes[0], axes[1] * np.cos(tilt) + axes[2] * np.sin(tilt), axes[2] * np.cos(tilt) - axes[1] * np.sin(tilt)]
    )
    return Pose(name, trunk, tail, legs, trunk.points[-1] + 0.3 * build.head * axes[0], axes)


def _wrap(angle: float) -> float:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _legs(animal: Animal, trunk: Line, name: str, yaw: np.ndarray, rng: np.random.Generator) -> list[Line]:
    """Hind legs, then fore legs, right before left, each of thigh, shank and paw. Angle 0 is down, positive forward."""
    build, legs, gait = animal.build, [], rng.uniform(0, 2 * np.pi)
    for fore in (False, True):
        for left in (-1, 1):
            joint = 3 if fore else 0
            swing = 0.45 * np.sin(gait + (0 if fore == (left > 0) else np.pi))
            thigh, shank = {
                "walk": (swing + (0.1 if fore else 0.2), swing * 0.8 - (0.1 if fore else 0.35)),
                "sit": (0.5 + swing, 0.3 + swing) if fore else (1.3, -0.3),
                "climb": (1.5 + swing, 2.0 + swing) if fore else (1.2 + swing, 0.4),
                "lie": (0.6, 1.4) if fore else (1.2, -0.9),
                "curl": (1.2, 0.9) if fore else (1.3, 0.4),
            }[name]
            angles = np.array([thigh, shank, shank + 0.9]) + rng.normal(0, 0.08, 3) - np.pi / 2
            start = trunk.points[joint] + left * build.girth * 0.62 * trunk.side[joint]
            start = start - build.girth * 0.35 * trunk.up[joint]
            lengths = build.leg * np.array([0.48, 0.45, 0.16])
            legs.append(line(start, np.full(3, yaw[joint]), angles, lengths))
    return legs


def _tail(animal: Animal, trunk: Line, name: str, yaw: float, bend: float, rng: np.random.Generator) -> Line:
    n = 8
    ramp = np.linspace(0, 1, n)
    swing, lift = rng.normal(0, 0.5), rng.normal(0, 0.6)
    droop = {"walk": rng.normal(-0.35, 0.3), "sit": -0.25, "climb": -1.2, "lie": rng.uniform(-1.3, 0), "curl": 0}[name]
    if name == "curl":  # the tail continues the circle of the body around the head
        swing, lift = -np.sign(bend) * rng.uniform(1.6, 2.6), 0.0
    heading = yaw + np.pi + swing * ramp
    pitch = np.clip(droop + animal.build.tail_set + lift * ramp, -1.45, 1.3)
    return line(trunk.points[0], heading, pitch, np.full(n, animal.build.tail / n), backward=True)
