"""Grouping under constraints, on the one sparse distance.

Average linkage (Sokal and Michener, 1958) on the similarity 1 - d of the Jaccard distance, where pairs that are not
stored have similarity 0: two groups merge in the order of the mean similarity of their pairs, as long as no constraint
forbids it. A single bridge between two animals, which would chain them by DBSCAN with few samples, counts as one pair
of many here, and an animal of two photographs is a group.

Shapes: N photographs, R radii.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

SHOWN = {"left": {"left"}, "right": {"right"}, "both": {"left", "right"}}
RADII = tuple(n / 40 for n in range(8, 40))  # 0.2, 0.225, ..., 0.975


class Link(NamedTuple):
    """Two photographs that show one animal, or two animals, by a reason that a message names."""

    a: int
    b: int
    reason: str


class Contradiction(NamedTuple):
    """A link that was not followed, as an earlier one says the opposite."""

    link: Link
    against: str


@dataclass(frozen=True)
class Constraints:
    """What a grouping has to respect.

    Attributes:
        must: pairs of one animal, the more certain ones first.
        cannot: pairs of two animals.
        sides: (N,) side of each photograph. A group with left sides only and one with right sides only stay apart;
            "both" counts as left and right.
        owners: (N,) animal that a photograph stays with, "" for none; photographs of two animals stay apart.
    """

    must: Sequence[Link] = ()
    cannot: Sequence[Link] = ()
    sides: Sequence[str] = ()
    owners: Sequence[str] = ()


@dataclass
class Groups:
    """Groups of N photographs while they merge; each is named by its smallest member."""

    members: list[list[int]]
    root: list[int]
    owner: list[str]
    sides: list[set[str]]
    forbidden: list[dict[int, str]] = field(default_factory=list)

    @classmethod
    def start(cls, rows: int, constraints: Constraints) -> "Groups":
        """Each photograph alone."""
        sides = [SHOWN.get(side, set()) for side in constraints.sides] or [set() for _ in range(rows)]
        owner = list(constraints.owners) or [""] * rows
        return cls([[n] for n in range(rows)], list(range(rows)), owner, sides, [{} for _ in range(rows)])

    def forbid(self, a: int, b: int, reason: str) -> None:
        """Keep the groups of two photographs apart."""
        a, b = self.root[a], self.root[b]
        self.forbidden[a].setdefault(b, reason)
        self.forbidden[b].setdefault(a, reason)

    def objection(self, a: int, b: int, mind_sides: bool = True) -> str:
        """Why two groups must not merge; empty if they may."""
        if b in self.forbidden[a]:
            return self.forbidden[a][b] or "they are two animals"
        if self.owner[a] and self.owner[b] and self.owner[a] != self.owner[b]:
            return f"they are {self.owner[a]} and {self.owner[b]}"
        one, other = self.sides[a], self.sides[b]
        if mind_sides and len(one) == len(other) == 1 and one != other:
            return "they show the left and the right side"
        return ""

    def merge(self, a: int, b: int) -> int:
        """Put two groups together; the name of the whole."""
        kept, gone = min(a, b), max(a, b)
        for member in self.members[gone]:
            self.root[member] = kept
        self.members[kept] += self.members[gone]
        self.members[gone] = []
        self.owner[kept] = self.owner[kept] or self.owner[gone]
        self.sides[kept] = self.sides[kept] | self.sides[gone]
        for other, reason in self.forbidden[gone].items():
            del self.forbidden[other][gone]
            self.forbidden[other].setdefault(kept, reason)
            self.forbidden[kept].setdefault(other, reason)
        self.forbidden[gone] = {}
        return kept


def linked(rows: int, constraints: Constraints) -> tuple[Groups, list[Contradiction]]:
    """Groups by the must-links alone, and the links that contradict what came before them."""
    groups, refused = Groups.start(rows, constraints), []
    first: dict[str, int] = {}
    for n, owner in enumerate(groups.owner[:]):
        if owner:
            a, b = groups.root[first.setdefault(owner, n)], groups.root[n]
            if a != b:
                groups.merge(a, b)
    for link in constraints.cannot:
        if groups.root[link.a] == groups.root[link.b]:
            refused.append(Contradiction(link, f"they are {groups.owner[groups.root[link.a]] or 'one photograph'}"))
        else:
            groups.forbid(*link)
    for link in constraints.must:
        a, b = groups.root[link.a], groups.root[link.b]
        objection = "" if a == b else groups.objection(a, b, mind_sides=False)
        if objection:
            refused.append(Contradiction(link, objection))
        elif a != b:
            groups.merge(a, b)
    return groups, refused


class Merge(NamedTuple):
    """Two groups, by photographs of them, and the radius at which they merge."""

    a: int
    b: int
    radius: float


def merges(distance: csr_matrix, groups: Groups, most: float = 1.0) -> list[Merge]:
    """All merges up to a radius, by ascending radius; `groups` is used up.

    Args:
        distance: (N, N) of `jaccard_distance`.
        groups: to begin with.
        most: the largest radius, one minus the mean similarity of two groups.
    """
    near = _similarities(distance, groups)
    sizes = {root: len(members) for root, members in enumerate(groups.members) if members}
    heap = [
        (-total / (sizes[a] * sizes[b]), a, b) for a, others in near.items() for b, total in others.items() if a < b
    ]
    heapq.heapify(heap)
    order = []
    while heap:
        negative, a, b = heapq.heappop(heap)
        if -negative < 1 - most:
            break
        if sizes.get(a, 0) == 0 or sizes.get(b, 0) == 0 or -near[a].get(b, 0.0) / (sizes[a] * sizes[b]) != negative:
            continue  # of groups that have merged since
        if groups.objection(a, b):
            continue  # a later merge may remove it, as one that brings both sides of the animal
        kept, gone = groups.merge(a, b), max(a, b)
        order.append(Merge(kept, gone, 1 + negative))
        sizes[kept], sizes[gone] = sizes[kept] + sizes[gone], 0
        for other, total in near.pop(gone).items():
            del near[other][gone]
            if other != kept:
                near[kept][other] = near[other][kept] = near[kept].get(other, 0.0) + total
        for other, total in near[kept].items():
            heapq.heappush(heap, (-total / (sizes[kept] * sizes[other]), min(kept, other), max(kept, other)))
    return order


def _similarities(distance: csr_matrix, groups: Groups) -> dict[int, dict[int, float]]:
    """Group -> other group -> sum of the similarities of their pairs."""
    near: dict[int, dict[int, float]] = {root: {} for root, members in enumerate(groups.members) if members}
    pairs = distance.tocoo()
    roots = np.array(groups.root)
    one, other, similarity = roots[pairs.row], roots[pairs.col], 1.0 - pairs.data.astype(np.float64)
    chosen = (one < other) & (similarity > 0)
    for a, b, value in zip(one[chosen].tolist(), other[chosen].tolist(), similarity[chosen].tolist(), strict=True):
        near[a][b] = near[a].get(b, 0.0) + value
    for a, others in list(near.items()):
        for b, total in others.items():
            near[b][a] = total
    return near


def labels_at(rows: int, constraints: Constraints, merges: Sequence[Merge], radii: Sequence[float]) -> np.ndarray:
    """Groups at several radii by the merges of a whole tree.

    Args:
        rows: N.
        constraints: of the tree.
        merges: from `merges`.
        radii: ascending.

    Returns:
        (R, N) groups 0.. in the order of their first photographs; nobody is left out.
    """
    groups, _ = linked(rows, constraints)
    labels, done = np.empty((len(radii), rows), dtype=np.int64), 0
    for r, radius in enumerate(radii):
        while done < len(merges) and merges[done].radius <= radius:
            a, b = groups.root[merges[done].a], groups.root[merges[done].b]
            groups.merge(a, b)
            done += 1
        labels[r] = np.unique(groups.root, return_inverse=True)[1]
    return labels


def tree(distance: csr_matrix, constraints: Constraints, most: float) -> tuple[list[Merge], list[Contradiction]]:
    """All merges under constraints up to a radius, and the links that contradict each other."""
    groups, refused = linked(distance.shape[0], constraints)
    return merges(distance, groups, most), refused
