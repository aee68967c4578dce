"""Animals: the random appearance of an individual, within the ranges of its species.

An identity consists of a build (proportions) and coats (colours and markings of trunk, head, ears, legs and tail). It
is sampled once per animal; everything else (pose, view, light, place, camera) is sampled for each picture.
"""

import colorsys
from dataclasses import dataclass

import numpy as np

from .coat import Coat, Marking

INF = np.inf


@dataclass(frozen=True)
class Build:
    """Proportions, in trunk lengths; ``carriage`` and ``tail_set`` are angles (radians)."""

    girth: float
    hip: float
    shoulder: float
    neck: float
    neck_girth: float
    carriage: float
    head: float
    head_long: float
    muzzle: float
    ear: float
    ear_long: float
    ear_splay: float
    leg: float
    leg_girth: float
    tail: float
    tail_girth: float
    tail_bush: float
    tail_set: float


@dataclass(frozen=True)
class Animal:
    """One individual; ``poses`` has the probability of each pose (see ``pose``)."""

    build: Build
    trunk: Coat
    head: Coat
    muzzle: Coat
    ear: Coat
    legs: tuple[Coat, Coat, Coat, Coat]
    tail: Coat
    eye: Coat
    nose: Coat
    poses: dict[str, float]


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """Convert a hue in degrees, a saturation and a value to RGB in [0, 1]."""
    return np.array(colorsys.hsv_to_rgb(hue / 360 % 1, min(max(saturation, 0), 1), min(max(value, 0), 1)), np.float32)


def blots(colour, centres, reach, **kwargs) -> Marking:
    """Make a marking of several blots with half sizes ``reach`` (one number, three, or (M, 3))."""
    centres = np.atleast_2d(np.asarray(centres, np.float32))
    return Marking(colour, centres, np.broadcast_to(np.asarray(reach, np.float32), centres.shape), **kwargs)


PLAIN_EYE = Coat(np.float32([0.05, 0.04, 0.04]), np.float32([0.02, 0.02, 0.02]), fur=0.0, ragged=0.0)


def red_panda(rng: np.random.Generator) -> Animal:
    """Sample a red panda: rust coat, black legs, white face with tear stripes, a bushy ringed tail."""
    u = rng.uniform
    build = Build(
        girth=u(0.19, 0.29), hip=u(0.85, 1.1), shoulder=u(0.8, 1.0), neck=u(0.12, 0.2), neck_girth=u(0.14, 0.18),
        carriage=0.1, head=u(0.25, 0.33), head_long=u(0.85, 1.0), muzzle=u(0.36, 0.5), ear=u(0.38, 0.55),
        ear_long=u(0.9, 1.4), ear_splay=u(0.5, 0.85), leg=u(0.42, 0.62), leg_girth=u(0.07, 0.105),
        tail=u(0.8, 1.3), tail_girth=u(0.12, 0.18), tail_bush=u(0.9, 1.4), tail_set=0.0,
    )  # fmt: skip
    hue, deep = u(4, 34), u(0.45, 0.92)
    rust, dark = hsv(hue, deep, u(0.35, 1.0)), hsv(hue - 4, u(0.3, 0.7), u(0.05, 0.35))
    cream = hsv(u(28, 42), u(0.05, 0.35), u(0.82, 1.0))
    gold = hsv(hue + u(6, 16), u(0.3, 0.65), u(0.68, 0.95))
    return Animal(
        build,
        trunk=_panda_trunk(rng, rust, dark, gold),
        head=_panda_head(rng, hsv(hue + u(-2, 8), deep * u(0.5, 1), u(0.45, 0.95)), dark, cream),
        muzzle=Coat(cream, cream * u(0.5, 1), markings=_muzzle_spots(rng, dark), ragged=0.05),
        ear=Coat(cream, cream, markings=(blots(dark, (1.0, 0, -0.3), u(0.6, 1.0)),), ragged=0.1),
        legs=tuple(_sock(rng, dark, rust) for _ in range(4)),
        tail=_ringed_tail(rng, gold, rust * u(0.6, 1.0), dark),
        eye=PLAIN_EYE,
        nose=PLAIN_EYE,
        poses={"walk": 0.86, "sit": 0.04, "climb": 0.02, "lie": 0.06, "curl": 0.02},
    )


def _panda_trunk(rng, rust, dark, gold) -> Coat:
    """Rust above and black below, with a few individual lighter or darker patches."""
    u = rng.uniform
    markings = []
    if u() < 0.6:
        saddle = (u(0.15, 0.3), u(0.6, 1.2), u(0.7, 1.3))
        markings.append(blots(gold if u() < 0.5 else dark, (u(0.2, 0.7), 0, 1), saddle, soft=0.6, strength=u(0.5, 0.9)))
    if u() < 0.6:
        colour = gold if u() < 0.4 else rust * u(0.3, 0.55)
        markings.append(blots(colour, (u(0.1, 0.9), 0, 1.0), (u(0.06, 0.14), 2, u(1.2, 2)), soft=0.5))
    for _ in range(rng.integers(1, 4)):
        colour = gold if u() < 0.5 else rust * 0.35
        centre = (u(0.15, 0.75), u(0.3, 0.9), u(-0.1, 0.7))
        markings.append(blots(colour, centre, (u(0.05, 0.13), u(0.3, 0.7), u(0.3, 0.6)), mirrored=u() < 0.75))
    return Coat(rust, dark, level=u(-0.55, -0.1), markings=tuple(markings))


def _panda_head(rng, rust, dark, cream) -> Coat:
    """The face mask: cheeks, brows, tear stripes, blaze, and one odd spot."""
    u = rng.uniform
    tear, tear_reach = dark if u() < 0.5 else rust * 0.55, (0.7, u(0.06, 0.17), u(0.35, 0.6))
    markings = [
        blots(cream, (0.55, u(0.62, 0.8), u(-0.45, -0.1)), (0.6, u(0.22, 0.45), u(0.25, 0.5)), mirrored=True),
        blots(cream, (0.8, u(0.3, 0.45), u(0.38, 0.6)), (0.5, u(0.1, 0.24), u(0.08, 0.24)), mirrored=True),
        blots(cream, (0.95, 0, -0.35), (0.5, u(0.25, 0.5), u(0.25, 0.45))),
        blots(tear, (0.7, u(0.4, 0.65), -0.35), tear_reach, mirrored=True),
    ]
    if u() < 0.5:
        colour = cream if u() < 0.5 else dark
        markings.append(blots(colour, (0.75, 0, u(0.5, 0.75)), (0.6, u(0.06, 0.2), u(0.2, 0.45))))
    if u() < 0.7:
        colour = cream if u() < 0.5 else dark
        centre = np.array([u(0.3, 0.9), u(-0.7, 0.7), u(-0.2, 0.9)])
        markings.append(blots(colour, centre / np.linalg.norm(centre), u(0.16, 0.34)))
    return Coat(rust, dark, level=-0.75, markings=tuple(markings), ragged=0.07)


def _muzzle_spots(rng, dark) -> tuple[Marking, ...]:
    if rng.uniform() < 0.5:
        return ()
    return (blots(dark, (0.5, rng.uniform(0.3, 0.7), 0.2), rng.uniform(0.25, 0.45), mirrored=rng.uniform() < 0.6),)


def _sock(rng, dark, rust) -> Coat:
    """A dark leg whose upper part may be rust."""
    top = rng.uniform(-0.2, 0.6)
    return Coat(dark, dark, markings=(blots(rust, (0, 0, 0), (max(top, 0.01), INF, INF)),), ragged=0.1)


def _ringed_tail(rng, pale, middle, dark) -> Coat:
    """Rings whose number, widths and spacing are individual, and a dark tip."""
    n = rng.integers(4, 10)
    gaps = rng.uniform(0.6, 1.4, n + 1)
    at = np.cumsum(gaps)[:-1] / gaps.sum()
    wide = rng.uniform(0.2, 0.42) / n * rng.uniform(0.7, 1.3, n)
    centres = np.stack([at, np.zeros(n), np.zeros(n)], -1)
    reach = np.stack([wide, np.full(n, INF), np.full(n, INF)], -1)
    tip = rng.uniform(0.0, 0.14)
    return Coat(
        pale, middle, level=-0.3, ragged=0.22, wobble=0.02,
        markings=(
            blots(dark if rng.uniform() < 0.5 else middle * 0.5, centres, reach, soft=0.5),
            blots(dark, (1, 0, 0), (max(tip, 0.01), INF, INF)),
        ),
    )  # fmt: skip
