"""PROJECT/review.html: a page that works offline, on which a person confirms, corrects and names animals."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from ...errors import UserError
from ...escape import visible
from ...files import write_text
from ...report.page import environment, policy
from ..rows import Decision
from ..storage import read_table
from .pictures import write_pictures

PAGE, DECISIONS = "review.html", "decisions.csv"
TEMPLATES = Path(__file__).with_name("templates")
SCRIPTS = ("parts.js", "decisions.js", "viewer.js", "animals.js", "pairs.js", "open.js", "earlier.js", "review.js")
# Pictures lie beside the page; "self" does not cover them in every browser if the page is opened as a file.
IMAGES = "'self' file: data: blob:"


def write_page(project_folder: Path, queue: dict, image_of: Callable[[str], Image.Image]) -> Path:
    """Write review.html, and the pictures that are missing or changed; returns the page's path.

    Args:
        project_folder: the project.
        queue: what `queue.review_queue` returns: photographs, individuals, pairs and open photographs in their order.
        image_of: the upright crop of a photograph by its key.

    Raises:
        ValueError: on a key that cannot be the name of a file.
    """
    folder = Path(project_folder)
    for photograph in queue["photographs"]:
        check_key(photograph["key"])
    write_pictures(folder, queue["photographs"], image_of)
    text = page(folder, queue)
    write_text(folder / PAGE, text)
    return folder / PAGE


def check_key(key: str) -> None:
    """Raise ValueError unless a key consists of letters, digits, `-` and `_`, as it names a file."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", key):
        raise UserError(f"Expected a photograph's key of letters, digits, - and _, got {visible(key)}.")


def page(folder: Path, queue: dict) -> str:
    """The page as text."""
    scripts = [(TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS]
    return (
        environment(TEMPLATES)
        .get_template("review.html")
        .render(
            policy=policy(scripts, IMAGES),
            style=Markup((TEMPLATES / "review.css").read_text(encoding="utf-8")),
            scripts=map(Markup, scripts),
            project=queue["project"],
            data=page_data(folder, queue),
        )
    )


def page_data(folder: Path, queue: dict) -> dict[str, Any]:
    """What the scripts show: the queue, the name that decisions are kept under, and those that the project has."""
    photographs = [
        {**photograph, "file": re.split(r"[/\\]", photograph["path"])[-1]} for photograph in queue["photographs"]
    ]
    place = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return shown(
        {
            **queue,
            "photographs": photographs,
            "storage": f"fancl-review/{queue['project']}/{place}",
            "applied": [vars(decision) for decision in read_table(folder / DECISIONS, Decision)],
        }
    )


def shown(value: Any) -> Any:
    """A value with `visible` text in all of its parts; a number that is none, or infinite, becomes None."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, np.generic):
        return shown(value.item())
    if isinstance(value, dict):
        return {visible(name): shown(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(part) for part in value]
    if isinstance(value, float) and not (abs(value) < float("inf")):
        return None
    return value
