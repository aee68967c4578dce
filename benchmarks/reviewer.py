#!/usr/bin/env python3
"""A scripted reviewer: how many decisions an order of questions needs.

    reviewer.py FOLDER --decisions 100 --output DIR [--order queue random] [--photos-as-they-are]

FOLDER has a metadata.csv with the column identity. The photographs are discovered without it; then the reviewer
answers what the queue asks by the true labels, ten questions at a time, in the queue's order or at random among pairs
of photographs. It writes the adjusted Rand index and the number of animals after every ten decisions.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import adjusted_rand_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastreid_fancl.individuals.command import discover  # noqa: E402
from fastreid_fancl.individuals.decisions import add_decisions  # noqa: E402
from fastreid_fancl.individuals.discover import Report, rescore  # noqa: E402
from fastreid_fancl.individuals.opening import open_project  # noqa: E402
from fastreid_fancl.individuals.project import Project  # noqa: E402
from fastreid_fancl.individuals.queue import review_queue  # noqa: E402
from fastreid_fancl.individuals.rows import Decision  # noqa: E402

AT_ONCE = 10


def true_names(folder: Path) -> dict[str, str]:
    """Path -> animal, of the photographs whose animal is known."""
    with open(folder / "metadata.csv", encoding="utf-8-sig", newline="") as file:
        return {row["path"]: row["identity"] for row in csv.DictReader(file) if row["identity"]}


def score(project: Project, truth: dict[str, str]) -> tuple[float, int]:
    """Adjusted Rand index over the photographs whose animal is known, and animals; the unsure are alone."""
    rows = [row for row in project.photographs if row.path in truth and row.usable]
    found = [row.individual if row.counts else row.key for row in rows]
    return adjusted_rand_score([truth[row.path] for row in rows], found), len(set(found))


def asked(project: Project, order: str, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Pairs of keys, in an order."""
    if order == "queue":
        queue = review_queue(project)
        key = [photograph["key"] for photograph in queue["photographs"]]
        return [(key[pair["a"]], key[pair["b"]]) for pair in queue["pairs"]]
    keys = sorted(row.key for row in project.photographs if row.usable)
    pairs = (sorted(rng.choice(len(keys), 2, replace=False)) for _ in range(AT_ONCE))
    return [(keys[a], keys[b]) for a, b in pairs]


def review(project: Project, truth: dict[str, str], order: str, decisions: int) -> list[tuple[int, float, int]]:
    """Answer questions about a project, in memory: (decisions, adjusted Rand index, animals) before and after a few."""
    rng, path = np.random.default_rng(0), {row.key: row.path for row in project.photographs}
    table, done = [(0, *score(project, truth))], 0
    while done < decisions:
        pairs = [pair for pair in asked(project, order, rng) if path[pair[0]] in truth and path[pair[1]] in truth]
        if not pairs:
            break
        answers = []
        for a, b in pairs[:AT_ONCE]:
            kind = "same" if truth[path[a]] == truth[path[b]] else "different"
            answers.append(Decision(f"2025-01-01T00:00:00.{done:06d}Z", "script", kind, a, b))
            done += 1
        add_decisions(project, answers)
        rescore(project, Report())  # as `discover --decisions` does, so that the next questions follow today's levels
        table.append((done, *score(project, truth)))
    return table


def main() -> None:
    """Discover, then review in each of the orders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--decisions", type=int, default=100)
    parser.add_argument("--order", nargs="+", choices=("queue", "random"), default=["queue", "random"])
    parser.add_argument("--discover", nargs=argparse.REMAINDER, default=[], help="further arguments of discover")
    args = parser.parse_args()
    project = args.output / "project"
    discover([str(project), "--photos", str(args.folder), "--no-page", *args.discover])
    truth = true_names(args.folder)
    with open(args.output / "reviewer.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("order", "decisions", "ari", "animals", "true_animals"))
        for order in args.order:
            for row in review(open_project(project), truth, order, args.decisions):
                table.writerow((order, row[0], f"{row[1]:.3f}", row[2], len(set(truth.values()))))
                print(order, *row, flush=True)


if __name__ == "__main__":
    main()
