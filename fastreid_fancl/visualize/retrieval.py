"""Figure 5 of the FANCL paper: queries and their nearest gallery images, right or wrong."""

import numpy as np

from ..engine.trained_model import load_trained_model, use_runtime
from . import drawing
from .album import Picture
from .drawing import GAP, IGNORED, LINE, NEUTRAL, RIGHT, WIDTH, WRONG, Mark, Sheet
from .search import Match, Search, choose, search_tests, search_training

TEXT = 2.0  # cm, of the words beside a query
LEGEND = {RIGHT: "same identity", WRONG: "other identity", IGNORED: "same identity and camera or sequence: not scored"}


def draw(cfg, number: int, top: int, hardest: bool = False) -> Picture:
    """Draw queries with their `top` nearest gallery images; without a test set, search among training images.

    Args:
        hardest: show the lowest average precisions first, instead of queries spread over the identities.

    Raises:
        UserError: on `hardest` without identities.
    """
    trained = load_trained_model(cfg)
    tested = bool(cfg.DATASETS.TESTS)
    model = use_runtime(trained.model, cfg)
    search = search_tests(cfg, model) if tested else search_training(cfg, model, number)
    rows = [(query, search.nearest(query, top)) for query in choose(search, number, cfg.SEED, hardest)]
    if tested:
        what = f"{len(rows)} of the {len(search.queries)} queries of {cfg.DATASETS.TESTS[0]}"
        among = f"{len(search.gallery)} gallery images"
    else:
        what = f"{len(rows)} training images of {' and '.join(cfg.DATASETS.NAMES)}"
        among = f"{len(search.gallery) - 1} others"
    how = "those with the lowest average precision" if hardest else "chosen by the seed"
    shown = f"Search by {trained.label}: {what}, {how}, each with the {top} nearest of the {among}."
    caption = f"{shown} {explain_ranks(search, rows)}"
    variant = "hardest" if hardest else ""
    return Picture("retrieval", trained.label, layout(search, rows), caption, describe(search, rows), variant)


def mark_of(match: Match) -> Mark:
    """The frame of a match."""
    if match.same is None:
        return NEUTRAL
    if match.rank is None:
        return IGNORED
    return RIGHT if match.same else WRONG


def explain_ranks(search: Search, rows: list[tuple[int, list[Match]]]) -> str:
    """The meaning of frames and numbers, for the caption."""
    if search.ranking is None:
        return "Identities are not known: no frame says whether a match is right."
    dropped = any(match.rank is None for _, matches in rows for match in matches)
    precision = search.ranking.precision[np.isfinite(search.ranking.first)]
    return (
        "Solid green and ✓: the query's identity; dashed red and ✗: another one"
        + ("; dotted grey and –: its identity by its camera or of its sequence, which is not scored" * dropped)
        + ". Beside a query: its average precision (AP) and the rank of its first match. mAP over the "
        f"{len(precision)} queries that have a match: {100 * precision.mean():.1f}%."
    )


def describe(search: Search, rows: list[tuple[int, list[Match]]]) -> str:
    """The picture in words, for people who cannot see it."""
    matches = [match for _, nearest in rows for match in nearest]
    text = f"{len(rows)} rows: a query photograph and its {len(rows[0][1])} nearest gallery images"
    if search.ranking is None:
        return text + "."
    ranked = [match for match in matches if match.rank]
    right = sum(match.same for match in ranked)
    return f"{text}; {right} of {len(ranked)} that count show the query's identity."


def layout(search: Search, rows: list[tuple[int, list[Match]]]) -> drawing.Figure:
    """Lay out a row per query: words if identities are known, the query, and its matches under their ranks."""
    left = TEXT if search.ranking else 0
    columns = 1 + max(len(matches) for _, matches in rows)
    width = (WIDTH - left - GAP * (columns + 1)) / columns
    photographs = [
        [drawing.photograph(path, width) for path in (search.queries[query][0], *(match.path for match in matches))]
        for query, matches in rows
    ]
    height = drawing.cell_height(width, (drawing.aspect_of(pixels) for row in photographs for pixels in row))
    step = max(LINE + height, 3 * LINE) + 2 * GAP
    used = {mark_of(match) for _, matches in rows for match in matches}
    legend = [(mark, f"{mark.sign} {text}") for mark, text in LEGEND.items() if mark in used]
    sheet = Sheet(len(rows) * step + LINE * bool(legend))
    for number, ((query, matches), pictures) in enumerate(zip(rows, photographs, strict=True)):
        y = number * step
        sheet.text(0, y, words(search, query), linespacing=1.3)
        titles = ["query", *(f"{match.rank or ''} {mark_of(match).sign}".strip() for match in matches)]
        marks = [NEUTRAL, *map(mark_of, matches)]
        for column, (pixels, title, mark) in enumerate(zip(pictures, titles, marks, strict=True)):
            x = left + column * (width + GAP) + 2 * GAP * (column > 0)
            sheet.text(x + width / 2, y, title, centre=True, color=mark.colour, weight="bold" if column else "normal")
            sheet.picture((x, y + LINE, width, height), pixels, drawing.aspect_of(pixels), mark)
    sheet.legend(len(rows) * step, legend)
    return sheet.figure


def words(search: Search, query: int) -> str:
    """The words beside a query."""
    if search.ranking is None:
        return ""
    first, precision = int(search.ranking.first[query]), search.ranking.precision[query]
    return f"{drawing.shorten(search.name(query), 14)}\nAP {100 * precision:.1f}%\nfirst match: {first}"
