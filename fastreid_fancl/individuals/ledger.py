"""Changes of a project's tables, each with its reason: the only place that moves a photograph to an animal."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..escape import visible
from .links import MOVED, active, current_id, rejections
from .notes import BESIDE, NOT_OURS
from .project import Project
from .rows import STATUSES, Change, Individual, Photograph

TRAITS = ("name", "sex")


class Ledger:
    """The tables of a project while one event changes them: a decision, or a season that is added.

    Attributes:
        event: the `when` of the event.
        rows, animals: by key and by ID.
    """

    def __init__(self, project: Project, event: str):
        self.project, self.event = project, event
        self.earlier = project.changes
        self.rows: dict[str, Photograph] = project.by_key
        self.animals: dict[str, Individual] = {animal.individual: animal for animal in project.animals}
        self.changes: list[Change] = []
        self.members: dict[str, set[str]] = defaultdict(set)
        self.of_sequence: dict[str, list[str]] = defaultdict(list)
        for row in self.rows.values():
            if row.individual:
                self.members[row.individual].add(row.key)
            if row.sequence:
                self.of_sequence[row.sequence].append(row.key)
        self._touched, self._marked = set(self.animals), 0
        numbers = (re.search(r"-(\d+)$", name) for name in self.animals)
        self._last_number = max((int(number[1]) for number in numbers if number), default=0)

    def new_animal(self, reason: str) -> str:
        """An ID that was never used."""
        self._last_number += 1
        name = f"{self.project.settings['prefix']}-{self._last_number:03d}"
        self.animals[name] = Individual(name)
        self.changes.append(Change(self.event, "new", name, "", name, reason))
        return name

    def counted(self, individual: str) -> list[Photograph]:
        """The photographs that are evidence of an animal, in the order of their keys."""
        return sorted((row for key in self.members[individual] if (row := self.rows[key]).counts), key=lambda r: r.key)

    def current(self, individual: str) -> str:
        """The ID that an animal has now, after all merges."""
        return current_id(individual, self.animals)

    @property
    def rejected(self) -> dict[str, dict[str, str]]:
        """Animals that a photograph is not, see `links.rejections`."""
        return rejections(active(self.project.decisions), self.animals)

    def move(self, keys: Iterable[str], individual: str, status: str, kind: str, reason: str) -> None:
        """Give photographs an animal and a status; those that have both stay as they are."""
        for key in sorted(keys):
            row = self.rows[key]
            before, after = _place(row.individual, row.status), _place(individual, status)
            if before == after:
                continue
            self.members[row.individual].discard(key)
            if individual:
                self.members[individual].add(key)
            self._touched |= {row.individual, individual}
            self.rows[key] = replace(row, individual=individual, status=status)
            self.changes.append(Change(self.event, kind, key, before, after, reason))

    def clear_note(self, key: str) -> None:
        """Clear a program's note on a photograph once a person has judged it.

        It stays noted that people or other species are on it, because such a photograph is not blank.
        """
        row = self.rows[key]
        others = NOT_OURS in row.note or BESIDE in row.note
        self.rows[key] = replace(row, note=f"{NOT_OURS}, as a person said" if others else "")

    def merge(self, gone: str, kept: str, reason: str) -> None:
        """Put an animal's photographs under another ID, with the name and sex that this one lacks.

        The first ID stays on record.
        """
        for key in sorted(self.members[gone]):
            self.move([key], kept, self.rows[key].status, "merged", reason)
        for trait in TRAITS:
            one, other = (getattr(self.animals[name], trait) for name in (kept, gone))
            self.set_field(kept, trait, one or other, reason)
        self._set_heir(gone, kept)
        self.changes.append(Change(self.event, "merged", gone, gone, kept, reason))

    def set_side(self, key: str, side: str, reason: str) -> None:
        """Say which side a photograph shows."""
        row = self.rows[key]
        if row.side != side:
            self.rows[key] = replace(row, side=side)
            self.changes.append(Change(self.event, "side", key, row.side, side, reason))

    def set_field(self, individual: str, field: str, value: str, reason: str) -> None:
        """Set the name or the sex of an animal."""
        before = getattr(self.animals[individual], field)
        if before != value:
            change: dict[str, Any] = {field: value}
            self.animals[individual] = replace(self.animals[individual], **change)
            self.changes.append(Change(self.event, field, individual, before, value, reason))

    def undo(self, event: str, reason: str) -> list[str]:
        """Take back the changes of an event, last first. What was changed again since stays: its paths and IDs."""
        changes = [change for change in self.earlier + self.changes if change.event == event]
        stay = {change.item: None for change in reversed(changes) if not self._undo(change, reason)}
        return [self.rows[item].path if item in self.rows else item for item in stay]

    def _undo(self, change: Change, reason: str) -> bool:
        """Take back one change; whether all is as before it, or its photograph or animal is gone."""
        now = self._now(change)
        if now is None or now == change.before:
            return True
        if now != change.after:
            return False
        if change.kind in TRAITS:
            self.set_field(change.item, change.kind, change.before, reason)
        elif change.kind == "side":
            self.set_side(change.item, change.before, reason)
        elif change.item in self.animals:
            return self._part(change, reason)
        else:
            return self._put_back(change, reason)
        return True

    def _now(self, change: Change) -> str | None:
        """What is now, as `before` and `after` of a change say it; None where a change cannot be taken back."""
        if animal := self.animals.get(change.item):
            if change.kind == "merged":
                return animal.merged_into or change.item
            return getattr(animal, change.kind) if change.kind in TRAITS else None
        if row := self.rows.get(change.item):
            return row.side if change.kind == "side" else _place(row.individual, row.status)
        return None

    def _part(self, change: Change, reason: str) -> bool:
        """Undo a merge, or redo a merge that was undone; whether all is as before it."""
        into = "" if change.before == change.item else change.before
        if self.current(into) == change.item:  # that one was merged into this one since
            return False
        if into and self.counted(change.item):  # this one got photographs since
            return False
        self._set_heir(change.item, into)
        self.changes.append(Change(self.event, "merged", change.item, change.after, change.before, reason))
        return True

    def _put_back(self, change: Change, reason: str) -> bool:
        individual, _, status = change.before.rpartition(" ")
        known = status in STATUSES and (individual in self.animals or not individual)
        if known:
            self.move([change.item], self.current(individual), status, "moved", reason)
        return known

    def close(self) -> None:
        """Give the tables back to the project, with the animals counted again."""
        project = self.project
        self.mark_singles()
        project.photographs = list(self.rows.values())
        project.animals = [self._recounted(animal) for animal in self.animals.values()]
        project.changes = self.earlier = self.earlier + self.changes
        self.changes, self._marked = [], 0

    def mark_singles(self) -> None:
        """After an event: an unconfirmed animal's only photograph is "single", one of several "proposed".

        An animal that has ended gets its heir, see `_end`.
        """
        touched, self._touched = self._touched, set()
        moves, self._marked = self.changes[self._marked :], len(self.changes)
        for individual in sorted(touched - {""}, key=lambda name: (not self.counted(name), name)):
            self._end(individual, moves)
            rows = self.counted(individual)
            status = "single" if len(rows) == 1 else "proposed"
            for row in rows:
                if row.status in ("single", "proposed") and row.status != status:
                    self.rows[row.key] = replace(row, status=status)

    def _end(self, individual: str, moves: Iterable[Change]) -> None:
        """Record where an animal went whose last photographs were all moved to one other; forget it once it is back."""
        animal = self.animals[individual]
        if self.counted(individual):
            self._forget_heir(individual)
            return
        counted = (_place(individual, "confirmed"), _place(individual, "proposed"))
        left = [self.rows[change.item] for change in moves if change.item in self.rows and change.before in counted]
        heirs = {row.individual if row.counts else "" for row in left}
        if not animal.merged_into and len(heirs) == 1 and heirs != {""}:
            self.animals[individual] = replace(animal, merged_into=heirs.pop(), note=MOVED)

    def _set_heir(self, individual: str, into: str) -> None:
        """Say that an animal was merged into another one, or into none; the other one is there again."""
        self.animals[individual] = replace(self.animals[individual], merged_into=into, note="")
        if into:
            self._forget_heir(into)

    def _forget_heir(self, individual: str) -> None:
        if self.animals[individual].note == MOVED:
            self.animals[individual] = replace(self.animals[individual], merged_into="", note="")

    def _recounted(self, animal: Individual) -> Individual:
        rows = self.counted(animal.individual)
        ended = animal.note if animal.note == MOVED else "" if animal.merged_into else "no photographs left"
        dates = sorted(row.date_time[:10] for row in rows if row.date_time)
        sides = sorted({row.side for row in rows} - {"unknown"})
        if not rows:
            status = "merged"
        elif any(row.status == "confirmed" for row in rows):
            status = "confirmed"
        else:
            status = "single" if len(rows) == 1 else "proposed"
        return replace(
            animal,
            first_seen=(dates or [""])[0],
            last_seen=(dates or [""])[-1],
            photographs=len(rows),
            sequences=len({row.sequence or row.key for row in rows}),
            stations=len({row.station for row in rows} - {""}),
            sides=" ".join(sides),
            status=status,
            note="" if rows else ended,
        )


def contradictions(animals: Iterable[Individual], changes: Iterable[Change]) -> list[str]:
    """Sentences on animals that these changes merged and that have two names, or two sexes."""
    known = {animal.individual: animal for animal in animals}
    merged = {change.item for change in changes if change.kind == "merged" and change.item in known}
    problems = []
    for gone in sorted(merged):
        kept = current_id(gone, known)
        for trait in TRAITS:
            one, other = getattr(known[gone], trait), getattr(known[kept], trait)
            if kept != gone and one and one != other:
                problems.append(
                    f"{gone}, of {trait} {visible(one)}, was merged into {kept}, of {trait} {visible(other)}, which "
                    "keeps its own: correct it on the review page if that is wrong."
                )
    return problems


def _place(individual: str, status: str) -> str:
    """Where a photograph is, in a change; "single" counts as "proposed", as `mark_singles` sets one or the other."""
    return f"{individual} {'proposed' if status == 'single' else status}"
