"""Draw a data set into a folder, once.

- SyntheticPandas: red pandas in the numbers of the paper's Table I, 256 x 128 pixels (W x H).
- SyntheticPandasSmall: similar pandas at 128 x 64, 1,000 training images of 20 animals and twice as many test animals
  as in Table I, all indoors, for the demo.
- SyntheticTiny: six training pandas with 48 images in all at 64 x 32, for tests of commands.
- SyntheticSource, SyntheticSourceSmall: other species on open land, with labels, for pre-training.

How much can be learned on SyntheticPandasSmall (one seed, ResNet-18 with stride 2 in the last stage, 48 x 96 pixels,
H x W): after 300 supervised iterations on SyntheticSourceSmall (batch 32, Adam, learning rate 1e-3), the test animals
have mAP 34.2 and Rank-1 64.7. 200 iterations of FANCL with the true labels raise this to 67.0 and 86.4, those of a
supervised classifier to 74.0 and 90.2. The first clusters have an ARI of 0.59, without the 25% of the images that they
leave out.
"""

import contextlib
import csv
import functools
import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

from ...errors import UserError
from ...machine import available_cores
from ...progress import Progress
from .catalogue import RECIPES, PlannedPhotograph, Recipe
from .photograph import take_photograph

VERSION = 1
"""Version of the pictures. Increase it with every change that draws other pixels; data sets are then drawn again."""

NAMES = tuple(RECIPES)
STAMP = "drawn.json"
MOST_WORKERS = 8
ABANDONED = 3600.0  # seconds; longer than any drawing takes


def build(name: str, root: str, workers: int | None = None) -> str:
    """Return ``<root>/<name>``, drawn now if it is missing or was drawn by another version.

    The data set is drawn into a temporary folder that is renamed at the end. So the folder is always complete, and
    several processes may draw at the same time: the first to finish wins. A killed process leaves a temporary folder,
    which the next drawing removes if it is more than an hour old. The files do not depend on ``workers``, the number of
    processes (by default one per core).

    Raises:
        ValueError: if the name is unknown, or a folder of that name exists that this package has not drawn.
    """
    if name not in RECIPES:
        raise UserError(f"no drawn data set is called {name!r}; there are {', '.join(NAMES)}")
    target = Path(root, name)
    stamp = _stamp(RECIPES[name])
    if _is_current(target, stamp):
        return str(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target)
    temporary = target.with_name(f".{name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        draw(RECIPES[name], temporary, workers or _cores())
        (temporary / STAMP).write_text(json.dumps(stamp))
        _replace(target, temporary, stamp)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return str(target)


def draw(recipe: Recipe, folder: Path, workers: int) -> None:
    """Write the photographs and the metadata.csv of a recipe into a folder."""
    photographs = recipe.photographs()
    for parent in sorted({os.path.dirname(photograph.path) for photograph in photographs}):
        (folder / parent).mkdir(parents=True)
    take, facing = functools.partial(_take, folder=folder), []
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress("Drawing", len(photographs), "photographs"))
        if workers == 1 or "fork" not in multiprocessing.get_all_start_methods():
            taken = map(take, photographs)
        else:
            pool = stack.enter_context(multiprocessing.get_context("fork").Pool(workers))
            taken = pool.imap(take, photographs, chunksize=16)
        for orientation in taken:
            facing.append(orientation)
            progress.advance()
    with open(folder / "metadata.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "identity", "split", "orientation", "environment"])
        writer.writerows([p.path, p.identity, p.split, o, p.place] for p, o in zip(photographs, facing, strict=True))


def _take(photograph: PlannedPhotograph, folder: Path) -> str:
    """Draw and write one photograph; return its orientation."""
    recipe, rng = photograph.recipe, photograph.rng()
    animal = recipe.animal(photograph.animal)
    data, orientation = take_photograph(animal, photograph.place, recipe.camera, recipe.size, rng)
    (folder / photograph.path).write_bytes(data)
    return orientation


def _cores() -> int:
    return min(available_cores(), MOST_WORKERS)


def _stamp(recipe: Recipe) -> dict[str, str | int]:
    return {"version": VERSION, "plan": repr(recipe)}


def _is_current(target: Path, stamp: dict) -> bool:
    if not target.exists():
        return False
    if not (target / STAMP).exists():
        raise UserError(
            f"{target} was not drawn by this package (it has no {STAMP}); move it away or give it another name, "
            f"so that {target.name} can be drawn there"
        )
    return json.loads((target / STAMP).read_text()) == stamp


def _remove_abandoned(target: Path) -> None:
    """Remove old temporary folders of killed processes; on a shared disk, process ids do not tell which still draw."""
    for folder in target.parent.glob(f".{target.name}.*.*"):
        with contextlib.suppress(FileNotFoundError):  # its owner has just removed it
            if time.time() - folder.stat().st_mtime > ABANDONED:
                shutil.rmtree(folder, ignore_errors=True)


def _replace(target: Path, temporary: Path, stamp: dict) -> None:
    """Move the drawn folder into place, unless another process was faster."""
    old = temporary.with_suffix(".old")
    try:
        if not _is_current(target, stamp):
            if target.exists():
                os.rename(target, old)
            os.rename(temporary, target)
    except OSError:
        if not _is_current(target, stamp):
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
