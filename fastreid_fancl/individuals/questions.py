"""Pairs of photographs to ask about, in the order of what an answer settles.

The worth of a question is the number of pairs of photographs that its answer is expected to move: of two animals of m
and n photographs that are one with probability p, p m n; of an animal whose parts of m and n photographs differ with
probability p, the same.
"""

from collections import Counter, defaultdict
from itertools import combinations
from typing import NamedTuple

import numpy as np

from .candidates import gallery_of
from .discover import Certainty
from .links import active
from .patterns import fused_similarities
from .project import Project
from .rows import Decision, Photograph

DOUBT = 0.8  # what is left of the doubt in an animal after each "same" within it
Names = tuple[str, str]  # of two animals, in their order
LEAST = 0.1  # of the guess by similarity alone, where no draw puts two animals together


class Question(NamedTuple):
    """Whether two photographs show one animal."""

    a: str
    b: str
    score: float
    settles: float


class View:
    """What the questions are made from: usable photographs, their features, what is decided.

    Attributes:
        rows: N photographs, in the order of their keys.
        features: (N, D).
        number: place in `rows` by key.
        together: share of the draws that put two keys in one group.
        certainty: by key, that a photograph shows the animal that it is given to.
        calibration: from a similarity to a probability; None until enough is decided.
    """

    def __init__(self, project: Project):
        keys, self.features = project.stored_features()
        known = project.by_key
        self.project, self.rows = project, [known[key] for key in keys]
        self.number = {key: n for n, key in enumerate(keys)}
        self.decisions: list[Decision] = active(project.decisions)
        drawn = Certainty(project.folder)
        self.certainty = drawn.of({row.key: row.individual for row in self.rows})
        self.together = drawn.together
        self.animals: dict[str, list[int]] = defaultdict(list)
        for n, row in enumerate(self.rows):
            if row.counts:
                self.animals[row.individual].append(n)
        self.calibration = project.calibration()

    def share_of_draws(self, a: str, b: str) -> float:
        """The share of the draws that put two keys in one group."""
        return self.together.get(in_order(a, b), 0.0)

    def similarity(self, a: int, b: int) -> float:
        """Similarity of two photographs."""
        return float(self.similarities([a], [b])[0, 0])

    def similarities(self, one: list[int], other: list[int]) -> np.ndarray:
        """(len, len) of some photographs with others: of features, and local matches where the project has them."""
        keys = [[self.rows[n].key for n in numbers] for numbers in (one, other)]
        return fused_similarities(self.project.patterns, keys[0], self.features[one], keys[1], self.features[other])

    def score(self, similarity: float) -> float:
        """A probability where enough is decided, the similarity until then."""
        return round(similarity if self.calibration is None else float(self.calibration(similarity)), 4)

    def probability(self, similarity: float) -> float:
        """How likely two photographs show one animal: calibrated, or a guess by the levels of the project."""
        if self.calibration is not None:
            return float(self.calibration(similarity))
        limits = self.project.settings["levels"]
        width = max(limits["accept"] - limits["reject"], 0.02)
        return float(0.5 / (1 + np.exp(-4 * (similarity - limits["accept"]) / width)))


def questions(view: View) -> list[Question]:
    """Pairs to ask about, by what their answer is expected to settle."""
    rates = _success_rates(view)
    asked = [
        question._replace(settles=question.settles * rates[_kind(view, question.a, question.b, between=between)])
        for between, some in ((True, _merges(view)), (False, _splits(view)))
        for question in some
    ]
    return sorted(asked, key=lambda question: (-round(question.settles, 9), question.a, question.b))


def _kind(view: View, a: str, b: str, between: bool) -> str:
    """The kind of a question: within an animal, between two that draws put together, or between two that are alike."""
    if not between:
        return "within"
    return "drawn" if view.share_of_draws(a, b) > 0 else "alike"


def _success_rates(view: View) -> dict[str, float]:
    """How often questions of each kind changed something so far.

    With one hit and one miss that nobody saw, so that nothing is certain at the beginning.
    """
    events: dict[str, set[str]] = defaultdict(set)
    for change in view.project.changes:
        events[change.kind].add(change.event)
    asked: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for decision in view.decisions:
        if decision.kind in ("same", "different"):
            hit = decision.when in events["merged" if decision.kind == "same" else "split"]
            kind = _kind(view, decision.a, decision.b, between=hit == (decision.kind == "same"))
            asked[kind] += 1
            hits[kind] += hit
    return {kind: (hits[kind] + 1) / (asked[kind] + 2) for kind in ("within", "drawn", "alike")}


def _merges(view: View) -> list[Question]:
    """For animals that draws put together, or else are near, two typical photographs of them.

    The share of draws says far more of two animals than the similarity of their nearest photographs does. It is the
    geometric mean of that of all their pairs and that of the best ones, as many as the smaller animal has photographs.
    Photographs that are unlike their own animal's others are not asked about: they may be of another one.
    """
    shares, refused, found = _drawn_together(view), _decided(view), []
    typical = {name: _typical(view, members) for name, members in view.animals.items()}
    for names in sorted(_near(view) | shares.keys()):
        one, other = names
        if names in refused or _opposite(view, one, other):
            continue
        a, b = _most_similar(view, typical[one], typical[other])
        m, n = len(view.animals[one]), len(view.animals[other])
        drawn = sorted(shares.get(names, ()), reverse=True)
        best, every = sum(drawn[: min(m, n)]) / min(m, n), sum(drawn) / (m * n)
        similarity = view.similarity(a, b)
        p = max((best * every) ** 0.5, LEAST * view.probability(similarity))
        found.append(Question(view.rows[a].key, view.rows[b].key, similarity, p * m * n))
    return found


def in_order(one: str, other: str) -> Names:
    """Two names in their order."""
    return (one, other) if one <= other else (other, one)


def _drawn_together(view: View) -> dict[Names, list[float]]:
    """Shares of the draws that put photographs of two animals together, by their names in order."""
    found: dict[Names, list[float]] = defaultdict(list)
    for keys, share in view.together.items():
        if share > 0 and all(key in view.number for key in keys):
            one, other = (view.rows[view.number[key]] for key in keys)
            if one.individual != other.individual and one.counts and other.counts:
                found[in_order(one.individual, other.individual)].append(share)
    return found


def _typical(view: View, members: list[int]) -> list[int]:
    """The half of an animal's photographs that are most like the others."""
    likeness = np.round(view.features[members] @ view.features[members].sum(axis=0), 6)
    order = np.argsort(-likeness, kind="stable")
    return [members[n] for n in order[: -(-len(members) // 2)]]


def _most_similar(view: View, one: list[int], other: list[int]) -> tuple[int, int]:
    similar = np.round(view.similarities(one, other), 6)
    a, b = divmod(int(np.argmax(similar)), len(other))
    return one[a], other[b]


def _near(view: View, others: int = 10) -> set[Names]:
    """Names in order of animals of which one is among the likeliest others of a photograph."""
    known = gallery_of(view.rows, view.features, view.project.patterns)
    numbers = [n for name in sorted(view.animals) for n in view.animals[name]]
    rows = [view.rows[n] for n in numbers]
    found = known.candidates(
        view.features[numbers], [row.occasion for row in rows], [row.key for row in rows], top=others + 1
    )
    return {
        in_order(row.individual, one.individual)
        for row, candidates in zip(rows, found, strict=True)
        for one in candidates
        if one.individual != row.individual
    }


def _decided(view: View) -> set[Names]:
    """Pairs of animals that a person was asked about, or that share a photograph."""
    found = set()
    for decision in view.decisions:
        rows = [view.rows[view.number[key]] for key in (decision.a, decision.b) if key in view.number]
        if decision.kind in ("different", "unsure") and len(rows) == 2:
            found.add(in_order(rows[0].individual, rows[1].individual))
    boxes = defaultdict(set)
    for row in view.rows:
        if row.counts:
            boxes[row.hash].add(row.individual)
    return found | {(a, b) for names in boxes.values() for a, b in combinations(sorted(names), 2)}


def _opposite(view: View, one: str, other: str) -> bool:
    """Whether one animal is only known from the left and the other only from the right."""
    sides = [{view.rows[n].side for n in view.animals[name]} for name in (one, other)]
    return sides in ([{"left"}, {"right"}], [{"right"}, {"left"}])


def _splits(view: View) -> list[Question]:
    """For each animal, typical photographs of its two parts; once these are decided, its outlier and a typical one."""
    decided = {frozenset((d.a, d.b)) for d in view.decisions if d.kind in ("same", "different", "unsure")}
    held = {key for pair in decided for key in pair}
    agreed, found = Counter(view.rows[view.number[d.a]].individual for d in view.decisions if _joins(view, d)), []
    for members in view.animals.values():
        open_ones = [n for n in members if view.rows[n].status != "confirmed"]
        if len(members) > 1 and open_ones:
            question = _of_parts(view, members, decided) or _of_outlier(view, members, open_ones, held)
            if question:
                doubt = DOUBT ** agreed[view.rows[members[0]].individual]
                found.append(question._replace(settles=question.settles * doubt))
    return found


def _joins(view: View, decision: Decision) -> bool:
    return decision.kind == "same" and {decision.a, decision.b} <= view.number.keys()


def _of_parts(view: View, members: list[int], decided: set[frozenset[str]]) -> Question | None:
    """Whether the two parts into which an animal falls are one, by their medoids."""
    similar = view.similarities(members, members)
    np.fill_diagonal(similar, similar.max())  # nothing is more like a photograph than itself, however many matches
    a, b = divmod(int(np.argmin(np.round(similar, 6))), len(members))
    for _ in range(10):
        part = similar[a] >= similar[b]
        if part.all() or not part.any():
            return None
        new = _medoid(similar, part), _medoid(similar, ~part)
        if new == (a, b):
            break
        a, b = new
    one, other = view.rows[members[a]], view.rows[members[b]]
    if _burst_mates(one, other) or frozenset((one.key, other.key)) in decided:
        return None
    keys = [view.rows[n].key for n in members]
    across = [view.share_of_draws(keys[m], keys[n]) for m in np.flatnonzero(part) for n in np.flatnonzero(~part)]
    p = 1 - float(np.mean(sorted(across)[-max(len(members), 4) :]))
    similarity = float(similar[a, b])
    p = min(p, 1 - view.probability(similarity)) if view.calibration else p
    return Question(*in_order(one.key, other.key), similarity, p * int(part.sum()) * int((~part).sum()))


def _of_outlier(view: View, members: list[int], open_ones: list[int], held: set[str]) -> Question | None:
    """Whether the photograph that is least like an animal's others is of it; those that decisions name are settled."""
    features = view.features[members]
    likeness = dict(zip(members, np.round(features @ features.sum(axis=0), 6).tolist(), strict=True))
    typical = max(members, key=lambda n: (likeness[n], n))
    left = [n for n in open_ones if view.rows[n].key not in held and not _burst_mates(view.rows[n], view.rows[typical])]
    if not left:
        return None
    outlier = min(left, key=lambda n: (likeness[n], n))
    mates = sum(n == outlier or _burst_mates(view.rows[n], view.rows[outlier]) for n in members)
    similarity = view.similarity(outlier, typical)
    keys = in_order(view.rows[outlier].key, view.rows[typical].key)
    return Question(*keys, similarity, (1 - view.probability(similarity)) * mates * (len(members) - mates))


def _burst_mates(one: Photograph, other: Photograph) -> bool:
    return bool(one.sequence) and one.sequence == other.sequence


def _medoid(similar: np.ndarray, part: np.ndarray) -> int:
    numbers = np.flatnonzero(part)
    return int(numbers[np.argmax(np.round(similar[np.ix_(numbers, numbers)].sum(axis=1), 6))])
