"""IDs for groups: at a first discovery, and in a further season.

Shapes: N photographs, D feature dimensions.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np

from ..clustering.constraints import SHOWN
from .candidates import Gallery, gallery_of, levels, verdict
from .certainty import Grouping
from .ledger import Ledger
from .links import active, several_animals
from .rows import Photograph

FIRST, AFRESH = "grouped at the first discovery", "grouped afresh"
UNLIKE, UNSEEN = "not like a known animal", "no photograph of a known animal could be compared"


def owners_of(rows: Sequence[Photograph], afresh: bool = False) -> list[str]:
    """The animal that each photograph stays with in a grouping; "" for those that are open.

    Args:
        rows: photographs.
        afresh: whether those that nobody confirmed are open, too.
    """
    return [row.individual if row.status == "confirmed" or (row.counts and not afresh) else "" for row in rows]


def assign(ledger: Ledger, rows: Sequence[Photograph], features: np.ndarray, grouping: Grouping) -> None:
    """Give open photographs the IDs of their groups; those that have an animal stay with it.

    A group that holds a known animal is compared with this one, a burst at a time, by its mean score; a group without
    one is compared with all of them, as a whole. At or above the accept level photographs are proposed, down to the
    reject level unsure, below they are new. Those that are too unlike their group's animal are unsure about the animal
    that they are most like. None is proposed for an animal that it cannot be, see `RuledOut`. A photograph whose
    sequence shows the group's animal is proposed for it, whatever its score.

    Args:
        ledger: of the project.
        rows: N usable photographs, in the order of their keys.
        features: (N, D) at unit length.
        grouping: of the rows.
    """
    known, ruled_out = gallery_of(rows, features, ledger.project.patterns), RuledOut(ledger)
    owners, several = owners_of(rows), several_animals(rows, active(ledger.project.decisions), ledger.rejected)
    groups = defaultdict(list)
    for n, label in enumerate(grouping.labels.tolist()):
        groups[label].append(n)
    fresh, reason = [], UNLIKE if len(known.names) else UNSEEN if ledger.animals else FIRST
    for members in groups.values():
        owner = next((owners[n] for n in members if owners[n]), "")
        open_ones = [n for n in members if not owners[n]]
        open_ones = _follow_sequences(ledger, rows, ruled_out, several, owner, open_ones)
        fresh += _joining(ledger, rows, features, known, ruled_out, owner, open_ones) if open_ones else []
    for members in sorted(fresh, key=lambda group: (-len(group), min(rows[n].key for n in group))):
        name = ledger.new_animal(reason)
        ledger.move([rows[n].key for n in members], name, "proposed", "joins", reason)


def assign_afresh(ledger: Ledger, rows: Sequence[Photograph], grouping: Grouping) -> None:
    """Give unconfirmed photographs the IDs of their groups, whatever was proposed before.

    A group takes the ID of its confirmed photographs, else that of most of its photographs that no larger group has
    taken and that no person ruled out, else a new one.
    """
    rejected, taken = ledger.rejected, {row.individual for row in rows if row.status == "confirmed"}
    groups = defaultdict(list)
    for row, label in zip(rows, grouping.labels.tolist(), strict=True):
        groups[label].append(row)
    for members in sorted(groups.values(), key=lambda group: (-len(group), min(row.key for row in group))):
        open_ones = [row for row in members if row.status != "confirmed"]
        home = next((row.individual for row in members if row.status == "confirmed"), "")
        if not home:
            before = Counter(row.individual for row in members if row.counts)
            ruled_out = taken.union(*(rejected.get(row.key, ()) for row in members))
            free = sorted(before.keys() - ruled_out, key=lambda name: (-before[name], name))
            home = free[0] if free else ledger.new_animal(AFRESH)
            taken.add(home)
        ledger.move([row.key for row in open_ones], home, "proposed", "moved", AFRESH)


def _follow_sequences(
    ledger: Ledger,
    rows: Sequence[Photograph],
    ruled_out: "RuledOut",
    several: Collection[str],
    owner: str,
    members: Iterable[int],
) -> list[int]:
    """Propose photographs for the animal of their group if their sequence already shows it.

    Args:
        ledger, rows, ruled_out: as for `_joining`.
        several: sequences that show several animals.
        owner: animal of the group, "" for none.
        members: numbers of the open photographs of the group.

    Returns:
        The numbers of the other photographs.
    """
    others = []
    for burst in _bursts(rows, members):
        keys, sequence = [rows[n].key for n in burst], rows[burst[0]].sequence
        mates = (ledger.rows[key] for key in ledger.of_sequence.get(sequence, ()))
        paths = [mate.path for mate in mates if mate.counts and mate.individual == owner]
        if not paths or sequence in several or owner in ruled_out.of(keys, owner):
            others += burst
        else:
            ledger.move(keys, owner, "proposed", "joins", f"of the sequence of {min(paths)}")
            ruled_out.join(keys, owner)
    return others


def _joining(
    ledger: Ledger,
    rows: Sequence[Photograph],
    features: np.ndarray,
    known: Gallery,
    ruled_out: "RuledOut",
    owner: str,
    members: list[int],
) -> list[list[int]]:
    """Let photographs of one group join known animals; the groups of those that are new animals."""
    fresh: list[int] = []
    limits = ledger.project.settings["levels"]
    for burst in _bursts(rows, members) if owner else [members]:
        keys = [rows[n].key for n in burst]
        others = ruled_out.of(keys, owner)
        best = known.likeliest(features[burst], owner, keys, others)
        status = "new" if best is None else verdict(best.score, limits)
        if owner and status != "proposed":
            best = known.likeliest(features[burst], "", keys, others)
            status = "new" if best is None or verdict(best.score, limits) == "new" else "unsure"
        if best is None or status == "new":
            fresh += burst
        else:
            reason = f"score {best.score:.3f} to {best.individual} (photograph {best.key})"
            ledger.move(keys, best.individual, status, "joins", reason)
            ruled_out.join(keys, best.individual)
    return [fresh] if fresh else []


class RuledOut:
    """The animals that photographs cannot be, while groups join animals one after the other.

    They are those that `links.constraints_of` keeps apart in a grouping: what a person said they are not, or differ
    from; what another box of one of the photographs shows; and, of photographs of one side, what is known by the other
    side alone.
    """

    def __init__(self, ledger: Ledger):
        self.rows, self.rejected = ledger.rows, ledger.rejected
        self.apart: dict[str, set[str]] = defaultdict(set)
        self.boxes: dict[str, set[str]] = defaultdict(set)
        self.sides: dict[str, set[str]] = defaultdict(set)
        for decision in active(ledger.project.decisions):
            if decision.kind == "different":
                self.apart[decision.a].add(decision.b)
                self.apart[decision.b].add(decision.a)
        for row in self.rows.values():
            self.boxes[row.hash].add(row.key)
            if row.counts:
                self.join([row.key], row.individual)

    def join(self, keys: Sequence[str], individual: str) -> None:
        """Note the sides of photographs that are evidence of an animal now."""
        self.sides[individual] |= self._sides(key for key in keys if self.rows[key].counts)

    def of(self, keys: Sequence[str], owner: str) -> set[str]:
        """The animals that photographs cannot be; the sides of their group's owner are settled by the grouping."""
        rejected = {animal for key in keys for animal in self.rejected.get(key, ())}
        apart = set[str]().union(*(self.apart.get(key, set()) | self.boxes[self.rows[key].hash] for key in keys))
        there = (self.rows[key] for key in apart.difference(keys) & self.rows.keys())
        shown = self._sides(keys)
        turned = {name for name, sides in self.sides.items() if len(shown) == len(sides) == 1 and shown != sides}
        return rejected | {row.individual for row in there if row.counts} | (turned - {owner})

    def _sides(self, keys: Iterable[str]) -> set[str]:
        return set[str]().union(*(SHOWN.get(self.rows[key].side, set()) for key in keys))


def _bursts(rows: Sequence[Photograph], members: Iterable[int]) -> list[list[int]]:
    bursts = defaultdict(list)
    for n in members:
        bursts[rows[n].sequence or rows[n].key].append(n)
    return list(bursts.values())


def score_all(ledger: Ledger, rows: Sequence[Photograph], features: np.ndarray) -> None:
    """Write scores into the rows: to the own animal, and to the likeliest other one. Burst-mates do not count.

    Sets the levels of the project, too, from what known animals score among themselves.
    """
    current = [ledger.rows[row.key] for row in rows]
    pairs = gallery_of(current, features, ledger.project.patterns).own_and_other(
        features,
        [row.individual for row in current],
        [row.occasion for row in current],
        [row.key for row in current],
    )
    own_scores, other_scores = [], []
    for row, (own, other) in zip(current, pairs, strict=True):
        ledger.rows[row.key] = replace(
            row,
            score=own and own.score,
            second=other.individual if other else "",
            second_score=other and other.score,
        )
        if row.counts:
            own_scores += [own.score] if own else []
            other_scores += [other.score] if other else []
    ledger.project.settings["levels"] = {
        name: round(value, 4) for name, value in levels(own_scores, other_scores).items()
    }
    ledger.project.settings["levels_of"] = ledger.project.rule
