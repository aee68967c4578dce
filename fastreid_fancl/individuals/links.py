"""What a project knows of pairs of its photographs: bursts, boxes of one photograph, sides, what people decided."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ..clustering.constraints import Constraints, Contradiction, Link
from .rows import COUNTED, Change, Decision, Individual, Photograph

MOVED = "its last photographs were moved there"  # note of an animal that ended without a merge
ALONE = "alone"  # value of a decision on one photograph that the rest of its sequence does not follow


def active(decisions: Iterable[Decision]) -> list[Decision]:
    """Decisions that were not undone, without those that undo; one that undoes another undoing brings it back."""
    decisions = list(decisions)
    undone: set[str] = set()
    for decision in reversed(decisions):
        if decision.kind == "undo" and decision.when not in undone:
            undone.add(decision.a)
    return [decision for decision in decisions if decision.kind != "undo" and decision.when not in undone]


def current_id(individual: str, animals: Mapping[str, Individual]) -> str:
    """The ID that an animal has now, after all merges.

    An animal whose photographs were moved one by one is still itself: nobody said that the two are one.
    """
    while individual in animals and animals[individual].merged_into and animals[individual].note != MOVED:
        individual = animals[individual].merged_into
    return individual


def rejections(decisions: Iterable[Decision], animals: Mapping[str, Individual]) -> dict[str, dict[str, str]]:
    """Animals that a photograph is not, by its key, each with the time of the decision.

    If an animal was merged into another one since, both are one animal, and the photograph is not that one either; if
    the merge is undone, this ends. A later `is` overrules.

    Args:
        decisions: those that hold, of `active`.
        animals: of the project, by ID.
    """
    rejected: dict[str, dict[str, str]] = defaultdict(dict)
    for decision in decisions:
        if decision.kind == "is_not":
            rejected[decision.a][current_id(decision.b, animals)] = decision.when
        elif decision.kind == "is":
            rejected[decision.a].pop(current_id(decision.b, animals), None)
    return rejected


def decided_pairs(decisions: Iterable[Decision], keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of photographs, in the order of their keys, that people decided on.

    Args:
        decisions: those that hold, of `active`.
        keys: of the photographs; pairs with others are left out.

    Returns:
        Rows (P, 2), and whether a person said that they show one animal (P,).
    """
    number = {key: n for n, key in enumerate(keys)}
    decided = [one for one in decisions if one.kind in ("same", "different") and {one.a, one.b} <= number.keys()]
    pairs = np.array([(number[one.a], number[one.b]) for one in decided], dtype=np.int64).reshape(-1, 2)
    return pairs, np.array([one.kind == "same" for one in decided], dtype=bool)


def set_apart(decisions: Iterable[Decision]) -> set[str]:
    """Keys of photographs that a person moved without the rest of their sequences."""
    moving = ("same", "is", "is_not", "new")
    return {decision.a for decision in decisions if decision.kind in moving and decision.value == ALONE}


def apart_by(decisions: Iterable[Decision]) -> Callable[[str, str], bool]:
    """Whether decisions set two photographs of a sequence, given by their keys, apart."""
    decisions = list(decisions)
    alone = set_apart(decisions)
    different = {frozenset((decision.a, decision.b)) for decision in decisions if decision.kind == "different"}
    return lambda a, b: a in alone or b in alone or frozenset((a, b)) in different


def burst(row: Photograph, sequence: Iterable[Photograph], apart: Callable[[str, str], bool]) -> list[str]:
    """The key of a photograph, and the keys of the photographs of its sequence that share its animal and standing.

    Photographs that a decision or a box separates from it are left out. So are photographs with several boxes, because
    nobody has said which box is meant.
    """
    if not row.sequence:
        return [row.key]
    place = row.individual, row.counts  # an unsure photograph names its likeliest animal without being in it
    mates = [one for one in sequence if one.usable and (one.individual, one.counts) == place and one.hash != row.hash]
    boxes = Counter(mate.hash for mate in mates)
    return [row.key, *(mate.key for mate in mates if boxes[mate.hash] == 1 and not apart(row.key, mate.key))]


def constraints_of(
    rows: Sequence[Photograph],
    decisions: Iterable[Decision],
    owners: Sequence[str] = (),
    rejected: Mapping[str, Mapping[str, str]] | None = None,
    changes: Iterable[Change] = (),
) -> Constraints:
    """The constraints of a grouping of rows.

    Args:
        rows: photographs, in the order of the grouping.
        decisions: those that hold, of `active`.
        owners: animal that each row stays with, "" for none.
        rejected: animals that a photograph is not, of `rejections`.
        changes: of the project, which say what a "merge" put together; without them, merges are no links.
    """
    decisions, rejected = list(decisions), rejected or {}
    number = {row.key: n for n, row in enumerate(rows)}
    of_animal = _by_animal(rows)
    must, cannot = [], list(_boxes(rows))
    for decision in decisions:
        a, b = number.get(decision.a), number.get(decision.b)
        if a is None or b is None or a == b:
            continue
        if decision.kind == "same":
            must.append(Link(a, b, f"you said on {decision.when} that they are the same"))
        elif decision.kind == "different":
            cannot.append(_apart(a, b, decision.when))
    cannot += [
        _apart(number[key], n, when)
        for key, animals in rejected.items()
        for animal, when in animals.items()
        for n in of_animal[animal]  # all of them, as none of them has to be in the group of another one
        if key in number and number[key] != n
    ]
    must += _merges(rows, of_animal, decisions, changes)
    must += _bursts(rows, several_animals(rows, decisions, rejected))
    return Constraints(must, cannot, [row.side for row in rows], owners)


def _apart(a: int, b: int, when: str) -> Link:
    return Link(a, b, f"you said on {when} that they are not the same")


def _by_animal(rows: Sequence[Photograph]) -> dict[str, list[int]]:
    """The numbers of the rows that are evidence of each animal."""
    found: dict[str, list[int]] = defaultdict(list)
    for n, row in enumerate(rows):
        if row.counts:
            found[row.individual].append(n)
    return found


def _chain(numbers: Sequence[int], reason: str) -> list[Link]:
    """Links that make one group of rows."""
    return [Link(a, b, reason) for a, b in zip(numbers, numbers[1:], strict=False)]


def _merges(
    rows: Sequence[Photograph],
    of_animal: Mapping[str, Sequence[int]],
    decisions: Iterable[Decision],
    changes: Iterable[Change],
) -> list[Link]:
    """Links between all photographs of two animals that a "merge" made one, as far as they are still together.

    One link would not do: its two photographs would leave their animals, as few others are like both of them.
    """
    links = []
    for when, gone, kept in _merged(decisions, changes):
        for own in of_animal.values():
            numbers = [n for n in own if rows[n].key in gone or rows[n].key in kept]
            if len({rows[n].key in gone for n in numbers}) > 1:
                links += _chain(numbers, f"you merged their animals on {when}")
    return links


def _merged(decisions: Iterable[Decision], changes: Iterable[Change]) -> list[tuple[str, set[str], set[str]]]:
    """Each "merge": when it was, and the keys of the animal that ended and of the one that stayed, as changes say."""
    merges, places = {decision.when for decision in decisions if decision.kind == "merge"}, dict[str, str]()
    merged: dict[tuple[str, str, str], tuple[set[str], set[str]]] = {}
    for change in changes:
        (gone, _, _), (kept, _, status) = change.before.rpartition(" "), change.after.rpartition(" ")
        if change.kind == "merged" and change.event in merges and status in COUNTED:
            merge = (change.event, gone, kept)
            if merge not in merged:
                merged[merge] = set(), {key for key, home in places.items() if home == kept}
            merged[merge][0].add(change.item)
        if change.kind != "side":
            places[change.item] = kept if status in COUNTED else ""
    return [(when, *both) for (when, _, _), both in merged.items()]


def _boxes(rows: Sequence[Photograph]) -> Iterable[Link]:
    """Two boxes of one photograph are two animals."""
    places = defaultdict(list)
    for n, row in enumerate(rows):
        places[row.hash].append(n)
    for same in places.values():
        yield from (
            Link(a, b, "they are two boxes of one photograph") for i, a in enumerate(same) for b in same[i + 1 :]
        )


def _bursts(rows: Sequence[Photograph], several: set[str]) -> list[Link]:
    """Successive photographs of a sequence show one animal, unless the sequence is known to show several."""
    sequences = defaultdict(list)
    for n, row in enumerate(rows):
        if row.sequence and row.sequence not in several:
            sequences[row.sequence].append(n)
    return [link for name, numbers in sequences.items() for link in _chain(numbers, f"they are of the sequence {name}")]


def several_animals(
    rows: Iterable[Photograph],
    decisions: Iterable[Decision] = (),
    rejected: Mapping[str, Mapping[str, str]] | None = None,
) -> set[str]:
    """Sequences that are known to show several animals: by boxes of one photograph, or because a person said so.

    The person moved a photograph without the rest, called two of them different or confirmed them for two animals, or
    one is not the animal of another.

    Args:
        rows, decisions, rejected: as for `constraints_of`.
    """
    rows, decisions = [row for row in rows if row.sequence], list(decisions)
    of = {row.key: row.sequence for row in rows}
    boxes = Counter(row.hash for row in rows)
    found = {row.sequence for row in rows if boxes[row.hash] > 1}
    found |= {of[key] for key in set_apart(decisions) & of.keys()}
    pairs = ((one.a, one.b) for one in decisions if one.kind == "different" and {one.a, one.b} <= of.keys())
    found |= {of[a] for a, b in pairs if of[a] == of[b]}
    confirmed = _animals(row for row in rows if row.status == "confirmed")
    found |= {sequence for sequence, those in confirmed.items() if len(those) > 1}
    animals = _animals(row for row in rows if row.counts)
    return found | {of[key] for key, those in (rejected or {}).items() if key in of and animals[of[key]] & those.keys()}


def _animals(rows: Iterable[Photograph]) -> dict[str, set[str]]:
    """The animals of each sequence."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        found[row.sequence].add(row.individual)
    return found


def in_file_names(rows: Sequence[Photograph], contradiction: Contradiction) -> str:
    """A contradiction by the names of its files."""
    link, against = contradiction
    a, b = (f"{row.path}{' ' + row.key if row.box else ''}" for row in (rows[link.a], rows[link.b]))
    return f"{a} and {b}: {link.reason}, but {against}. The first is not followed."
