"""What a project knows of pairs of its photographs: bursts, boxes of one photograph, sides, what people decided."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from ..clustering.constraints import Constraints, Contradiction, Link
from .rows import Decision, Individual, Photograph


def active(decisions: Iterable[Decision]) -> list[Decision]:
    """Decisions that were not undone, without those that undo; one that undoes another undoing brings it back."""
    decisions = list(decisions)
    undone: set[str] = set()
    for decision in reversed(decisions):
        if decision.kind == "undo" and decision.when not in undone:
            undone.add(decision.a)
    return [decision for decision in decisions if decision.kind != "undo" and decision.when not in undone]


MOVED = "its last photographs were moved there"  # note of an animal that ended without a merge


def heir(individual: str, animals: Mapping[str, Individual]) -> str:
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
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for decision in decisions:
        if decision.kind == "is_not":
            found[decision.a][heir(decision.b, animals)] = decision.when
        elif decision.kind == "is":
            found[decision.a].pop(heir(decision.b, animals), None)
    return found


def constraints_of(
    rows: Sequence[Photograph],
    decisions: Iterable[Decision],
    owners: Sequence[str] = (),
    rejected: Mapping[str, Mapping[str, str]] | None = None,
) -> Constraints:
    """The constraints of a grouping of rows.

    Args:
        rows: photographs, in the order of the grouping.
        decisions: those that hold, of `active`.
        owners: animal that each row stays with, "" for none.
        rejected: animals that a photograph is not, of `rejections`.
    """
    number = {row.key: n for n, row in enumerate(rows)}
    of_owner = {owner: n for n, owner in reversed(list(enumerate(owners))) if owner}
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
        _apart(number[key], of_owner[animal], when)
        for key, animals in (rejected or {}).items()
        for animal, when in animals.items()
        if key in number and number[key] != of_owner.get(animal, number[key])
    ]
    must += _bursts(rows, {frozenset(link[:2]) for link in cannot})
    return Constraints(must, cannot, [row.side for row in rows], owners)


def _apart(a: int, b: int, when: str) -> Link:
    return Link(a, b, f"you said on {when} that they are not the same")


def _boxes(rows: Sequence[Photograph]) -> Iterable[Link]:
    """Two boxes of one photograph are two animals."""
    places = defaultdict(list)
    for n, row in enumerate(rows):
        places[row.hash].append(n)
    for same in places.values():
        yield from (
            Link(a, b, "they are two boxes of one photograph") for i, a in enumerate(same) for b in same[i + 1 :]
        )


def _bursts(rows: Sequence[Photograph], apart: set[frozenset[int]]) -> list[Link]:
    """Successive photographs of a sequence show one animal, unless the sequence is known to show several."""
    sequences = defaultdict(list)
    for n, row in enumerate(rows):
        if row.sequence:
            sequences[row.sequence].append(n)
    split = {rows[n].sequence for pair in apart for n in pair if len({rows[m].sequence for m in pair}) == 1}
    return [
        Link(a, b, f"they are of the sequence {name}")
        for name, numbers in sequences.items()
        if name not in split
        for a, b in zip(numbers, numbers[1:], strict=False)
    ]


def several_animals(rows: Iterable[Photograph]) -> set[str]:
    """Sequences of which a photograph has several boxes."""
    rows = list(rows)
    boxes = Counter(row.hash for row in rows)
    return {row.sequence for row in rows if boxes[row.hash] > 1}


def in_words(rows: Sequence[Photograph], contradiction: Contradiction) -> str:
    """A contradiction by the names of its files."""
    link, against = contradiction
    a, b = (f"{row.path}{' ' + row.key if row.box else ''}" for row in (rows[link.a], rows[link.b]))
    return f"{a} and {b}: {link.reason}, but {against}. The first is not followed."
