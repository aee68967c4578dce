"""What the review page shows and asks."""

from typing import Any

import numpy as np

from .candidates import Candidate, gallery_of
from .links import rejections
from .project import Project
from .questions import View, questions
from .rows import Photograph

MOST_PAIRS, CANDIDATES = 500, 5


def review_queue(project: Project) -> dict[str, Any]:
    """What the review page shows and asks: see docs/individuals.md."""
    view = View(project)
    rows = sorted(project.photographs, key=lambda row: (row.season, row.path, row.key))
    index = {row.key: n for n, row in enumerate(rows)}
    return {
        "project": project.settings["name"],
        "score_is": "score" if view.calibration is None else "probability",
        "photographs": [_photograph(view, row) for row in rows],
        "individuals": _individuals(view, index),
        "pairs": [
            {"a": index[q.a], "b": index[q.b], "score": view.score(q.score), "settles": round(q.settles, 3)}
            for q in questions(view)[:MOST_PAIRS]
        ],
        "open": _open(view, index),
    }


def _photograph(view: View, row: Photograph) -> dict[str, Any]:
    shown = ("key", "path", "station", "date_time", "side", "box", "sequence", "individual", "status")
    score = None if row.score is None else view.score(row.score)
    return {name: getattr(row, name) for name in shown} | {"score": score, "certainty": view.certainty.get(row.key)}


def _individuals(view: View, index: dict[str, int]) -> list[dict[str, Any]]:
    """Each animal with its photographs, those that are least like the others first."""
    names = {animal.individual: animal for animal in view.project.animals}
    entries = []
    for individual, members in sorted(view.animals.items()):
        features = view.features[members]
        others = max(1, len(members) - 1)
        outlier = 1 - (features @ features.sum(axis=0) - 1) / others if len(members) > 1 else np.zeros(1)
        order = sorted(range(len(members)), key=lambda n: (-round(float(outlier[n]), 6), view.rows[members[n]].key))
        entries.append(
            {
                "id": individual,
                "name": names[individual].name,
                "sex": names[individual].sex,
                "status": names[individual].status,
                "photographs": [index[view.rows[members[n]].key] for n in order],
                "outlier": [round(float(outlier[n]), 4) for n in order],
            }
        )
    return entries


def _candidate(view: View, row: Photograph, one: Candidate) -> dict[str, Any]:
    patterns = view.project.patterns
    points = None if patterns is None else patterns.matched(row.key, one.key)
    return {"individual": one.individual, "score": view.score(one.score), "matched_points": points}


def _open(view: View, index: dict[str, int]) -> list[dict[str, Any]]:
    """Unsure photographs and animals seen once, with the likeliest animals; the most similar ones first."""
    chosen = [n for n, row in enumerate(view.rows) if row.status in ("unsure", "single")]
    known = gallery_of(view.rows, view.features, view.project.patterns)
    refused = rejections(view.decisions, {animal.individual: animal for animal in view.project.animals})
    rows = [view.rows[n] for n in chosen]
    found = known.candidates(
        view.features[chosen],
        [row.sequence for row in rows],
        [row.key for row in rows],
        top=CANDIDATES + max((len(refused.get(row.key, ())) for row in rows), default=0),
    )
    items: list[dict[str, Any]] = []
    for row, candidates in zip(rows, found, strict=True):
        left = [one for one in candidates if one.individual not in refused.get(row.key, ())][:CANDIDATES]
        items.append(
            {
                "photograph": index[row.key],
                "candidates": [_candidate(view, row, one) | {"photograph": index[one.key]} for one in left],
            }
        )
    best = [item["candidates"][0]["score"] if item["candidates"] else -1.0 for item in items]
    order = sorted(range(len(items)), key=lambda n: (rows[n].status != "unsure", -best[n], rows[n].key))
    return [items[n] for n in order]
