"""One discovery: photographs come in, are encoded and grouped, and get their animals; decisions are applied."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from ..clustering.constraints import Constraints
from ..data import plural
from ..errors import UserError
from ..escape import visible
from ..files import write_arrays
from ..runs.checked import DamagedError
from . import certainty
from .certainty import Grouping
from .encode import AGAIN, Features, cache_key, encode_all, read_arrays
from .identify import assign, assign_afresh, owners_of, score_all
from .intake import Intake
from .ledger import Ledger
from .links import active, constraints_of, in_file_names
from .notes import NO_ANIMAL, NOT_OURS
from .project import Project
from .rows import Photograph
from .verify import compare

logger = logging.getLogger(__name__)

# How photographs are changed, so that draws show what depends on framing and light.
VIEWS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "-closer": lambda image: image.crop(
        (
            round(0.08 * image.width),
            round(0.08 * image.height),
            round(0.92 * image.width),
            round(0.92 * image.height),
        )
    ),
    "-darker": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
}


@dataclass
class Report:
    """What a discovery did.

    Attributes:
        intake: of the photographs that came in; None without.
        added: photographs that the project did not have.
        moved: photographs that it had and that lie elsewhere now.
        completed: photographs that it had and that got a station, a time, a side or a box that they lacked.
        problems: what could not be used or followed, in sentences.
        unreadable: path -> reason of photographs that came in and turned out to be broken.
        training: what came of a training, in a sentence.
        regrouped: what --regroup changed, in a sentence.
        grouping: None if nothing was grouped.
        seconds: of the steps by name.
    """

    intake: Intake | None = None
    added: int = 0
    moved: int = 0
    completed: int = 0
    problems: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    training: str = ""
    regrouped: str = ""
    grouping: Grouping | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the seconds of a step."""
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - began


def encode(project: Project, report: Report, augment: int = 0) -> tuple[Features, list[Features]]:
    """Encode all photographs; unreadable ones are marked so, by their reason.

    A photograph that has an animal keeps it, and is only left out of the grouping, because its disk may only be
    disconnected.

    Returns:
        The features, and those of `augment` changed photographs.

    Raises:
        UserError: if another encoder than before cannot read any photograph of an animal.
    """
    wanted, displaced = [row for row in project.photographs if row.usable], project.displaced
    with report.step("features"):
        features, problems = encode_all(project.folder, project.encoder, wanted, displaced=displaced)
        lost = explain_lost_animals(project.photographs, problems)
        if lost and project.settings["fingerprint"] != project.encoder.fingerprint:
            raise UserError(f"Expected another encoder to read photographs of all animals: {lost} Or keep the encoder.")
        there = [row for row in wanted if row.key not in problems]
        views = [
            encode_all(project.folder, project.encoder, there, view, name, displaced)[0]
            for name, view in list(VIEWS.items())[:augment]
        ]
    if problems:
        project.photographs = [
            replace(row, status="unreadable", individual="", note=problems[row.key])
            if row.key in problems and not row.counts
            else row
            for row in project.photographs
        ]
    broken = [row for row in project.photographs if row.key in problems]
    came = {row.hash for row in report.intake.photographs} if report.intake else set()
    report.unreadable |= {row.path: problems[row.key] for row in broken if row.hash in came}
    report.problems += [f"{row.path} is left out: {problems[row.key]}" for row in broken]
    if project.settings["fingerprint"] != project.encoder.fingerprint:
        project.settings |= {"fingerprint": project.encoder.fingerprint, "levels": {}}  # its scores have other levels
    project.forget_features()
    return features, views


def explain_lost_animals(rows: Iterable[Photograph], problems: Mapping[str, str]) -> str:
    """Which animals another encoder could not compare, so that they would get new IDs, and what helps; "" without any.

    Args:
        rows: of the project.
        problems: of the photographs that cannot be read, by key.
    """
    counted = [row for row in rows if row.counts]
    there = {row.individual for row in counted if row.key not in problems}
    lost = [row for row in counted if row.individual not in there]
    if not lost:
        return ""
    animals = sorted({row.individual for row in lost})
    return (
        f"{plural(len(animals), 'animal')}, such as {animals[0]}, would not be known again, as no photograph of them "
        f"can be read ({visible(lost[0].path)}: {problems[lost[0].key]}). Connect their disk, or give their folder by "
        "--photos first; if the photographs are deleted, remove their rows from photographs.csv."
    )


def regroup(
    project: Project,
    features: Features,
    views: Sequence[Features],
    report: Report,
    event: str,
    k1: int,
    k2: int,
    afresh: bool = False,
) -> None:
    """Group all photographs and give the open ones their animals; afresh, all that nobody confirmed are open."""
    rows, (values, *changed_values) = encoded(project, features, *views)
    if not rows:
        blank = sum(row.note in (NO_ANIMAL, NOT_OURS) for row in project.photographs)
        why = f" Photographs without a box of an animal: {blank}; see --boxes and --confidence." if blank else ""
        report.problems.append(f"No photograph can be used, so there are no animals.{why}")
        return
    with report.step("local matches"):
        report.problems += compare(project, rows, values, k1)
    ledger = Ledger(project, event)
    decisions, owners = active(project.decisions), owners_of(rows, afresh)
    constraints = constraints_of(rows, decisions, owners, ledger.rejected, project.changes if afresh else ())
    logger.info("Grouping %s; the first time on a computer can take minutes.", plural(len(rows), "photograph"))
    with report.step("grouping"):
        report.grouping = certainty.group(
            values,
            constraints,
            free_of(rows, constraints),
            changed_values,
            k1,
            k2,
            project.settings["seed"],
            patterns=project.patterns,
            keys=[row.key for row in rows],
        )
    report.problems += [in_file_names(rows, one) for one in report.grouping.contradictions]
    with report.step("animals"):
        if not project.settings["levels"]:
            score_known(ledger, rows, values)
        if afresh:
            assign_afresh(ledger, rows, report.grouping)
        else:
            assign(ledger, rows, values, report.grouping)
        score_all(ledger, rows, values)
        ledger.close()
    write_certainty(project, rows, report.grouping)


def encoded(project: Project, *features: Features) -> tuple[list[Photograph], list[np.ndarray]]:
    """The usable photographs that have all of the features, in the order of their keys, and these features (N, D)."""
    rows = sorted((row for row in project.photographs if row.usable), key=lambda row: row.key)
    rows = [row for row in rows if all(cache_key(row) in each.numbers for each in features)]
    return rows, [each.of(rows)[1] for each in features]


def score_known(ledger: Ledger, rows: Sequence[Photograph], values: np.ndarray) -> None:
    """Set the levels of a project that has animals and no levels yet."""
    if any(row.counts for row in rows):
        score_all(ledger, rows, values)


def free_of(rows: Sequence[Photograph], constraints: Constraints) -> Constraints | None:
    """The constraints without what the project itself proposed, so that draws can show how sure that is."""
    if not any(constraints.owners):
        return None
    return replace(constraints, owners=owners_of(rows, afresh=True))


def rescore(project: Project, report: Report) -> None:
    """Write scores again, after decisions moved photographs."""
    rows, (values,) = encoded(project, project.known_features)
    if not rows:
        return
    with report.step("scores"):
        ledger = Ledger(project, "")
        score_all(ledger, rows, values)
        ledger.close()


def now() -> str:
    """The time as decisions have it: ISO 8601 in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


CERTAINTY = "certainty.npz"


def write_certainty(project: Project, rows: Sequence[Photograph], grouping: Grouping) -> None:
    """Keep how sure each pair is, for the queue of questions."""
    keys = np.array([row.key for row in rows])
    write_arrays(
        project.folder / CERTAINTY,
        compressed=True,
        keys=keys,
        pairs=grouping.pairs.astype(np.int32),
        together=grouping.together.astype(np.float16),
    )


class Certainty:
    """What `write_certainty` kept.

    Attributes:
        keys, pairs, shares: N photographs, (P, 2) pairs of them, and the share of the draws that put each together.
        together: share of the draws that put two keys in one group; pairs that no draw put together are not there.

    Raises:
        DamagedError: (a ValueError) if the file is something else.
    """

    def __init__(self, folder: Path):
        stored = read_arrays(folder / CERTAINTY, ("keys", "pairs", "together"))
        keys, pairs, shares = stored or [np.empty(0, str), np.empty((0, 2), np.int64), np.empty(0)]
        if pairs.size and not 0 <= pairs.min() <= pairs.max() < len(keys):
            raise DamagedError(folder / CERTAINTY, "it has pairs of photographs that it does not have", AGAIN)
        names: list[str] = keys.tolist()
        drawn = shares > 0  # most pairs never are, and millions would fill the memory
        both = zip(pairs[drawn].tolist(), shares[drawn].tolist(), strict=True)
        self.together = {(names[a], names[b]): share for (a, b), share in both}
        self.keys, self.pairs, self.shares = names, pairs, shares

    def of(self, animals: Mapping[str, str]) -> dict[str, float]:
        """Certainty, by key, that each photograph shows the animal that `animals` gives it."""
        _, labels = np.unique([animals.get(key) or key for key in self.keys], return_inverse=True)
        return dict(zip(self.keys, certainty.certainty_of(labels, self.pairs, self.shares).tolist(), strict=True))
