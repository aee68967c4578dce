"""The pictures that tools/visualize.py left in the folders of runs, as pieces of a page."""

import base64
import json
import logging
import mimetypes
from collections.abc import Iterable
from dataclasses import dataclass

from .runs import Run

logger = logging.getLogger(__name__)

TITLES = {
    "retrieval": "Queries and their top matches",
    "attention": "Where the query features come from",
    "clusters": "Clusters",
    "fana": "Feature-aware noise",
    "eps": "Radius of the clusters, by data",
}


@dataclass(frozen=True)
class Picture:
    """A picture of a run; `source` is a data URI with the whole file."""

    run: str
    kind: str
    caption: str
    alt: str
    source: str


def album(runs: Iterable[Run]) -> dict[str, list[Picture]]:
    """The pictures of all runs by the title of their kind, those of TITLES first."""
    found = [picture for run in runs for picture in pictures(run)]
    kinds = dict.fromkeys([*TITLES, *(picture.kind for picture in found)])
    kept = {TITLES.get(kind, kind): [picture for picture in found if picture.kind == kind] for kind in kinds}
    return {title: own for title, own in kept.items() if own}


def pictures(run: Run) -> list[Picture]:
    """The pictures of pictures/index.json in a run's folder; what cannot be read is left out with a warning."""
    index = run.folder / "pictures/index.json"
    try:
        return [_picture(run, entry) for entry in json.loads(index.read_text())] if index.exists() else []
    except (OSError, ValueError, TypeError, KeyError) as error:
        logger.warning("The page is without the pictures of %s: %s (%r)", run.folder, index, error)
        return []


def _picture(run: Run, entry: dict[str, str]) -> Picture:
    path = run.folder / "pictures" / entry["file"]
    kind = mimetypes.guess_type(path.name)[0] or ""
    if not kind.startswith("image/"):
        raise ValueError(f"expected the name of a picture, got {path.name}")
    content = base64.b64encode(path.read_bytes()).decode()
    name = f"{run.system}, seed {run.seed}"
    return Picture(name, entry["kind"], entry["caption"], entry["alt"], f"data:{kind};base64,{content}")
