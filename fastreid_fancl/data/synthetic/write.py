"""Draws a data set into a folder, once.

- SyntheticPandas: red pandas in the numbers of the paper's Table I, 256 x 128 pixels (W x H).
- SyntheticPandasSmall: the same kind at 128 x 64, 1,000 training images of 20 animals and twice as many to be tested on
  as Table I has, all indoors, for the demo.
- SyntheticTiny: six training pandas of eight images at 64 x 32, for tests of commands.
- SyntheticSource, SyntheticSourceSmall: other species on open land, with labels, to pre-train on.

Headroom of SyntheticPandasSmall, one seed, ResNet-18 with stride 2 in the last stage, 48 x 96 (H x W): 300 supervised
iterations on SyntheticSourceSmall (batch 32, Adam, learning rate 1e-3) start the unseen animals at mAP 34.2 and Rank-1
64.7; 200 iterations of FANCL on the true labels bring them to 67.0 and 86.4, of a supervised classifier to 74.0 and
90.2. The first clusters have an ARI of 0.59, without the 25% of the images that they leave out.
"""

import contextlib
import csv
import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

from .catalogue import RECIPES, Recipe, Shot
from .photograph import take_photograph

VERSION = 1
"""Of the pictures: raise it with every change that draws other pixels, and data sets are drawn anew."""

NAMES = tuple(RECIPES)
STAMP = "drawn.json"
MOST_WORKERS = 8
ABANDONED = 3600.0  # seconds; no drawing takes this long


def build(name: str, root: str, workers: int | None = None) -> str:
    """Return ``<root>/<name>``, drawn now if it is not there yet or was drawn by another version.

    It appears whole: it is drawn into a folder beside it that is renamed at the end, so several processes may ask at
    once (the first to finish wins) and a killed one leaves nothing of that name, and what it leaves goes the next time
    that is drawn, an hour later or more. The files do not depend on
    ``workers``, the number of processes (by default one for each core).

    Raises:
        ValueError: an unknown name, or a folder of that name that this package has not drawn.
    """
    if name not in RECIPES:
        raise ValueError(f"no drawn data set is called {name!r}; there are {', '.join(NAMES)}")
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


def draw(plan: Recipe, folder: Path, workers: int) -> None:
    """Write the photographs and the metadata.csv of a plan into a folder."""
    shots = plan.shots()
    for parent in sorted({os.path.dirname(shot.path) for shot in shots}):
        (folder / parent).mkdir(parents=True)
    if workers == 1 or "fork" not in multiprocessing.get_all_start_methods():
        facing = [_take(shot, folder) for shot in shots]
    else:
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            facing = pool.starmap(_take, [(shot, folder) for shot in shots], chunksize=16)
    with open(folder / "metadata.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "identity", "split", "orientation", "environment"])
        writer.writerows([s.path, s.identity, s.split, o, s.place] for s, o in zip(shots, facing, strict=True))


def _take(shot: Shot, folder: Path) -> str:
    """Write one photograph; returns its orientation."""
    plan = shot.plan
    data, orientation = take_photograph(plan.animal(shot.animal), shot.place, plan.camera, plan.size, shot.rng())
    (folder / shot.path).write_bytes(data)
    return orientation


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS)


def _stamp(plan: Recipe) -> dict[str, str | int]:
    return {"version": VERSION, "plan": repr(plan)}


def _is_current(target: Path, stamp: dict) -> bool:
    if not target.exists():
        return False
    if not (target / STAMP).exists():
        raise ValueError(
            f"{target} was not drawn by this package (it has no {STAMP}); move it away or give it another name, "
            f"so that {target.name} can be drawn there"
        )
    return json.loads((target / STAMP).read_text()) == stamp


def _remove_abandoned(target: Path) -> None:
    """Remove what killed processes have left; on a shared disk their numbers do not tell which are still drawing."""
    for folder in target.parent.glob(f".{target.name}.*.*"):
        with contextlib.suppress(FileNotFoundError):  # its owner was quicker
            if time.time() - folder.stat().st_mtime > ABANDONED:
                shutil.rmtree(folder, ignore_errors=True)


def _replace(target: Path, temporary: Path, stamp: dict) -> None:
    """Put what was drawn in place, unless another process was faster."""
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
