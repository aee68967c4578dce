"""Figure 5 of the FANCL paper: queries and their nearest gallery images, right or wrong."""

import numpy as np

from . import drawing
from .album import Picture
from .drawing import GAP, IGNORED, LINE, NEUTRAL, RIGHT, WIDTH, WRONG, Mark, Sheet
from .origin import load_subject
from .search import Match, Search, search_tests, search_training, spread

TEXT = 2.0  # cm, of the words beside a query
LEGEND = ((RIGHT, "same identity"), (WRONG, "other identity"), (IGNORED, "same identity and camera: not scored"))


def draw(cfg, number: int, top: int, hardest: bool = False) -> Picture:
    """Queries with their `top` nearest gallery images; without a test set, training images among the others.

    Args:
        hardest: show the lowest average precisions first, instead of queries spread over the identities.

    Raises:
        ValueError: on `hardest` without identities.
    """
    subject = load_subject(cfg)
    tested = bool(cfg.DATASETS.TESTS)
    search = search_tests(cfg, subject.model) if tested else search_training(cfg, subject.model, number)
    shown = choose(search, number, cfg.SEED, hardest)
    rows = [(query, search.nearest(query, top)) for query in shown]
    data = cfg.DATASETS.TESTS[0] if tested else " and ".join(cfg.DATASETS.NAMES)
    how = "those with the lowest average precision" if hardest else "spread over the identities by the seed"
    if search.ranking is None:
        how = "chosen by the seed"
    images = f"{len(search.gallery)} gallery images" if tested else f"{len(search.gallery)} training images"
    caption = (
        f"Search by {subject.origin} on {data}: {len(shown)} of {count_queries(search, tested)} queries, {how}, each "
        f"with the {top} nearest of the {images}. {explain(search, rows)}"
    )
    figure = layout(search, rows)
    return Picture("retrieval", subject.origin, figure, caption, describe(search, rows), "hardest" if hardest else "")


def count_queries(search: Search, tested: bool) -> int:
    """How many images were there to query with."""
    return len(search.queries if tested else search.gallery)


def choose(search: Search, number: int, seed: int, hardest: bool) -> list[int]:
    """Queries to show: by lowest average precision, or spread over the identities; only such as have a match."""
    if search.ranking is None:
        if hardest:
            raise ValueError(
                "The hardest queries are those of low average precision, which needs identities: leave --hardest out."
            )
        return spread([query[1] for query in search.queries], number, seed)
    matched = np.flatnonzero(np.isfinite(search.ranking.first))
    if hardest:
        return matched[np.argsort(search.ranking.precision[matched], kind="stable")][:number].tolist()
    return [matched[n] for n in spread([search.queries[query][1] for query in matched], number, seed)]


def mark_of(match: Match) -> Mark:
    """How a match is framed."""
    if match.same is None:
        return NEUTRAL
    if match.rank is None:
        return IGNORED
    return RIGHT if match.same else WRONG


def explain(search: Search, rows: list) -> str:
    """What the frames and numbers mean."""
    if search.ranking is None:
        return "Identities are not known, so that no frame says whether a match is right."
    precision = search.ranking.precision[np.isfinite(search.ranking.first)]
    return (
        "Solid green and ✓: the query's identity; dashed red and ✗: another one; dotted grey and –: the query's "
        "identity by its camera, which the Market-1501 rule leaves out. Beside each query its average precision (AP) "
        f"and the rank of its first match. mAP over all {len(precision)} queries that have a match: "
        f"{100 * precision.mean():.1f}%."
    )


def describe(search: Search, rows: list) -> str:
    """The picture in words."""
    matches = [match for _, found in rows for match in found]
    text = f"{len(rows)} rows: a query photograph and its {len(rows[0][1])} nearest gallery images"
    if search.ranking is None:
        return text + "."
    ranked = [match for match in matches if match.rank]
    right = sum(match.same for match in ranked)
    return f"{text}; {right} of {len(ranked)} that count show the query's identity."


def layout(search: Search, rows: list[tuple[int, list[Match]]]) -> drawing.Figure:
    """A row a query: words, the query, then its matches under their ranks."""
    columns = 1 + max(len(matches) for _, matches in rows)
    width = (WIDTH - TEXT - GAP * (columns + 1)) / columns
    photographs = [
        [drawing.photograph(path, width) for path in (search.queries[query][0], *(match.path for match in matches))]
        for query, matches in rows
    ]
    height = drawing.cell_height(width, (drawing.aspect_of(pixels) for row in photographs for pixels in row))
    step = max(LINE + height, 3 * LINE) + 2 * GAP
    sheet = Sheet(len(rows) * step + 1.5 * LINE)
    for number, ((query, matches), pictures) in enumerate(zip(rows, photographs, strict=True)):
        y = number * step
        sheet.text(0, y, words(search, query), linespacing=1.3)
        titles = ["query", *(f"{match.rank or ''} {mark_of(match).sign}".strip() for match in matches)]
        marks = [NEUTRAL, *map(mark_of, matches)]
        for column, (pixels, title, mark) in enumerate(zip(pictures, titles, marks, strict=True)):
            x = TEXT + column * (width + GAP) + 2 * GAP * (column > 0)
            sheet.text(x + width / 2, y, title, centre=True, color=mark.colour, weight="bold" if column else "normal")
            sheet.picture((x, y + LINE, width, height), pixels, drawing.aspect_of(pixels), mark)
    used = {mark_of(match) for _, matches in rows for match in matches}
    legend = [entry for entry in LEGEND if entry[0] in used]
    if legend:
        sheet.legend(len(rows) * step + 0.2 * LINE, legend)
    return sheet.figure


def words(search: Search, query: int) -> str:
    """What stands beside a query."""
    if search.ranking is None:
        return ""
    first, precision = int(search.ranking.first[query]), search.ranking.precision[query]
    return f"{drawing.shorten(search.name(query), 14)}\nAP {100 * precision:.1f}%\nfirst match: {first}"
