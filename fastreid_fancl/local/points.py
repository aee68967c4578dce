"""The verified matches of two photographs, for whoever shows them."""

import os
from collections.abc import Sequence

import numpy as np

from .features import DEFAULT, Box, Settings
from .match import verified_matches
from .store import local_features


def points(
    a: str | os.PathLike,
    b: str | os.PathLike,
    settings: Settings = DEFAULT,
    boxes: Sequence[Box | None] = (None, None),
    folder: str | os.PathLike | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Where two photographs show the same spots: rows of both belong together.

    Args:
        a, b: the photographs; in the other order the result is the same, swapped.
        settings, boxes, folder: of `local_features`.

    Returns:
        Two arrays (M, 2) float32, x and y as shares of the width and height of the whole photograph.

    Raises:
        UnreadableImage: (a UserError) as `read_image`.
    """
    first, second = local_features([os.fspath(a), os.fspath(b)], settings, boxes, folder)
    matches = verified_matches(first, second)
    return first.places[matches.first].astype(np.float32), second.places[matches.second].astype(np.float32)
