"""Places: the random background and foreground of a picture.

Pictures are (H, W, 3) float32 RGB in [0, 1]. Sizes are shares of the height, so a place looks the same at any size.
"""

import cv2
import numpy as np

from .animals import hsv


def clouds(rng: np.random.Generator, shape: tuple[int, int], cells: float) -> np.ndarray:
    """Make smooth noise (H, W) from 0 to 1 with about ``cells`` bumps over the height."""
    height, width = shape
    grid = rng.random((max(2, round(cells)), max(2, round(cells * width / height))), dtype=np.float32)
    return np.clip(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def mix(image: np.ndarray, colour: np.ndarray, share: np.ndarray) -> None:
    """Blend a colour into a picture in place, with opacity ``share`` (H, W)."""
    image += share[..., None] * (colour - image)


def stroke(image, start, end, colour, thick: float) -> None:
    """Draw a straight line with smooth borders, from one point (x, y) to another."""
    points = [tuple(int(round(v * 16)) for v in point) for point in (start, end)]
    cv2.line(image, *points, [float(c) for c in colour], max(1, round(thick)), cv2.LINE_AA, 4)


def indoor(rng: np.random.Generator, shape: tuple[int, int], ground: float) -> np.ndarray:
    """A keeper's house: a pale wall, a floor, perhaps tiles, planks, mesh, a platform."""
    height, width = shape
    u = rng.uniform
    image = np.empty((height, width, 3), np.float32)
    image[:] = hsv(u(0, 360), u(0, 0.1), u(0.55, 0.85))
    floor = int(np.clip(ground - u(-0.02, 0.25) * height, 0, height))
    lines = hsv(u(0, 60), u(0, 0.3), u(0.2, 0.9))
    pattern = rng.choice(["tiles", "planks", "mesh", "plain"], p=[0.3, 0.3, 0.15, 0.25])
    if pattern == "tiles":
        step = u(0.12, 0.3) * height
        _grid(image, step, step * u(0.5, 2), lines, 0.01 * height, u(0, 1, 2))
    elif pattern == "planks":
        _grid(image, u(0.1, 0.3) * height, None, image[0, 0] * 0.7, 0.014 * height, u(0, 1, 2))
    elif pattern == "mesh":
        step = u(0.06, 0.12) * height
        image *= u(0.3, 0.9)
        _grid(image, step, step, lines, 0.008 * height, u(0, 1, 2))
    image[floor:] = hsv(u(15, 50), u(0.05, 0.45), u(0.3, 0.8))
    image[floor:] *= np.linspace(u(0.6, 0.9), 1.1, max(height - floor, 1), dtype=np.float32)[:, None, None]
    if u() < 0.35:
        _straw(rng, image, floor)
    if u() < 0.5:
        _slab(rng, image, ground)
    return image


def _grid(image, dy, dx, colour, thick, phase) -> None:
    height, width = image.shape[:2]
    for y in np.arange(-phase[0], height / dy + 1) * dy:
        stroke(image, (0, y), (width, y), colour, thick)
    for x in np.arange(-phase[1], width / dx + 1) * dx if dx else ():
        stroke(image, (x, 0), (x, height), colour, thick)


def _straw(rng, image, floor: int) -> None:
    height, width = image.shape[:2]
    colour = hsv(45, 0.5, rng.uniform(0.6, 0.9))
    reach = 0.06 * height
    for x, y, a, tone in rng.uniform((0, floor, -0.7, 0.7), (width, height, 0.7, 1.1), (60, 4)):
        stroke(image, (x, y), (x + reach * np.cos(a), y + reach * np.sin(a)), colour * tone, 0.01 * height)


def _slab(rng, image, ground: float) -> None:
    """A shelf or a log under the animal's feet."""
    height, width = image.shape[:2]
    thick = rng.uniform(0.06, 0.16) * height
    colour = hsv(rng.uniform(15, 45), rng.uniform(0.2, 0.6), rng.uniform(0.25, 0.8))
    lean = rng.normal(0, 0.03) * width
    for k in np.linspace(0, 1, 5):
        y = ground + (k - 0.1) * thick
        stroke(image, (-2, y - lean), (width + 2, y + lean), colour * (1.1 - 0.5 * k), thick / 3)


def outdoor(rng: np.random.Generator, shape: tuple[int, int], ground: float) -> np.ndarray:
    """An enclosure with trees: leaves in light and shade, a glimpse of sky, trunks, grass or a bough underfoot."""
    height, width = shape
    u = rng.uniform
    image = np.empty((height, width, 3), np.float32)
    image[:] = hsv(u(60, 140), u(0.25, 0.6), u(0.15, 0.4))
    for cells in (4, 10, 22):
        leaf = hsv(u(55, 130), u(0.25, 0.7), u(0.2, 0.8))
        mix(image, leaf, np.clip((clouds(rng, shape, cells * u(0.8, 1.4)) - 0.45) * 2.2, 0, 0.85))
    image *= 0.75 + 0.5 * clouds(rng, shape, 45)[..., None]
    if u() < 0.5:
        sky = np.clip((clouds(rng, shape, 5) - 0.55) * 8, 0, 1) * np.linspace(u(0.6, 1.4), 0, height)[:, None]
        mix(image, hsv(u(190, 220), u(0.05, 0.4), u(0.85, 1)), np.clip(sky, 0, 1).astype(np.float32))
    for _ in range(rng.integers(0, 4)):
        x, lean = u(0, width), rng.normal(0, 0.4) * height
        stroke(image, (x, 0), (x + lean, height), hsv(u(15, 45), u(0.1, 0.4), u(0.15, 0.6)), u(0.02, 0.12) * height)
    if u() < 0.6:
        _grass(rng, image, ground, hue=(50, 120))
    if u() < 0.5:
        _slab(rng, image, ground)
    return image


def _grass(rng, image, ground: float, hue: tuple[float, float]) -> None:
    height, width = image.shape[:2]
    floor = int(np.clip(ground - rng.uniform(0.05, 0.2) * height, 0, height))
    colour = hsv(rng.uniform(*hue), rng.uniform(0.3, 0.7), rng.uniform(0.35, 0.75))
    image[floor:] = colour * (0.7 + 0.5 * clouds(rng, (height, width), 12)[floor:, :, None])
    for x, y, a, tone in rng.uniform((0, floor, -0.5, 0.6), (width, height, 0.5, 1.3), (70, 4)):
        reach = 0.12 * height
        stroke(image, (x, y), (x + reach * a, y - reach), colour * tone, 0.012 * height)


def tree(rng: np.random.Generator, image: np.ndarray, low: np.ndarray, high: np.ndarray, thick: float) -> None:
    """Draw a trunk or post for a climber, along the line from ``low`` to ``high`` (x, y) and far beyond."""
    along, colour = high - low, hsv(rng.uniform(15, 40), rng.uniform(0.1, 0.5), rng.uniform(0.2, 0.6))
    offset = np.array([rng.uniform(-0.5, 0.5) * thick, 0])
    for k in np.linspace(-1, 1, 5):
        aside = offset + np.array([k * 0.4 * thick, 0])
        stroke(image, low - 3 * along + aside, high + 3 * along + aside, colour * (1 - 0.25 * k), 0.3 * thick)


def shadow(rng: np.random.Generator, image: np.ndarray, low: np.ndarray, high: np.ndarray, ground: float) -> None:
    """Darken the ground under an animal that reaches from ``low`` to ``high`` (x, y)."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.float32)
    centre = ((low[0] + high[0]) / 2 + rng.normal(0, 0.08) * height, ground)
    half = ((high[0] - low[0]) * 0.4, 0.07 * height)
    cv2.ellipse(mask, (centre, (2 * half[0], 2 * half[1]), 0), 1.0, -1)
    mask = cv2.blur(cv2.blur(mask, (_odd(0.12 * height),) * 2), (_odd(0.08 * height),) * 2)
    image *= 1 - rng.uniform(0.2, 0.6) * mask[..., None]


def _odd(size: float) -> int:
    return int(size) // 2 * 2 + 1


def occlude(rng: np.random.Generator, image: np.ndarray, place: str) -> None:
    """Put bars or mesh (indoors), boughs and leaves (elsewhere) in front."""
    height, width = image.shape[:2]
    u = rng.uniform
    if place == "indoor":
        step, thick, tone = u(0.25, 0.7) * height, u(0.015, 0.05) * height, hsv(u(0, 360), u(0, 0.2), u(0.15, 0.85))
        upright = u() < 0.7
        for at in np.arange(u(0, step), width if upright else height, step):
            ends = ((at, 0), (at, height)) if upright else ((0, at), (width, at))
            stroke(image, *ends, tone, thick)
        return
    for _ in range(rng.integers(1, 4)):
        start, end = (u(0, width), u(-0.2, 1.2) * height), (u(0, width), u(-0.2, 1.2) * height)
        stroke(image, start, end, hsv(u(20, 40), u(0.1, 0.5), u(0.15, 0.5)), u(0.015, 0.06) * height)
        leaf = hsv(u(60, 120), u(0.4, 0.7), u(0.3, 0.8))
        for t, dx, dy in rng.uniform((0, -0.08, -0.08), (1, 0.08, 0.08), (6, 3)):
            at = (start[0] + t * (end[0] - start[0]) + dx * height, start[1] + t * (end[1] - start[1]) + dy * height)
            size = (u(0.06, 0.14) * height, u(0.03, 0.07) * height)
            cv2.ellipse(image, (at, size, u(0, 180)), (leaf * u(0.7, 1.2)).tolist(), -1, cv2.LINE_AA)


def plain(rng: np.random.Generator, shape: tuple[int, int], ground: float) -> np.ndarray:
    """Open land: a wide sky, hills, sand, dry grass or snow."""
    height, width = shape
    u = rng.uniform
    horizon = int(np.clip(ground - u(0.1, 0.5) * height, 1, height))
    image = np.empty((height, width, 3), np.float32)
    image[:] = hsv(u(195, 225), u(0.05, 0.45), u(0.75, 1.0))
    if u() < 0.4:  # a wood or a rock face instead of the sky
        image[:] = hsv(u(30, 220), u(0.1, 0.5), u(0.15, 0.5)) * (0.6 + 0.8 * clouds(rng, shape, u(3, 30))[..., None])
    hills = horizon - (clouds(rng, (1, width), 1)[0] * u(0, 0.3) * height)
    image[np.arange(height)[:, None] > hills] = hsv(u(30, 220), u(0.05, 0.3), u(0.4, 0.7))
    earth = hsv(u(30, 55), u(0.1, 0.5), u(0.5, 0.85)) if u() < 0.7 else hsv(210, u(0, 0.1), u(0.8, 0.95))
    image[horizon:] = earth * (0.8 + 0.35 * clouds(rng, shape, 16)[horizon:, :, None])
    for _ in range(rng.integers(0, 5)):  # boulders
        at, size = (u(0, width), horizon + u(-0.1, 0.2) * height), (u(0.1, 0.7) * height, u(0.1, 0.5) * height)
        cv2.ellipse(image, (at, size, u(-20, 20)), hsv(u(0, 360), u(0, 0.3), u(0.2, 0.9)).tolist(), -1, cv2.LINE_AA)
    for _ in range(rng.integers(0, 5)):  # dead trees
        x, lean, bark = u(0, width), rng.normal(0, 0.2) * height, hsv(u(0, 60), u(0, 0.4), u(0.1, 0.8))
        stroke(image, (x, -1), (x + lean, horizon + 0.1 * height), bark, u(0.02, 0.1) * height)
    if u() < 0.3:  # a fence
        wire, gaps = hsv(30, u(0, 0.4), u(0.2, 0.9)), u((0.1, 0.15), (0.25, 0.5)) * height
        _grid(image[: max(horizon, 2)], *gaps, wire, 0.01 * height, u(0, 1, 2))
    if u() < 0.5:
        _grass(rng, image, ground, hue=(38, 58))
    return image


PLACES = {"indoor": indoor, "outdoor": outdoor, "plain": plain}
