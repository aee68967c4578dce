"""FANCL on a project's photographs, kept only if it does not make the groups worse."""

import logging
import os
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config.load import load_config
from ..data import plural
from ..data.images import UnreadableImage
from ..engine.run import train as run_training
from ..errors import UserError
from ..files import replacing, write_text
from ..local.cost import local_cost
from ..methods.linked_fancl import LinkedFANCL
from ..runs.read import last_checkpoint
from . import certainty
from .crops import crop_of, own_crop
from .discover import Report, encoded, explain_lost_animals
from .encode import encode_all, encoder_named
from .identify import owners_of
from .links import active, constraints_of, decided_pairs, rejections
from .project import TRAINING, Project
from .rows import Decision, Photograph
from .storage import table_text
from .verify import compare

logger = logging.getLogger(__name__)

RECIPE = "Photographs/fancl"
FEWEST = 16  # photographs to train on
STEP_COST = 6  # of a training step, in features of as many photographs: two encoders, forward and backward
TOLERANCE = 0.01  # by which stability may fall


@dataclass(frozen=True)
class Crop:
    """A line of the training's metadata.csv; photographs of one station share a background."""

    path: str
    station: str
    sequence: str
    date_time: str


class GroupQuality(NamedTuple):
    """How good an encoder's groups are, as far as a project without labels can tell.

    Attributes:
        stability: mean adjusted Rand index of draws with the grouping.
        agreement: share of the decisions on pairs that the groups agree with when they do not know them; None without.
        decisions: their number.
    """

    stability: float
    agreement: float | None
    decisions: int

    def is_as_good_as(self, before: "GroupQuality") -> bool:
        """Whether stability fell by no more than TOLERANCE, and agreement not at all."""
        agreed = self.agreement is None or before.agreement is None or self.agreement >= before.agreement
        return self.stability >= before.stability - TOLERANCE and agreed

    def __str__(self) -> str:
        text = f"stability {self.stability:.2f}"
        return (
            text
            if self.agreement is None
            else f"{text}, agrees with {self.agreement:.0%} of {self.decisions} decisions"
        )


def train(project: Project, report: Report, k1: int, k2: int) -> bool:
    """Train on the project's photographs, and make the result its encoder if the groups do not get worse by it.

    Photographs that cannot be read are left out and named in the report, because their disk may only be disconnected.
    If an animal has no other photographs, nothing is trained, because the result could not be kept.

    Returns:
        Whether it was kept.

    Raises:
        ValueError: with too few photographs.
    """
    folder = project.folder / TRAINING
    rows = sorted((row for row in project.photographs if row.usable), key=lambda row: f"{row.key}.jpg")
    wanted, rows = rows, write_crops(folder / "photographs", rows, report, project.displaced)
    away = {row.key for row in wanted} - {row.key for row in rows}
    if lost := explain_lost_animals(wanted, dict.fromkeys(away, "it cannot be read")):
        report.training = f"Nothing is trained, as the result could not be kept: {lost}"
        return False
    if len(rows) < FEWEST:
        raise UserError(f"Expected {FEWEST} photographs or more to train on, got {len(rows)}: leave out --train.")
    decisions = active(project.decisions)
    animals = {animal.individual: animal for animal in project.animals}
    LinkedFANCL.constraints = constraints_of(
        rows, decisions, owners_of(rows, afresh=True), rejections(decisions, animals), project.changes
    )
    with report.step("local matches"):
        usable, (values,) = encoded(project, project.known_features)
        compare(project, usable, values, k1)  # what cannot be compared is named by the grouping that follows
    output = run_folder(folder, project.settings["encoder"])
    options = training_options(folder, project, k1, k2)
    _say_how_long(project, rows, sorted((folder / "photographs").glob("*.jpg")), options)
    with report.step("training"):
        _run(folder, options)
        encoder = encoder_named(f"run:{output}")
    with report.step("features"):
        features, _ = encode_all(project.folder, encoder, rows)
    rows, both = encoded(project, project.known_features, features)
    before, after = (group_quality(project, rows, values, decisions, k1, k2) for values in both)
    kept = after.is_as_good_as(before)
    report.training = f"The trained encoder is {'kept' if kept else 'not kept'}. Before: {before}; after: {after}."
    if kept:
        project.change_encoder(encoder.name, encoder)
    return kept


def write_crops(
    folder: Path, rows: Sequence[Photograph], report: Report, displaced: Mapping[str, str] | None = None
) -> list[Photograph]:
    """Write the animals as files of a data set, in the place of those of earlier trainings; the rows that are in it.

    Args:
        folder: of the data set.
        rows: photographs.
        report: takes what cannot be read.
        displaced: of `crops.displaced_in`; these photographs cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()  # its box may be another one now
    written = []
    for row in rows:
        try:
            crop = own_crop(row, displaced or {})
        except UnreadableImage as error:
            report.problems.append(f"{row.path} is not trained on: {error.problem or error}")
            continue
        with replacing(folder / f"{row.key}.jpg") as temporary:
            crop.save(temporary, "JPEG", quality=95)
        written.append(row)
    crops = [
        Crop(f"{row.key}.jpg", row.station, f"{row.season} {row.sequence}" if row.sequence else "", row.date_time)
        for row in written
    ]
    write_text(folder / "metadata.csv", table_text(crops, Crop))
    return written


def run_folder(folder: Path, encoder: str) -> str:
    """Where a training writes: never over the weights that the project uses, as it may not be kept."""
    places = (os.path.abspath(folder / name) for name in ("run", "run-2"))
    return next(place for place in places if encoder != f"run:{place}")


def training_options(folder: Path, project: Project, k1: int, k2: int) -> list[str]:
    """Settings of the training, beside those of configs/Photographs/fancl.yml."""
    encoder = project.settings["encoder"]
    options: dict[str, Any] = {
        "MODEL.META_ARCHITECTURE": "LinkedFANCL",
        "DATASETS.NAMES": "('photographs',)",
        "DATASETS.TESTS": "()",
        "OUTPUT_DIR": run_folder(folder, encoder),
        "PSEUDO_LABELS.MIN_SAMPLES": 2,
        "PSEUDO_LABELS.K1": k1,
        "PSEUDO_LABELS.K2": k2,
        "PSEUDO_LABELS.LOCAL": project.patterns.weight if project.patterns else 0.0,
        "MODEL.DEVICE": "auto",
        "SEED": project.settings["seed"],
    }
    if encoder.startswith("run:"):
        options["MODEL.WEIGHTS"] = str(last_checkpoint(Path(encoder.removeprefix("run:"))) or "")
    else:
        options["MODEL.BACKBONE.TIMM"] = encoder
    return [str(part) for pair in options.items() for part in pair]


def _say_how_long(project: Project, rows: Sequence[Photograph], crops: Sequence[Path], options: list[str]) -> None:
    cfg = load_config(RECIPE, options)
    sample = [crop_of(row.file, row.box) for row in rows[:8]]
    began = time.perf_counter()
    project.encoder.encode(sample)
    each = (time.perf_counter() - began) / len(sample)
    epochs, batch = cfg.SOLVER.MAX_EPOCH, cfg.SOLVER.IMS_PER_BATCH
    steps = max(1, len(rows) // batch)
    seconds = epochs * each * (steps * batch * STEP_COST + 2 * len(rows))
    if project.patterns:
        cost = local_cost([str(path) for path in crops], len(rows), cfg.PSEUDO_LABELS.K1)
        seconds += cost.keypoints + cost.matches
    minutes = plural(max(1, round(seconds / 60)), "minute")
    print(f"Training: {epochs} epochs on {len(rows)} photographs, about {minutes}.", flush=True)


def _run(folder: Path, options: list[str]) -> None:
    before = os.environ.get("FASTREID_DATASETS")
    os.environ["FASTREID_DATASETS"] = os.path.abspath(folder)
    try:
        run_training(Namespace(config_file=RECIPE, opts=options, resume=False, eval_only=False, num_gpus=1))
    finally:
        os.environ.pop("FASTREID_DATASETS")
        if before is not None:
            os.environ["FASTREID_DATASETS"] = before


def group_quality(
    project: Project, rows: Sequence[Photograph], values: np.ndarray, decisions: Sequence[Decision], k1: int, k2: int
) -> GroupQuality:
    """How good the groups by features (N, D) are: without the decisions, so that these can judge them."""
    seed, keys = project.settings["seed"], [row.key for row in rows]
    grouping = certainty.group(
        values, constraints_of(rows, ()), k1=k1, k2=k2, seed=seed, patterns=project.patterns, keys=keys
    )
    pairs, same = decided_pairs(decisions, keys)
    a, b = grouping.labels[pairs].T
    agreement = float(((a == b) == same).mean()) if len(pairs) else None
    return GroupQuality(grouping.stability, agreement, len(pairs))
