"""The pictures that tools/visualize.py left in the folders of runs, and a study in its own, as pieces of a page."""

import base64
import json
import logging
import mimetypes
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .runs import Run

logger = logging.getLogger(__name__)

INDEX = "pictures/index.json"
TITLES = {
    "study": "The study",
    "retrieval": "Queries and their top matches",
    "attention": "Where the query features come from",
    "clusters": "Clusters",
    "fana": "Feature-aware noise",
    "eps": "Radius of the clusters, by data",
}


@dataclass(frozen=True)
class Picture:
    """A picture of a run, or of all runs where `run` is empty; `source` is a data URI with the whole file."""

    run: str
    kind: str
    caption: str
    alt: str
    source: str


def album(runs: Iterable[Run], output: Path) -> dict[str, list[Picture]]:
    """The pictures of a comparison and of all its runs by the title of their kind, those of TITLES first."""
    found = pictures(output)
    for run in runs:
        found += pictures(run.folder, f"{run.system}, seed {run.seed}")
    kinds = dict.fromkeys([*TITLES, *(picture.kind for picture in found)])
    kept = {TITLES.get(kind, kind): [picture for picture in found if picture.kind == kind] for kind in kinds}
    return {title: own for title, own in kept.items() if own}


def pictures(folder: Path, run: str = "") -> list[Picture]:
    """The pictures of an index.json; what cannot be read is left out with a warning."""
    index = folder / INDEX
    try:
        return [_picture(folder, run, entry) for entry in json.loads(index.read_text())] if index.exists() else []
    except (OSError, ValueError, TypeError, KeyError) as error:
        logger.warning("The page is without the pictures of %s: %s (%r)", folder, index, error)
        return []


def _picture(folder: Path, run: str, entry: dict[str, str]) -> Picture:
    path = folder / "pictures" / entry["file"]
    kind = mimetypes.guess_type(path.name)[0] or ""
    if not kind.startswith("image/"):
        raise ValueError(f"expected the name of a picture, got {path.name}")
    content = base64.b64encode(path.read_bytes()).decode()
    return Picture(run, entry["kind"], entry["caption"], entry["alt"], f"data:{kind};base64,{content}")
