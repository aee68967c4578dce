"""A project is opened, or a new one is begun."""

import logging
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..escape import visible
from ..logs import log_once
from ..runs.checked import DamagedError, dict_of, fields, finite, read_json, whole, word
from .encode import Encoder
from .project import TRAINING, Project
from .storage import CURE

logger = logging.getLogger(__name__)

VERSION = 1
SETTINGS = fields(
    {
        **dict.fromkeys(("name", "prefix", "encoder", "fingerprint", "species", "timezone"), word),
        "seed": whole,
        "levels": lambda value: (
            fields({"accept": finite, "reject": finite})(value) if value else dict_of(finite)(value)
        ),
    },
    local=finite,
)


def open_project(folder: str | os.PathLike, encoder: Encoder | None = None) -> Project:
    """Open a project.

    Args:
        folder: that `fancl discover` made.
        encoder: in place of the one that the project names, such as one that is built already.

    Raises:
        ValueError: if there is none, or a file of it is damaged.
    """
    path = Path(folder)
    if not (path / "project.json").exists():
        raise UserError(
            f"There is no project in {visible(path)}: make one by `fancl discover {visible(path)} --photos FOLDER`."
        )
    settings = read_json(path / "project.json", fields({"version": lambda value: value}), CURE)
    if settings.get("version") != VERSION:
        raise UserError(
            f"{visible(path)} was written by another version of this package ({settings.get('version')!r}, expected "
            f"{VERSION}): update the package."
        )
    try:
        settings = SETTINGS(settings)
        project = Project(path, {**settings, "encoder": own_run(path, settings["encoder"])}, encoder)
    except ValueError as error:
        raise DamagedError(path / "project.json", error, CURE) from error
    _read(project)
    return project


def restored_project(folder: str | os.PathLike, encoder: str) -> Project:
    """Open a project whose project.json is lost: its tables are there, its settings are those of a new one.

    Args:
        folder: with a table of a project or more.
        encoder: as for `new_project`.

    Raises:
        DamagedError: (a ValueError) if a table is damaged.
    """
    project = new_project(folder, encoder)
    _read(project)
    ids = [animal.individual for animal in project.animals]
    if ids:
        project.settings["prefix"] = max(ids).rpartition("-")[0]
    log_once(  # as a command opens its project again once it has the lock
        logger,
        logging.WARNING,
        f"{visible(project.folder)}/project.json is missing. The tables are kept; encoder ({visible(encoder)}), "
        "species, time zone and seed are those of a new project unless you name them.",
    )
    return project


def _read(project: Project) -> None:
    """Read all tables, and warn of what is unknown because a missing table cannot be restored from the others."""
    project.read()
    lost = [name for name in ("individuals.csv", "changes.csv") if not (project.folder / name).exists()]
    if "changes.csv" not in lost or not (project.photographs or project.decisions):
        return  # which names all animals, too
    unknown = "what an undo takes back"
    if "individuals.csv" in lost:
        unknown = f"which animals were merged, so that new animals may get their IDs again, and {unknown}"
    log_once(
        logger,
        logging.WARNING,
        f"{visible(project.folder)} lacks {' and '.join(lost)}. Nothing else says {unknown}: put back copies of all "
        "tables if you have them, before anything is written.",
    )


def own_run(folder: Path, encoder: str) -> str:
    """The encoder's name, at its present place if it is a run that was trained in a project that has moved since."""
    run = Path(encoder.removeprefix("run:"))
    here = folder / TRAINING / run.name
    moved = encoder.startswith("run:") and run.parent.name == TRAINING and not run.exists() and here.is_dir()
    return f"run:{os.path.abspath(here)}" if moved else encoder


def new_project(folder: str | os.PathLike, encoder: str, **settings: Any) -> Project:
    """A project that is not written yet.

    Args:
        folder: its name gives the prefix of the IDs.
        encoder: name of the encoder, or a run's folder.
        **settings: further ones.
    """
    path = Path(os.path.abspath(folder))
    name = unicodedata.normalize("NFC", path.name)
    defaults = {
        "version": VERSION,
        "name": name,
        "prefix": prefix_of(name),
        "encoder": encoder,
        "fingerprint": "",
        "species": "",
        "timezone": "",
        "seed": 0,
        "levels": {},
    }
    return Project(path, {**defaults, **settings})


def prefix_of(name: str) -> str:
    """How the IDs of a folder's animals begin: lions -> LION, "Snow leopards 2024" -> SNOW_LEOPARD."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = re.findall(r"[A-Za-z]+", plain)
    text = "_".join(words).upper()[:24].strip("_")
    return (text[:-1] if len(text) > 3 and text.endswith("S") and not text.endswith("SS") else text) or "ANIMAL"
