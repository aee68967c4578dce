"""Coats: the colour of a body at each place on it.

A place has three coordinates (see `draw`): along, left and up for a tube; forward, left and up on the unit sphere for
an ellipsoid. A marking consists of soft blots in these coordinates, so it bends and turns with the body. The rings of a
tail are blots that are narrow along it and infinite in the other directions, a tear stripe is narrow across, and a spot
is small in all three directions.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Marking:
    """Blots of one colour.

    Attributes:
        colour: (3,) RGB in [0, 1].
        centres: (M, 3) places.
        reach: (M, 3) half sizes; may be infinite.
        soft: width of the border, as a share of the size.
        mirrored: whether left and right have the same blots; the centres are then on the left.
        strength: opacity of the colour, 0 to 1.
    """

    colour: np.ndarray
    centres: np.ndarray
    reach: np.ndarray
    soft: float = 0.3
    mirrored: bool = False
    strength: float = 1.0

    def cover(self, place: np.ndarray) -> np.ndarray:
        """Opacity of the marking at each of the places (P, 3): (P,), 0 to 1."""
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
    """Appearance of a part of the body: a back colour, a belly colour, and markings over them.

    Attributes:
        back: (3,) RGB in [0, 1] of the back.
        belly: (3,) RGB in [0, 1] of the belly.
        level: height at which the back turns into the belly, -1 (lowest) to 1.
        markings: painted in this order.
        fur: contrast of the hair.
        ragged: roughness of the outline, as a share of the radius.
        wobble: irregularity of the borders of markings.
    """

    back: np.ndarray
    belly: np.ndarray
    level: float = -0.4
    markings: tuple[Marking, ...] = ()
    fur: float = 0.14
    ragged: float = 0.12
    wobble: float = 0.06

    def colour(self, place: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """RGB (P, 3) at the places (P, 3); ``noise`` (P, 2) has a fine and a slow part."""
        place = (place + self.wobble * (0.3 * noise[:, :1] + 0.9 * noise[:, 1:])).astype(np.float32)
        share = np.clip((place[:, 2] - self.level) * 2 + 0.5, 0, 1)[:, None]
        colour = self.belly + share * (self.back - self.belly)
        for marking in self.markings:
            colour = colour + marking.cover(place)[:, None] * (marking.colour - colour)
        return colour * (1 + self.fur * noise[:, :1])
