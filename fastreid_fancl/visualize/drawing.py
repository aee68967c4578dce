"""A sheet of photographs and maps, 16 cm wide; positions are in cm from the top left corner inside its margins."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image
from torch import Tensor

from ..colours import GREEN, VERMILION
from ..data.images import read_image

MARGIN = 0.1  # cm, on each side
WIDTH = 16 - 2 * MARGIN
DPI = 200
POINTS = 7.0  # of the text
LINE = 0.36  # cm from one line of text to the next
GAP = 0.14  # cm between photographs
INK = "#222222"
MAP = "viridis"


class Mark(NamedTuple):
    """The look of a verdict on a photograph: a colour, a line and a sign, any of which is enough to read it."""

    colour: str
    line: str | tuple
    sign: str


# Thin black on no verdict.
RIGHT = Mark(GREEN[0], "-", "✓")
WRONG = Mark(VERMILION[0], (0, (2.2, 1.2)), "✗")
IGNORED = Mark("#7F7F7F", ":", "–")
NEUTRAL = Mark(INK, "-", "")


class Sheet:
    """A figure with margins around WIDTH cm to draw on."""

    def __init__(self, height: float):
        """
        Args:
            height: cm to draw on.
        """
        self.height = height
        size = [(length + 2 * MARGIN) / 2.54 for length in (WIDTH, height)]
        self.figure = Figure(figsize=size, dpi=DPI, facecolor="white")

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Convert a position in cm to matplotlib's shares of the figure, from its bottom left corner."""
        return (x + MARGIN) / (WIDTH + 2 * MARGIN), 1 - (y + MARGIN) / (self.height + 2 * MARGIN)

    def picture(self, box: tuple, pixels: np.ndarray, aspect: float, mark: Mark | None = None, **style) -> None:
        """Draw pixels in the middle of a box, as large as they fit.

        Args:
            box: x, y, width, height in cm.
            pixels: (H, W, 3) or (H, W).
            aspect: width over height as drawn, which for a network's input is that of the photograph.
            mark: for the frame.
            **style: of `Axes.imshow`.
        """
        x, y, width, height = box
        wide, high = min(width, height * aspect), min(height, width / aspect)
        left, top = x + (width - wide) / 2, y + (height - high) / 2
        (x0, y0), (x1, y1) = self.place(left, top + high), self.place(left + wide, top)
        axes = self.figure.add_axes((x0, y0, x1 - x0, y1 - y0), xticks=[], yticks=[])
        axes.imshow(pixels, aspect="auto", **style)
        axes.spines[:].set_visible(mark is not None)
        if mark:
            width = 0.6 if mark is NEUTRAL else 2
            axes.spines[:].set(color=mark.colour, linestyle=mark.line, linewidth=width, capstyle="butt")

    def text(self, x: float, y: float, text: str, centre: bool = False, **style) -> None:
        """Write text with its top at y cm, whose lines begin at x cm or are centred there."""
        style = {"fontsize": POINTS, "color": INK, "va": "top", "ha": "center" if centre else "left"} | style
        self.figure.text(*self.place(x, y), text, **style)

    def legend(self, y: float, entries: Sequence[tuple[Mark, str]]) -> None:
        """Explain marks in one line at y cm."""
        self.figure.legend(
            [Line2D([], [], color=mark.colour, linestyle=mark.line, linewidth=2) for mark, _ in entries],
            [meaning for _, meaning in entries],
            loc="upper left",
            bbox_to_anchor=self.place(0, y),
            ncols=max(1, len(entries)),
            fontsize=POINTS,
            labelcolor=INK,
            frameon=False,
            borderaxespad=0,
            borderpad=0,
            handlelength=3,
        )


def photograph(path: str, width: float = WIDTH) -> np.ndarray:
    """Read a photograph as (H, W, 3) uint8 in its own proportions, with as many pixels as `width` cm can show."""
    image = read_image(path)
    side = round(2 * width / 2.54 * DPI)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(image)


def as_pixels(image: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 255] -> (H, W, 3) uint8."""
    return image.permute(1, 2, 0).byte().numpy()


def aspect_of(pixels: np.ndarray) -> float:
    """Width over height."""
    return pixels.shape[1] / pixels.shape[0]


def cell_height(width: float, aspects: Iterable[float], most: float = 4.0) -> float:
    """Height in cm of cells in which most photographs, of these aspects, fill the width; at most `most`."""
    return min(width / float(np.median(list(aspects))), most)


def shorten(text: str, length: int) -> str:
    """Shorten text to at most `length` letters."""
    return text if len(text) <= length else text[: length - 1] + "…"
