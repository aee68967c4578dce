"""Photographs that come into a project, and what is learned of those that it has."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .discover import Report
from .intake import Intake
from .project import Project
from .rows import Photograph
from .sources import NO_ANIMAL


def take_in(project: Project, intake: Intake, report: Report) -> None:
    """Add photographs to a project.

    Those that it has keep what is known of them, take their new place, and get what they lacked. What differs is
    reported. A photograph that is in the project whole stays so if it has several boxes now, as nobody said which of
    them is its animal.
    """
    known, report.intake = project.by_key, intake
    boxes = Counter(row.hash for row in intake.photographs)
    whole = {row.hash for row in known.values() if row.usable and row.box is None}
    others, several = [], set()
    for row in intake.photographs:
        old, first = known.get(row.key), "-" not in row.key  # of its boxes, so that photographs are counted
        if boxes[row.hash] > 1 and row.hash in whole:
            several.add(row.path)
        elif old is None or _tried_again(old, row):
            report.added += first and old is None
            known[row.key] = row
            continue
        if old is not None:
            known[row.key] = completed = _completed(old, row, boxes[row.hash] == 1)
            report.moved += first and (old.root, old.path) != (row.root, row.path)
            report.completed += first and replace(completed, root=old.root, path=old.path) != old
            others += [row.path] if _differs(old, row) else []
    project.photographs = list(known.values())
    report.problems += _kept(sorted(several), others)


def _tried_again(old: Photograph, row: Photograph) -> bool:
    """Whether a photograph comes in as if it were new: it was unreadable, or a detector overlooked its animal."""
    return old.status == "unreadable" or (old.note == NO_ANIMAL and not old.usable and row.usable)


def _completed(old: Photograph, row: Photograph, one_box: bool) -> Photograph:
    """A photograph of the project at its new place, with what it lacked."""
    changes: dict[str, Any] = {"root": row.root, "path": row.path}
    if row.station and not old.station:
        changes |= {"station": row.station, "camera": row.camera}
    if row.date_time and not old.date_time:
        changes |= {"date_time": row.date_time, "date_time_source": row.date_time_source}
    if not old.sequence:
        changes["sequence"] = row.sequence
    if old.side == "unknown":
        changes["side"] = row.side
    if old.box is None and one_box:
        changes["box"] = row.box
    return replace(old, **changes)


def _differs(old: Photograph, row: Photograph) -> bool:
    pairs = [(getattr(old, name), getattr(row, name)) for name in ("station", "date_time", "box")]
    return any(before and after and before != after for before, after in pairs)


def _kept(several: Sequence[str], others: Sequence[str]) -> list[str]:
    """What was not taken over from photographs that the project has, in sentences."""
    problems = []
    if several:
        problems.append(
            f"Photographs of the project with several boxes now: {len(several)}, such as {several[0]}. They stay "
            "whole; a new project takes each box for an animal."
        )
    if others:
        problems.append(
            f"Photographs of the project with another station, time or box now: {len(others)}, such as {others[0]}. "
            "What the project has stays; correct photographs.csv if that is wrong."
        )
    return problems
