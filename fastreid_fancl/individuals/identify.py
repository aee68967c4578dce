"""IDs for groups: a first discovery, a further season, and one new photograph against the animals that are known.

Shapes: N photographs, D feature dimensions.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from ..errors import UserError
from ..local import LocalFeatures, verified_matches
from .candidates import Candidate, Gallery, levels
from .certainty import Grouping
from .ledger import Ledger
from .patterns import NEAREST, Patterns, keypoints, without_rest
from .project import Project
from .rows import Photograph, changed

FIRST = "grouped at the first discovery"


def owners_of(rows: Sequence[Photograph]) -> list[str]:
    """The animal that each photograph stays with when more are added; "" for those that are open."""
    return [row.individual if row.counts else "" for row in rows]


def gallery_of(rows: Sequence[Photograph], features: np.ndarray, patterns: Patterns | None = None) -> Gallery:
    """The photographs that are evidence of an animal."""
    chosen = [n for n, row in enumerate(rows) if row.counts and row.individual]
    known = [rows[n] for n in chosen]
    return Gallery(
        features[chosen],
        [row.individual for row in known],
        [row.sequence for row in known],
        [row.key for row in known],
        patterns,
    )


def assign(ledger: Ledger, rows: Sequence[Photograph], features: np.ndarray, grouping: Grouping) -> None:
    """Give open photographs the IDs of their groups; those that have an animal stay with it.

    A group that holds a known animal proposes it to its open photographs: a burst as one, by its best score. At or
    above the accept level they are proposed, down to the reject level unsure, below they are new. A group without a
    known animal is a new one, unless it is as similar to a known one as the accept level: then it is unsure.

    Args:
        ledger: of the project.
        rows: N usable photographs, in the order of their keys.
        features: (N, D) at unit length.
        grouping: of the rows.
    """
    known = gallery_of(rows, features, ledger.project.patterns)
    limits, owners = ledger.project.settings["levels"], owners_of(rows)
    groups = defaultdict(list)
    for n, label in enumerate(grouping.labels.tolist()):
        groups[label].append(n)
    fresh = []
    for members in groups.values():
        owner = next((owners[n] for n in members if owners[n]), "")
        open_ones = [n for n in members if not owners[n]]
        fresh += _joining(ledger, rows, features, known, limits, owner, open_ones) if open_ones else []
    for members in sorted(fresh, key=lambda group: (-len(group), min(rows[n].key for n in group))):
        reason = "not like a known animal" if len(known.names) else FIRST
        name = ledger.new_animal(reason)
        ledger.move([rows[n].key for n in members], name, "proposed", "joins", reason)


def _joining(
    ledger: Ledger,
    rows: Sequence[Photograph],
    features: np.ndarray,
    known: Gallery,
    limits: dict[str, float],
    owner: str,
    members: list[int],
) -> list[list[int]]:
    """Let photographs of one group join known animals; the groups of those that are new animals."""
    fresh = []
    for burst in _bursts(rows, members) if owner else [members]:
        best = _best(known, features[burst], [rows[n].key for n in burst], owner)
        if best is None:
            status = "new"
        elif owner:
            status = verdict(best.score, limits)
        else:  # the grouping says otherwise
            status = "unsure" if best.score >= limits["accept"] else "new"
        if status == "new":
            fresh += burst
        else:
            reason = f"score {best.score:.3f} to {best.individual} (photograph {best.key})"
            ledger.move([rows[n].key for n in burst], best.individual, status, "joins", reason)
    return [fresh] if fresh else []


def _bursts(rows: Sequence[Photograph], members: list[int]) -> list[list[int]]:
    bursts = defaultdict(list)
    for n in members:
        bursts[rows[n].sequence or rows[n].key].append(n)
    return list(bursts.values())


def _best(known: Gallery, features: np.ndarray, keys: Sequence[str], owner: str) -> Candidate | None:
    """The likeliest animal of a burst by the mean score of its photographs; with an owner, only that one."""
    scores, nearest = defaultdict(float), {}
    for candidates in known.candidates(features, keys=keys, top=len(known.names)):
        for one in candidates:
            scores[one.individual] += one.score / len(features)
            nearest[one.individual] = max(one, nearest.get(one.individual, one), key=lambda other: other.score)
    chosen = [owner] if owner in scores else [] if owner else sorted(scores)
    best = max(chosen, key=scores.__getitem__, default=None)
    return None if best is None else nearest[best]._replace(score=scores[best])


def verdict(score: float, limits: dict[str, float]) -> str:
    """proposed, unsure or new, by the levels of a project."""
    if not limits or score >= limits["accept"]:
        return "proposed"
    return "unsure" if score >= limits["reject"] else "new"


def score_all(ledger: Ledger, rows: Sequence[Photograph], features: np.ndarray) -> None:
    """Write scores into the rows: to the own animal, and to the likeliest other one. Burst-mates do not count.

    Sets the levels of the project, too, from what known animals score among themselves.
    """
    known = gallery_of([ledger.rows[row.key] for row in rows], features, ledger.project.patterns)
    found = known.candidates(
        features, [row.sequence for row in rows], [row.key for row in rows], top=max(2, len(known.names))
    )
    own_scores, other_scores = [], []
    for row, candidates in zip(rows, found, strict=True):
        now = ledger.rows[row.key]
        own = next((one for one in candidates if one.individual == now.individual), None)
        other = next((one for one in candidates if one.individual != now.individual), None)
        ledger.rows[row.key] = changed(
            now,
            score=own and own.score,
            second=other.individual if other else "",
            second_score=other and other.score,
        )
        if now.counts:
            own_scores += [own.score] if own else []
            other_scores += [other.score] if other else []
    ledger.project.settings["levels"] = {
        name: round(value, 4) for name, value in levels(own_scores, other_scores).items()
    }


def match(
    project: Project, features: np.ndarray, top: int = 5, spots: LocalFeatures | None = None
) -> list[dict[str, Any]]:
    """The known animals that a photograph is most alike, best first.

    Args:
        project: with stored features.
        features: (D,) of the photograph, at unit length.
        top: animals.
        spots: the keypoints of the photograph, for a project with local matches. They are compared with those of the
            NEAREST known photographs by the features.

    Returns:
        A dictionary for each: individual, name, score, photograph (path of the one that is most alike), key,
        matched_points (with that photograph; None if they were not compared), and the verdict: proposed, unsure or new.

    Raises:
        ValueError: if the project has no animals yet.
    """
    known, paths = project.gallery, {row.key: row.path for row in project.photographs}
    if not len(known.names):
        raise UserError(f"{project.folder} has no animals yet: `fancl discover` finds them.")
    names = {animal.individual: animal.name for animal in project.animals}
    extra, points = None, {}
    if spots is not None and project.patterns is not None:
        extra, points = _compared(project, known, features, spots)
    return [
        {
            "individual": one.individual,
            "name": names.get(one.individual, ""),
            "score": round(one.score, 4),
            "verdict": verdict(one.score, project.settings["levels"]),
            "photograph": paths[one.key],
            "key": one.key,
            "matched_points": points.get(one.key),
        }
        for one in known.candidates(features[None], top=top, extra=extra)[0]
    ]


def _compared(
    project: Project, known: Gallery, features: np.ndarray, spots: LocalFeatures
) -> tuple[csr_matrix, dict[str, int]]:
    """What matches add to the scores of the known photographs (1, M), and how many there are by key."""
    near = np.argsort(-(known.features @ features), kind="stable")[:NEAREST]
    by_key = project.by_key
    rows = [by_key[key] for key in known.keys[near].tolist()]
    there = without_rest(project.patterns, rows, keypoints(project.folder, rows, {}))
    inliers = np.array([len(verified_matches(spots, one)) for one in there])
    extra = csr_matrix((project.patterns.worth(inliers), ([0] * len(near), near)), shape=(1, len(known.keys)))
    return extra, {row.key: int(number) for row, number in zip(rows, inliers, strict=True)}
