"""The rows of a project's tables."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import UserError

STATUSES = ("confirmed", "proposed", "unsure", "single", "not_animal", "unreadable")
COUNTED = ("confirmed", "proposed", "single")  # statuses of a photograph that is evidence of its animal
INDIVIDUAL_STATUSES = ("confirmed", "proposed", "single", "merged")
SIDES = ("left", "right", "both", "unknown")
SEXES = ("female", "male")
KINDS = ("same", "different", "unsure", "is", "is_not", "new", "not_animal", "side")
KINDS_OF_INDIVIDUALS = ("merge", "name", "sex", "confirm")
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Photograph:
    """One animal on one photograph.

    Attributes:
        key: first 16 hexadecimal digits of the content's SHA-256, and `-2`, `-3` for further boxes in reading order.
        hash: SHA-256 of the file's content.
        path: relative to `root`, with forward slashes.
        station_source: found (in the folders, by the program), named (by --stations), table (or Camtrap DP); empty if
            that is not known, as in older projects.
        date_time: local, `2024-06-03T00:30:00`, or empty; `date_time_source` is exif, table, file name or none.
        box: x, y, width, height as shares of the photograph, from its upper left corner; None for all of it.
        individual: its animal. Of an unsure photograph the likeliest one, which does not count it.
        score, second, second_score: similarity to the nearest photograph of its animal and of the next likeliest one.
    """

    key: str
    hash: str
    path: str
    root: str = ""
    season: str = ""
    station: str = ""
    station_source: str = ""
    camera: str = ""
    date_time: str = ""
    date_time_source: str = "none"
    sequence: str = ""
    box: Box | None = None
    side: str = "unknown"
    individual: str = ""
    status: str = "unsure"
    score: float | None = None
    second: str = ""
    second_score: float | None = None
    note: str = ""

    @property
    def file(self) -> Path:
        """Where the photograph lies."""
        return Path(self.root, self.path)

    @property
    def moment(self) -> datetime | None:
        """When it was taken, in local time; None if it is not known."""
        return iso_time(self.date_time).replace(tzinfo=None) if self.date_time else None

    @property
    def occasion(self) -> str:
        """Its sequence, or its file where none is known. Photographs of one occasion are no evidence for each other."""
        return self.sequence or self.hash[:16]

    @property
    def counts(self) -> bool:
        """Whether it is evidence of its animal: in exports, numbers of photographs and matches."""
        return self.status in COUNTED

    @property
    def usable(self) -> bool:
        """Whether it shows an animal that can be compared."""
        return self.status not in ("not_animal", "unreadable")


@dataclass(frozen=True)
class Individual:
    """One animal; `individual` is its ID, which is never reused or changed."""

    individual: str
    name: str = ""
    sex: str = ""
    first_seen: str = ""
    last_seen: str = ""
    photographs: int = 0
    sequences: int = 0
    stations: int = 0
    sides: str = ""
    status: str = "proposed"
    merged_into: str = ""
    note: str = ""


@dataclass(frozen=True)
class Decision:
    """What a person decided; `when` is ISO 8601 in UTC. The kinds are those of KINDS and KINDS_OF_INDIVIDUALS, undo."""

    when: str
    who: str
    kind: str
    a: str
    b: str = ""
    value: str = ""


@dataclass(frozen=True)
class Change:
    """One photograph that moved, or one animal that changed, with its reason.

    Attributes:
        event: the `when` of the decision, or the time at which a season was added.
        kind: new, joins, moved, split, merged, status, side, name or sex.
        item: key of a photograph or ID of an animal.
        before, after: what it was and what it became.
    """

    event: str
    kind: str
    item: str
    before: str
    after: str
    reason: str


def restored_animals(
    photographs: Sequence[Photograph], decisions: Sequence[Decision], changes: Sequence[Change]
) -> list[Individual]:
    """The animals that a project's other tables name, if its individuals.csv is lost; their numbers are counted later.

    Names, sexes and merges are the last ones on record. Without changes.csv nothing says what was merged.
    """
    named = {name for row in photographs for name in (row.individual, row.second)}
    named |= {name for one in decisions if one.kind in KINDS_OF_INDIVIDUALS for name in (one.a, one.b)}
    named |= {one.b for one in decisions if one.kind in ("is", "is_not")}
    named |= {one.item for one in changes if one.kind == "new"}
    found = {name: Individual(name) for name in sorted(named - {""})}
    for decision in decisions:
        if decision.kind in ("name", "sex"):
            change: dict[str, Any] = {decision.kind: decision.value}
            found[decision.a] = replace(found[decision.a], **change)
    for one in changes:
        if one.item in found and one.kind in ("name", "sex"):
            change = {one.kind: one.after}
            found[one.item] = replace(found[one.item], **change)
        elif one.item in found and one.kind == "merged":
            found[one.item] = replace(found[one.item], merged_into=one.after if one.after != one.item else "")
    return list(found.values())


def box_of(numbers: Sequence[float]) -> Box:
    """The box x, y, width, height.

    Raises:
        ValueError: unless it is a box within the photograph.
    """
    if len(numbers) == 4:
        x, y, width, height = (round(number, 6) for number in numbers)
        if 0 <= x <= 1 and 0 <= y <= 1 and 0 < width <= 1 and 0 < height <= 1:
            return x, y, width, height
    raise UserError(f"expected a box of four numbers from 0 to 1 (x y width height), got {list(numbers)}")


def iso_time(text: str) -> datetime:
    """The time of ISO 8601, in which "Z" is UTC: Python 3.10 does not know it.

    Raises:
        ValueError: if it is no such time.
    """
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
