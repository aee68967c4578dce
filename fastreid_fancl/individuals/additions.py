"""Photographs that come into a project, and what is learned of those that it has."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ..data import plural
from ..escape import visible
from .discover import Report
from .intake import Intake, named_by_time
from .project import Project
from .rows import Photograph
from .sources import NO_ANIMAL, NOT_OURS, SEEN

FOUND, SAID = ("found", "exif", "file name"), ("named", "table")  # of station_source and date_time_source


def take_in(project: Project, intake: Intake, report: Report) -> None:
    """Add photographs to a project.

    Those that it has keep what is known of them, take their new place, and get what they lacked. A station and a time
    that the user gives take the place of those that the program found. What differs else is reported. One that comes in
    with other boxes keeps those of the project, as it is not known which of them shows its animals.
    """
    intake.notes += _further_of_season(project.photographs, intake.photographs)
    known, report.intake = _by_content(project.photographs), intake
    others, boxes = [], []
    for content, came in _by_content(intake.photographs).items():
        had, first = known.get(content, []), came[0]
        if _as_if_new(had, first):
            report.added += not had
            known[content] = came
            continue
        if _other_boxes(had, came):
            boxes.append(first.path)
            came = [replace(first, box=None)]
        of_box = {row.box: row for row in came}
        pairs = [(old, of_box.get(old.box, came[0])) for old in had]
        known[content] = [_completed(old, row) for old, row in pairs]
        placed = [replace(old, root=first.root, path=first.path) for old in had]
        report.moved += placed != had  # once for a photograph, however many boxes it has
        report.completed += placed != known[content]
        new = zip(known[content], (row for _, row in pairs), strict=True)
        others += [first.path] if any(_differs(*pair) for pair in new) else []
    project.photographs = [row for rows in known.values() for row in rows]
    report.problems += _kept(boxes, others)


def _by_content(rows: Iterable[Photograph]) -> dict[str, list[Photograph]]:
    """The rows of each photograph, by its hash."""
    by_hash = defaultdict(list)
    for row in rows:
        by_hash[row.hash].append(row)
    return dict(by_hash)


def _as_if_new(had: Sequence[Photograph], first: Photograph) -> bool:
    """Whether nothing is known of a photograph that has to be kept, neither an animal nor a box."""
    return all(_tried_again(old, first) and (old.box is None or first.box is not None) for old in had)


def _tried_again(old: Photograph, row: Photograph) -> bool:
    """Whether a photograph comes in as if it were new: it was unreadable, or its animal was overlooked.

    That somebody found an animal since is said by a box or a note. A whole photograph is usable, too, and says nothing.
    """
    found = row.usable and (row.box is not None or SEEN in row.note)
    overlooked = old.note in (NO_ANIMAL, NOT_OURS) and not old.usable
    return old.status == "unreadable" or (overlooked and found)


def _other_boxes(had: Sequence[Photograph], came: Sequence[Photograph]) -> bool:
    """Whether the boxes of a photograph are not those that the project has, and are several before or now."""
    before, now = ({row.box for row in rows if row.box} for rows in (had, came))
    return bool(now) and before != now and max(len(before), len(now)) > 1


def _completed(old: Photograph, row: Photograph) -> Photograph:
    """A photograph of the project at its new place, with what it lacked."""
    if _tried_again(old, row):
        return replace(row, key=old.key, box=old.box or row.box)
    changes: dict[str, Any] = {"root": row.root, "path": row.path}
    if (row.station and not old.station) or _overrules("station_source", row, old):
        changes |= {"station": row.station, "station_source": row.station_source, "camera": row.camera}
    if (row.date_time and not old.date_time) or _overrules("date_time_source", row, old):
        changes |= {"date_time": row.date_time, "date_time_source": row.date_time_source}
    if not old.sequence or _has_other_sequence(old, row, replace(old, **changes)):
        changes["sequence"] = row.sequence
    if old.side == "unknown":
        changes["side"] = row.side
    if old.box is None:
        changes["box"] = row.box
    return replace(old, **changes)


def _overrules(source: str, row: Photograph, other: Photograph) -> bool:
    """Whether the user, or another program, says for one photograph what was only found for the other."""
    return getattr(row, source) in SAID and getattr(other, source) in FOUND


def _has_other_sequence(old: Photograph, row: Photograph, completed: Photograph) -> bool:
    """Whether a photograph leaves its sequence, which followed from its station and time or was given.

    One that was found goes with the station or the time that it followed from, and where one is given. One that was
    given goes only where both is so.
    """
    moved = any(getattr(old, name) != getattr(completed, name) for name in ("station", "camera", "date_time"))
    given = bool(row.sequence) and not named_by_time(row.sequence)
    return moved + given + named_by_time(old.sequence) >= 2


def _differs(old: Photograph, row: Photograph) -> bool:
    """Whether a photograph of the project is said to have another station, time or box."""
    pairs = [(getattr(old, name), getattr(row, name)) for name in ("station", "date_time", "box")]
    known = [_overrules(f"{name}_source", old, row) for name in ("station", "date_time")]
    return any(
        before and after and before != after and not settled
        for (before, after), settled in zip(pairs, [*known, False], strict=True)
    )


def _further_of_season(had: Sequence[Photograph], came: Sequence[Photograph]) -> list[str]:
    """A sentence if a season gets photographs of which it has none yet, as two cards called DCIM are one season."""
    seasons = {row.season for row in came}
    there = [row for row in had if row.season in seasons]
    if not there or not {row.hash for row in there}.isdisjoint(row.hash for row in came):
        return []
    return [
        f"The season {visible(there[0].season)} was there before, with {plural(len(there), 'photograph')} of "
        f"{visible(there[0].root)}, and none of those that came in now. If these are of another season, correct the "
        "column season of photographs.csv; for a further folder of this name give --season NAME."
    ]


def _kept(boxes: Sequence[str], others: Sequence[str]) -> list[str]:
    """What was not taken over from photographs that the project has, in sentences."""
    problems = []
    if boxes:
        problems.append(
            f"Photographs of the project with other boxes now: {len(boxes)}, such as {boxes[0]}. They keep the boxes "
            "that they have, or stay whole; a new project takes each new box for an animal."
        )
    if others:
        problems.append(
            f"Photographs of the project with another station, time or box now: {len(others)}, such as {others[0]}. "
            "What the project has stays; correct photographs.csv if that is wrong."
        )
    return problems
