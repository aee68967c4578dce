"""Coats: the colour of a body at a place on it.

A place has three numbers (see `draw`): along, left and up for a tube; forward, left and up on the unit sphere for an
ellipsoid. Every marking is made of soft blots in that space, which bend and turn with the body: the rings of a tail are
blots that are narrow along it and without end around it, a tear stripe is narrow across, a spot is small in all three.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Marking:
    """Blots of one colour.

    Attributes:
        colour: (3,) RGB in [0, 1].
        centres: (M, 3) places.
        reach: (M, 3) half sizes; inf for without end.
        soft: width of the border, as a share of the size.
        mirrored: whether left and right carry the same blots (centres given on the left).
        strength: how much of the colour shows, 0 to 1.
    """

    colour: np.ndarray
    centres: np.ndarray
    reach: np.ndarray
    soft: float = 0.3
    mirrored: bool = False
    strength: float = 1.0

    def cover(self, place: np.ndarray) -> np.ndarray:
        """(P,) how much of the marking lies on each of the (P, 3) places, 0 to 1."""
        if self.mirrored:
            place = _left(place)
        weight = 1 / self.reach**2
        features = np.concatenate([place**2, place], axis=-1)
        factors = np.concatenate([weight, -2 * weight * self.centres], axis=-1)
        distance = (features @ factors.T + (weight * self.centres**2).sum(-1)).min(-1)
        distance = np.sqrt(np.maximum(distance, 0))
        return self.strength * np.clip((1 - distance) / self.soft + 0.5, 0, 1)


def _left(place: np.ndarray) -> np.ndarray:
    place = place.copy()
    place[:, 1] = np.abs(place[:, 1])
    return place


@dataclass(frozen=True)
class Coat:
    """What a part of the body looks like: a back and a belly colour, and markings over them.

    Attributes:
        back, belly: (3,) RGB in [0, 1].
        level: where back turns to belly, -1 (lowest) to 1.
        markings: drawn in this order.
        fur: strength of the hair's light and dark.
        ragged: how far hair makes the outline rough, as a share of the radius.
        wobble: how irregular the borders of markings are.
    """

    back: np.ndarray
    belly: np.ndarray
    level: float = -0.4
    markings: tuple[Marking, ...] = ()
    fur: float = 0.14
    ragged: float = 0.12
    wobble: float = 0.06

    def colour(self, place: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """(P, 3) RGB at the (P, 3) places; ``noise`` (P, 2) is fine and slow."""
        place = (place + self.wobble * (0.3 * noise[:, :1] + 0.9 * noise[:, 1:])).astype(np.float32)
        share = np.clip((place[:, 2] - self.level) * 2 + 0.5, 0, 1)[:, None]
        colour = self.belly + share * (self.back - self.belly)
        for marking in self.markings:
            colour = colour + marking.cover(place)[:, None] * (marking.colour - colour)
        return colour * (1 + self.fur * noise[:, :1])
