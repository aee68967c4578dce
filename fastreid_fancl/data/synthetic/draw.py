"""Draw solid bodies, tubes and ellipsoids with a coat, in orthographic projection.

Camera coordinates: x to the right, y down, z towards the viewer, all in pixels. A body is drawn only where it is nearer
than everything drawn before, so parts may be drawn in any order and may overlap.
Shapes: (h, w) a window of the picture, (P,) its pixels that the body covers.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

from .coat import Coat

NOISE_SIZE = 512


@lru_cache(maxsize=1)
def fur_noise() -> np.ndarray:
    """Noise (NOISE_SIZE, NOISE_SIZE, 2) of fine hair and of slow wobble; about -1 to 1, always the same."""
    rng = np.random.default_rng(7)
    fine = cv2.GaussianBlur(rng.standard_normal((NOISE_SIZE, NOISE_SIZE)).astype(np.float32), (0, 0), 0.9)
    slow = cv2.GaussianBlur(rng.standard_normal((NOISE_SIZE, NOISE_SIZE)).astype(np.float32), (0, 0), 6)
    return np.stack([np.clip(part / (2 * part.std()), -1, 1) for part in (fine, slow)], axis=-1)


@dataclass
class Canvas:
    """An unfinished picture: its colours in [0, 1], the depth of each pixel, and the light."""

    image: np.ndarray
    light: np.ndarray
    ambient: float
    shift: tuple[int, int] = (0, 0)
    depth: np.ndarray = field(init=False)

    def __post_init__(self):
        self.depth = np.full(self.image.shape[:2], -np.inf, np.float32)

    def window(self, low: np.ndarray, high: np.ndarray) -> tuple[slice, slice] | None:
        """Return the part of the picture between two points (x, y), or None if there is none."""
        height, width = self.depth.shape
        x0, y0 = np.maximum(np.floor(low[:2]).astype(int) - 1, 0)
        x1, y1 = np.minimum(np.ceil(high[:2]).astype(int) + 2, (width, height))
        return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None

    def noise(self, window: tuple[slice, slice]) -> np.ndarray:
        """Return the fur noise (h, w, 2) of a window."""
        rows, columns = ((np.arange(s.start, s.stop) + o) % NOISE_SIZE for s, o in zip(window, self.shift, strict=True))
        return fur_noise()[rows[:, None], columns]

    def put(self, window, inside, alpha, depth, normal, colour) -> None:
        """Blend the (P,) covered pixels of a window into the picture where they are nearer than its pixels."""
        y, x = inside
        y, x = y + window[0].start, x + window[1].start
        alpha = alpha * (depth > self.depth[y, x])
        shade = self.ambient + (1 - self.ambient) * np.maximum(normal @ self.light, 0)
        colour = colour * shade[:, None]
        self.image[y, x] += alpha[:, None] * (colour - self.image[y, x])
        solid = alpha > 0.5
        self.depth[y[solid], x[solid]] = depth[solid]


def tube(canvas: Canvas, points: np.ndarray, radii: np.ndarray, up: np.ndarray, side: np.ndarray, coat: Coat) -> None:
    """Draw a body along a line, with the radii ``radii``: a trunk, a leg, a tail.

    Args:
        canvas: changed in place.
        points: (N, 3) in pixels.
        radii: (N,) in pixels.
        up: (N, 3) unit vectors from the line to the animal's back.
        side: (N, 3) unit vectors from the line to the animal's left.
        coat: gives the colour at (along the line 0..1, towards the left -1..1, towards the back -1..1).
    """
    window = canvas.window((points[:, :2] - radii[:, None]).min(0), (points[:, :2] + radii[:, None]).max(0))
    if window is None:
        return
    start, step = points[:-1, None, None], np.diff(points, axis=0)[:, None, None]
    length = np.sqrt((step**2).sum(-1))
    ends = np.cumsum(length.ravel())
    noise = canvas.noise(window)
    y, x = np.mgrid[window].astype(np.float32)
    dx, dy = x - start[..., 0], y - start[..., 1]
    flat = step[..., 0] ** 2 + step[..., 1] ** 2 + 1e-6
    t = np.clip((dx * step[..., 0] + dy * step[..., 1]) / flat, 0, 1)
    r = radii[:-1, None, None] * (1 - t) + radii[1:, None, None] * t
    dx, dy = dx - t * step[..., 0], dy - t * step[..., 1]
    distance = np.sqrt(dx**2 + dy**2)
    edge = r - distance + coat.ragged * r * noise[..., 0]
    bulge = np.sqrt(np.maximum(r**2 - distance**2, 0))
    depth = np.where(edge > 0, start[..., 2] + t * step[..., 2] + bulge, -1e6 + edge)
    best = depth.argmax(0)[None]
    edge, t, dx, dy, r, bulge, depth = (np.take_along_axis(a, best, 0)[0] for a in (edge, t, dx, dy, r, bulge, depth))
    inside = np.nonzero(edge > -0.5)
    edge, t, dx, dy, r, bulge, depth, segment = (a[inside] for a in (edge, t, dx, dy, r, bulge, depth, best[0]))
    normal = np.stack([dx / r, dy / r, bulge / r], -1)
    normal /= np.sqrt((normal**2).sum(-1, keepdims=True)) + 1e-6
    along = (ends[segment] - (1 - t) * length.ravel()[segment]) / ends[-1]
    place = np.stack([along, (normal * side[segment]).sum(-1), (normal * up[segment]).sum(-1)], -1)
    colour = coat.colour(place, noise[inside])
    canvas.put(window, inside, np.clip(edge + 0.5, 0, 1), np.maximum(depth, start[:, 0, 0, 2].min()), normal, colour)


def ellipsoid(canvas: Canvas, centre: np.ndarray, axes: np.ndarray, radii: np.ndarray, coat: Coat) -> None:
    """Draw an ellipsoid: a head, a muzzle, an ear, an eye.

    Args:
        canvas: changed in place.
        centre: (3,) in pixels.
        axes: (3, 3) forward, left and up unit vectors, as rows.
        radii: (3,) in pixels along the axes.
        coat: gives the colour at a point of the unit sphere (forward, left, up).
    """
    half = np.sqrt(((axes * radii[:, None]) ** 2).sum(0))
    window = canvas.window(centre - half, centre + half)
    if window is None:
        return
    y, x = np.mgrid[window].astype(np.float32)
    to_sphere = axes.T / radii  # (3, 3): a step in pixels -> a step on the unit sphere
    flat = (x - centre[0])[..., None] * to_sphere[0] + (y - centre[1])[..., None] * to_sphere[1]
    a, b = to_sphere[2] @ to_sphere[2], flat @ to_sphere[2]
    root = b**2 - a * ((flat**2).sum(-1) - 1)
    noise = canvas.noise(window)
    size = float(half[:2].min())
    edge = size * (root / (2 * a) + coat.ragged * noise[..., 0])
    inside = np.nonzero(edge > -0.5)
    z = (np.sqrt(np.maximum(root[inside], 0)) - b[inside]) / a
    place = flat[inside] + z[:, None] * to_sphere[2]
    place /= np.sqrt((place**2).sum(-1, keepdims=True)) + 1e-6
    normal = place / radii @ axes
    normal /= np.sqrt((normal**2).sum(-1, keepdims=True)) + 1e-6
    colour = coat.colour(place, noise[inside])
    canvas.put(window, inside, np.clip(edge[inside] + 0.5, 0, 1), centre[2] + z, normal, colour)
