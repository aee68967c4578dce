"""Why two photographs may show one animal: their verified local matches, drawn as lines."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from PIL import Image

from .. import local
from ..data import UNLABELLED
from ..data.loaders import Item
from ..engine.fused import photos_of, spots_of
from ..engine.trained_model import run_label
from ..errors import UserError
from . import drawing
from .album import Picture
from .drawing import GAP, LINE, NEUTRAL, RIGHT, WIDTH, WRONG, Mark, Sheet
from .search import checked_training_items, spread

COLUMNS = 2  # pairs side by side
HEIGHT = 360  # pixels of a photograph in a pair
MOST = 60  # lines of a pair: more of them hide the photographs
LEGEND = ((RIGHT, "one identity"), (WRONG, "two identities"))


class Pair(NamedTuple):
    """Two photographs with their matches, places (M, 2) as shares of the width and height of each."""

    paths: tuple[str, str]
    places: tuple[np.ndarray, np.ndarray]
    mark: Mark


def draw(cfg, number: int) -> Picture:
    """Training images by the seed, each with the photograph that has most verified matches with it.

    Raises:
        UserError: if no two photographs match.
    """
    items = checked_training_items(cfg)
    pairs = best_pairs(items, cfg.DATASETS.NAMES, number, cfg.SEED)
    if not pairs:
        raise UserError(
            f"No two of the {len(items)} photographs have {local.FEWEST} local matches that agree on one geometry: "
            "there is nothing to draw."
        )
    where = run_label(Path(cfg.OUTPUT_DIR), "photographs", cfg.SEED)
    counts = [len(pair.places[0]) for pair in pairs]
    text = (
        f"Local matches of {len(pairs)} of the {len(items)} training images of {' and '.join(cfg.DATASETS.NAMES)}, "
        "chosen by the seed, each beside the photograph with the most matches among those that its descriptors "
        "propose. A line joins two keypoints that match and agree with the others on one affine map; up to "
        f"{MOST} of a pair's are drawn. No encoder and no label takes part in them."
    )
    if any(pair.mark is not NEUTRAL for pair in pairs):
        text += " Solid green: one identity; dashed red: two."
    alt = f"{len(pairs)} pairs of photographs joined by {min(counts)} to {max(counts)} matches."
    return Picture("matches", where, layout(pairs), text, alt)


def best_pairs(items: list[Item], names: list[str], number: int, seed: int) -> list[Pair]:
    """At most `number` pairs, each of one photograph by the seed and its best candidate; no pair comes twice."""
    features = spots_of(photos_of(names, [path for path, *_ in items]))
    pairs = local.LocalPairs(features)
    taken: dict[frozenset, Pair] = {}
    for first in spread([pid for _, pid, _ in items], len(items), seed):
        if len(taken) == number:
            break
        candidates = [(first, other) for other in pairs.proposed[first].tolist() if other >= 0]
        inliers = pairs.inliers(np.array(candidates).reshape(-1, 2))
        if inliers.any():
            second = candidates[int(inliers.argmax())][1]
            taken.setdefault(frozenset((first, second)), pair_of(items, features, first, second))
    return list(taken.values())


def pair_of(items: list[Item], features: list[local.LocalFeatures], first: int, second: int) -> Pair:
    """Two photographs with where they match and how their frame judges it."""
    matches = local.verified_matches(features[first], features[second])
    pids = items[first][1], items[second][1]
    mark = NEUTRAL if UNLABELLED in pids else RIGHT if pids[0] == pids[1] else WRONG
    places = features[first].points[matches.first], features[second].points[matches.second]
    return Pair((items[first][0], items[second][0]), tuple(p.astype(np.float32) for p in places), mark)


def layout(pairs: list[Pair]) -> drawing.Figure:
    """Pairs row by row, the number of their matches above each."""
    width = (WIDTH - GAP * (COLUMNS - 1)) / COLUMNS
    joined = [side_by_side(pair) for pair in pairs]
    height = drawing.cell_height(width, (drawing.aspect_of(pixels) for pixels, _ in joined))
    step = LINE + height + 2 * GAP
    legend = [(mark, f"{mark.sign} {text}") for mark, text in LEGEND if any(pair.mark is mark for pair in pairs)]
    rows = -(-len(pairs) // COLUMNS)
    sheet = Sheet(rows * step + LINE * bool(legend))
    for number, (pair, (pixels, lines)) in enumerate(zip(pairs, joined, strict=True)):
        x, y = number % COLUMNS * (width + GAP), number // COLUMNS * step
        title = f"{len(pair.places[0])} matches {pair.mark.sign}".strip()
        sheet.text(x + width / 2, y, title, centre=True, color=pair.mark.colour)
        sheet.picture((x, y + LINE, width, height), pixels, drawing.aspect_of(pixels), pair.mark)
        join(sheet.figure.axes[-1], lines)
    sheet.legend(rows * step, legend)
    return sheet.figure


def side_by_side(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Both photographs at one height, (H, W, 3), and the lines between them, (M, 2, 2): two ends, each x and y."""
    images = [Image.fromarray(drawing.photograph(path, WIDTH / COLUMNS / 2)) for path in pair.paths]
    images = [image.resize((max(1, round(image.width * HEIGHT / image.height)), HEIGHT)) for image in images]
    left, right = (np.array([image.width, image.height]) for image in images)
    chosen = np.unique(np.linspace(0, len(pair.places[0]) - 1, MOST).round().astype(int))
    first, second = (places[chosen] for places in pair.places)
    ends = first * left, second * right + (left[0], 0)
    return np.concatenate([np.asarray(image) for image in images], axis=1), np.stack(ends, axis=1)


def join(axes, lines: np.ndarray) -> None:
    """Draw lines (M, 2, 2) in their colours, by the height of their left ends."""
    limits = axes.get_xlim(), axes.get_ylim()
    for (x0, y0), (x1, y1) in lines.tolist():
        colour = colormaps[drawing.MAP](0.3 + 0.7 * y0 / HEIGHT)
        axes.plot([x0, x1], [y0, y1], color=colour, linewidth=0.5, marker=".", markersize=1.5)
    axes.set(xlim=limits[0], ylim=limits[1])
