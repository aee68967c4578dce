"""Split an animal whose photographs show two: first by decisions and sequences, then by likeness."""

import numpy as np

from ..clustering.constraints import Groups, linked
from .links import active, constraints_of
from .patterns import fused_similarities
from .project import Project
from .rows import Photograph


def split(project: Project, rows: list[Photograph], one: str, other: str) -> tuple[list[list[str]], set[str]]:
    """Split an animal's photographs so that two of them part.

    Photographs that decisions or bursts hold together go to the one of the two that they are more like, the clear cases
    first. Those that may go to neither become a part of their own. The part with more confirmed photographs keeps the
    ID, of equals the larger one.

    Returns:
        Keys by part, the part that keeps the ID first; and the keys that decisions or bursts, not likeness, hold
        together with one of the two.
    """
    keys, features = project.known_features.of(rows)
    known = set(keys)
    rows = sorted(rows, key=lambda row: row.key not in known)  # those whose features were removed come last
    groups, _ = linked(len(rows), constraints_of(rows, active(project.decisions)))
    number = {row.key: n for n, row in enumerate(rows)}
    ends = number[one], number[other]
    held = {rows[n].key for end in ends for n in groups.members[groups.root[end]]}
    leaning = _leaning(groups, fused_similarities(project.patterns, keys, features, keys, features), ends)
    for root in sorted(leaning, key=lambda root: (-abs(leaning[root]), root)):
        larger = sorted({groups.root[end] for end in ends}, key=lambda end: (-len(groups.members[end]), end))
        nearer = [groups.root[end] for end in ends[:: 1 if leaning[root] > 0 else -1]]
        home = next((end for end in (nearer if leaning[root] else larger) if not groups.objection(root, end)), None)
        if home is not None:
            groups.merge(root, home)
    parts = [sorted(rows[n].key for n in members) for members in groups.members if members]
    status = {row.key: row.status for row in rows}
    parts.sort(key=lambda part: (-sum(status[key] == "confirmed" for key in part), -len(part), part[0]))
    return parts, held


def _leaning(groups: Groups, similar: np.ndarray, ends: tuple[int, int]) -> dict[int, float]:
    """For each other group, how much more it resembles the first end than the second.

    Args:
        groups: of N photographs.
        similar: (M, M) of the first M of them; the others have no features, and lean to neither.
        ends: two photographs.
    """
    first, second = (groups.root[end] for end in ends)

    def mean(root: int, end: int) -> float:
        pair = [[n for n in groups.members[one] if n < len(similar)] for one in (root, end)]
        return float(similar[np.ix_(*pair)].mean()) if all(pair) else np.nan

    leaning = {
        root: round(mean(root, first) - mean(root, second), 6)
        for root, members in enumerate(groups.members)
        if members and root not in (first, second)
    }
    return {root: 0.0 if np.isnan(value) else value for root, value in leaning.items()}
