"""Other animals for pre-training, with body plans, colours and patterns that differ from those of red pandas."""

import numpy as np

from .animals import INF, PLAIN_EYE, Animal, Build, blots, hsv
from .coat import Coat, Marking

PLAN_FIELDS = (
    "girth", "neck", "carriage", "head", "head_long", "muzzle", "ear", "ear_long",
    "leg", "leg_girth", "tail", "tail_girth", "tail_bush", "tail_set",
)  # fmt: skip
BODY_PLANS = {
    "antelope": (0.22, 0.42, 0.7, 0.17, 1.35, 0.5, 0.5, 2.2, 0.85, 0.05, 0.4, 0.03, 1.2, -1.0),
    "cat": (0.19, 0.2, 0.25, 0.18, 1.0, 0.42, 0.4, 0.9, 0.6, 0.07, 0.95, 0.035, 1.0, -0.4),
    "hound": (0.2, 0.28, 0.5, 0.17, 1.2, 0.55, 0.55, 1.3, 0.72, 0.055, 0.55, 0.03, 0.7, 0.5),
    "cattle": (0.28, 0.25, 0.15, 0.2, 1.45, 0.62, 0.45, 1.2, 0.6, 0.07, 0.6, 0.025, 1.3, -1.2),
    "civet": (0.17, 0.22, 0.1, 0.15, 1.25, 0.45, 0.42, 0.9, 0.4, 0.055, 0.9, 0.06, 1.0, -0.2),
    "raccoon": (0.27, 0.15, 0.1, 0.2, 1.2, 0.42, 0.45, 0.9, 0.42, 0.07, 0.6, 0.1, 1.2, -0.3),
}
PATTERNS = ("spots", "stripes", "patches", "belts")


def other_animal(rng: np.random.Generator) -> Animal:
    """Sample an animal of one of six body plans and four patterns, in grey, sand, black, white or umber."""
    u = rng.uniform
    hue = rng.choice([u(-20, 5), u(35, 75), u(190, 250)], p=[0.25, 0.45, 0.3])  # liver, sand and olive, slate
    ground = hsv(hue, u(0.02, 0.55), u(0.3, 0.95))
    ink = hsv(u(20, 240), u(0, 0.35), u(0.05, 0.3) if ground.max() > 0.5 else u(0.7, 0.95))
    belly = ground + u(0, 0.7) * (1 - ground)
    pattern = rng.choice(PATTERNS)
    trunk = Coat(ground, belly, level=u(-0.7, -0.2), markings=_pattern(rng, pattern, ink, ground), ragged=0.05)
    mask = _pattern(rng, "patches", ink, ground)
    face = Coat(ground * u(0.6, 1.1), belly, level=u(-0.6, 0), markings=_face(rng, ink, belly) + mask[:1], ragged=0.03)
    limb = ground if u() < 0.5 else ink
    sock = blots(ink if u() < 0.5 else belly, (1, 0, 0), (u(0.1, 0.7), INF, INF))
    return Animal(
        _build(rng),
        trunk=trunk,
        head=face,
        muzzle=Coat(ink if u() < 0.5 else belly, belly, ragged=0.02),
        ear=Coat(ground, belly, markings=(blots(ink, (1, 0, -0.2), u(0.5, 1.1)),), ragged=0.04),
        legs=tuple(Coat(limb, limb, markings=(sock,) if u() < 0.8 else (), ragged=0.04) for _ in range(4)),
        tail=_tail(rng, ground, belly, ink),
        eye=PLAIN_EYE,
        nose=PLAIN_EYE,
        poses={"walk": 0.6, "lie": 0.15, "sit": 0.15, "curl": 0.05, "climb": 0.05},
    )


def _build(rng: np.random.Generator) -> Build:
    u = rng.uniform
    plan = BODY_PLANS[rng.choice(list(BODY_PLANS))]
    own = {name: value * u(0.88, 1.14) for name, value in zip(PLAN_FIELDS, plan, strict=True)}
    return Build(
        **own, hip=u(0.85, 1.1), shoulder=u(0.85, 1.1), neck_girth=own["girth"] * u(0.45, 0.6), ear_splay=u(0.4, 1.2)
    )


def _tail(rng: np.random.Generator, ground: np.ndarray, belly: np.ndarray, ink: np.ndarray) -> Coat:
    """A tail with a tip in the colour of the markings, or with two or three rings."""
    n = rng.integers(1, 4)
    centres = np.stack([np.linspace(1, rng.uniform(0.2, 0.6), n), np.zeros(n), np.zeros(n)], -1)
    reach = rng.uniform(0.05, 0.45) if n == 1 else rng.uniform(0.04, 0.1)
    return Coat(ground, belly, markings=(blots(ink, centres, (reach, INF, INF)),), ragged=0.1)


def _pattern(rng: np.random.Generator, name: str, ink: np.ndarray, ground: np.ndarray) -> tuple[Marking, ...]:
    """Markings of the trunk; the two flanks of an animal have the same markings or different ones."""
    u, mirrored = rng.uniform, bool(rng.random() < 0.6)
    n = rng.integers(*{"spots": (12, 34), "stripes": (5, 14), "patches": (2, 6), "belts": (1, 4)}[name])
    along, across, up = u(0.03, 0.9, n), u(-1, 1, n), u(-0.5, 1, n)
    centres = np.stack([along, np.abs(across) if mirrored else across, up], -1)
    if name == "stripes":
        centres[:, 0] = np.linspace(0.06, u(0.6, 0.9), n) + rng.normal(0, 0.012, n)
    reach = {
        "spots": lambda: np.stack([u(0.015, 0.04, n), *u(0.1, 0.24, (2, n))], -1),
        "stripes": lambda: np.stack([u(0.007, 0.018, n), u(0.5, 2, n), u(0.4, 1.2, n)], -1),
        "patches": lambda: np.stack([u(0.06, 0.16, n), *u(0.35, 0.8, (2, n))], -1),
        "belts": lambda: np.stack([u(0.03, 0.1, n), np.full(n, INF), np.full(n, INF)], -1),
    }[name]()
    marking = blots(ink, centres, reach, mirrored=mirrored)
    if name == "spots" and u() < 0.5:
        return (marking, blots(ground * u(0.6, 0.9), centres, reach * 0.5, mirrored=mirrored))
    return (marking,)


def _face(rng: np.random.Generator, ink: np.ndarray, pale: np.ndarray) -> tuple[Marking, ...]:
    """A blaze, cheeks, a dark forehead and a dark eye patch, each present or not."""
    u = rng.uniform
    choices = (
        blots(pale, (0.7, 0, 0.4), (0.9, u(0.1, 0.3), 0.8)),
        blots(pale, (0.5, 0.7, -0.2), (0.5, 0.3, u(0.2, 0.5)), mirrored=True),
        blots(ink, (0.2, 0, 0.9), u(0.3, 0.7)),
        blots(ink, (0.75, 0.45, 0.1), (0.4, u(0.15, 0.3), u(0.15, 0.35)), mirrored=True),
    )
    return tuple(marking for marking in choices if u() < 0.45)
