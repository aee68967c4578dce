"""The pictures in folders of runs and comparisons: their index, and their place on the page."""

import base64
import json
import logging
import mimetypes
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..escape import message, visible
from ..files import make_folder, replacing, write_text
from ..runs.checked import fields, list_of, member, plain_name, read_json, word
from ..runs.read import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

FOLDER, INDEX = "pictures", "index.json"
ENTRY = fields({"kind": word, "file": plain_name, "caption": word, "alt": word})
TITLES = {
    "study": "The study",
    "retrieval": "Queries and their top matches",
    "attention": "Where the query features come from",
    "clusters": "Clusters",
    "fana": "Feature-aware noise",
    "eps": "Radius of the clusters, by data",
    "matches": "Local matches",
}


@dataclass(frozen=True)
class Picture:
    """A picture of a run, or of all runs if `run` is empty; `source` is a data URI with the whole file."""

    run: str
    kind: str
    caption: str
    alt: str
    source: str


def add_picture(output: Path, figure: "Figure", entry: dict[str, str], **style) -> Path:
    """Write a matplotlib figure and its index entry, replacing an older one of the same name; return its path.

    Args:
        output: a run's folder, or a comparison's.
        figure: the figure, saved with the options `style`; the file contains the caption, too.
        entry: "kind", "file", "caption" and "alt".

    Raises:
        UserError: if the index is damaged.
    """
    folder = output / FOLDER
    make_folder(folder)
    entries = [known for known in read_index(folder / INDEX) if known["file"] != entry["file"]]
    with replacing(folder / entry["file"]) as temporary:
        figure.savefig(temporary, format="png", metadata={"Description": entry["caption"]}, **style)
    write_text(folder / INDEX, json.dumps([*entries, entry], indent=1) + "\n")
    return folder / entry["file"]


def album(runs: Iterable[Run], output: Path) -> dict[str, list[Picture]]:
    """The pictures of a comparison and of all its runs by the title of their kind, in the order of TITLES."""
    shown = pictures(output)
    for run in runs:
        shown += pictures(run.folder, f"{run.system}, seed {run.seed}")
    kinds = dict.fromkeys([*TITLES, *(picture.kind for picture in shown)])
    kept = {TITLES.get(kind, kind): [picture for picture in shown if picture.kind == kind] for kind in kinds}
    return {title: own for title, own in kept.items() if own}


def pictures(folder: Path, run: str = "") -> list[Picture]:
    """The pictures of a folder's index.json; an unreadable index or picture gives none, with a warning."""
    try:
        return [_picture(folder, run, entry) for entry in read_index(folder / FOLDER / INDEX)]
    except (OSError, ValueError) as error:
        logger.warning("The page is without the pictures of %s: %s", visible(folder / FOLDER / INDEX), message(error))
        return []


def _picture(folder: Path, run: str, entry: dict[str, str]) -> Picture:
    path = member(folder / FOLDER, entry["file"])
    kind = mimetypes.guess_type(path.name)[0] or ""
    if not (kind.startswith("image/") and path.is_file()):
        raise UserError(f"expected the name of a picture, got {path.name}")
    content = base64.b64encode(path.read_bytes()).decode()
    texts = (visible(entry[name]) for name in ("kind", "caption", "alt"))
    return Picture(run, *texts, f"data:{kind};base64,{content}")


def read_index(path: Path) -> list[dict]:
    """The entries of an index.json, none if there is no file.

    Raises:
        UserError: if it is damaged, or names files of other folders.
    """
    try:
        return read_json(path, list_of(ENTRY)) if path.exists() else []
    except ValueError as error:
        raise UserError(
            f"{path} cannot be read ({error}): remove it, then draw the pictures again by `fancl visualize`."
        ) from error
