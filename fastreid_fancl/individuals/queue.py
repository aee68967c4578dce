"""What the review page shows and asks."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from .candidates import Candidate, gallery_of
from .links import apart_by, burst, rejections
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
    """Each animal with its photographs, those that are least like the others first.

    Animals with the most photographs that may be wrong come first, equals by their IDs. Those without photographs are
    there, too, so that the page knows where earlier decisions on them lead.
    """
    entries = []
    doubt = {animal.individual: _doubt(view, animal.individual) for animal in view.project.animals}
    for animal in sorted(view.project.animals, key=lambda animal: (-doubt[animal.individual], animal.individual)):
        members = view.animals.get(animal.individual, [])
        features = view.features[members]
        others = max(1, len(members) - 1)
        outlier = 1 - (features @ features.sum(axis=0) - 1) / others if len(members) > 1 else np.zeros(1)
        order = sorted(range(len(members)), key=lambda n: (-round(float(outlier[n]), 6), view.rows[members[n]].key))
        entries.append(
            {
                "id": animal.individual,
                "name": animal.name,
                "sex": animal.sex,
                "status": animal.status,
                "merged_into": animal.merged_into,
                "photographs": [index[view.rows[members[n]].key] for n in order],
                "outlier": [round(float(outlier[n]), 4) for n in order],
            }
        )
    return entries


def _doubt(view: View, individual: str) -> float:
    """The number of an animal's photographs that are expected to show another one, by their certainty."""
    rows = (view.rows[n] for n in view.animals.get(individual, ()))
    return round(sum(1 - view.certainty.get(row.key, 1.0) for row in rows if row.status != "confirmed"), 3)


def _candidate(view: View, row: Photograph, one: Candidate) -> dict[str, Any]:
    patterns = view.project.patterns
    points = None if patterns is None else patterns.matched(row.key, one.key)
    return {"individual": one.individual, "score": view.score(one.score), "matched_points": points}


def _open(view: View, index: dict[str, int]) -> list[dict[str, Any]]:
    """Unsure photographs, then animals seen once, with the likeliest animals; of both the most similar ones first.

    Of photographs that move together, only the first one is shown. Those answered "unsure" come last.
    """
    chosen = [n for n, row in enumerate(view.rows) if row.status in ("unsure", "single")]
    known = gallery_of(view.rows, view.features, view.project.patterns)
    refused = rejections(view.decisions, {animal.individual: animal for animal in view.project.animals})
    rows = [view.rows[n] for n in chosen]
    found = known.candidates(
        view.features[chosen],
        [row.occasion for row in rows],
        [row.key for row in rows],
        top=CANDIDATES + max((len(refused.get(row.key, ())) for row in rows), default=0),
    )
    items: dict[str, dict[str, Any]] = {}
    for row, candidates in zip(rows, found, strict=True):
        left = [one for one in candidates if one.individual not in refused.get(row.key, ())][:CANDIDATES]
        items[row.key] = {
            "photograph": index[row.key],
            "candidates": [_candidate(view, row, one) | {"photograph": index[one.key]} for one in left],
        }
    best = {key: item["candidates"][0]["score"] if item["candidates"] else -1.0 for key, item in items.items()}
    order = sorted(rows, key=lambda row: (row.status != "unsure", -best[row.key], row.key))
    bursts = _one_each(view, order)
    unsure = {one.a for one in view.decisions if one.kind == "unsure"}
    return [items[keys[0]] for keys in sorted(bursts, key=lambda keys: not unsure.isdisjoint(keys))]


def _one_each(view: View, rows: Sequence[Photograph]) -> list[list[str]]:
    """Photographs in their order, each with those that move with it and are left out themselves."""
    sequences: dict[str, list[Photograph]] = defaultdict(list)
    for row in view.project.photographs:
        sequences[row.sequence].append(row)
    apart, found, there = apart_by(view.decisions), [], set()
    for row in rows:
        if row.key not in there:
            found.append(burst(row, sequences[row.sequence], apart))
            there.update(found[-1])
    return found
