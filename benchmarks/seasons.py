#!/usr/bin/env python3
"""Add a season to a project: which IDs stay, and where the new photographs go.

    seasons.py FOLDER --output DIR [--decisions 100] [--discover --local 0 ...]

FOLDER has a metadata.csv with the column identity. A quarter of the sequences (of the photographs, where there is no
column sequence), drawn by the hash of their names, is the second season. Its true names show whether photographs were
assigned correctly. With --decisions the reviewer of reviewer.py corrects the animals of the first season before.
"""

import argparse
import csv
import hashlib
import shutil
import sys
from collections import Counter, defaultdict
from pathlib import Path

from reviewer import review, true_names

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastreid_fancl.individuals.command import discover  # noqa: E402
from fastreid_fancl.individuals.decisions import add_decisions  # noqa: E402
from fastreid_fancl.individuals.opening import open_project  # noqa: E402
from fastreid_fancl.individuals.project import Project  # noqa: E402
from fastreid_fancl.individuals.rows import Decision, Photograph  # noqa: E402


def in_second(row: dict[str, str]) -> bool:
    """Whether a photograph of the table is of the second season."""
    name = row.get("sequence") or row["path"]
    return hashlib.sha256(name.encode()).digest()[0] < 64


def link(folder: Path, output: Path) -> None:
    """Link the photographs of FOLDER in two seasons below OUTPUT."""
    with open(folder / "metadata.csv", encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            if row["identity"]:
                place = output / ("second" if in_second(row) else "first") / row["path"]
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to((folder / row["path"]).resolve())


def kept(before: dict[str, Photograph], project: Project) -> int:
    """How many photographs that had an animal have the same one now."""
    now = project.by_key
    return sum(row.individual == now[key].individual and now[key].counts for key, row in before.items() if row.counts)


def outcomes(project: Project, before: dict[str, Photograph], truth: dict[str, str]) -> dict[str, Counter[str]]:
    """What became of new photographs of animals that the first season shows, and of others.

    An animal is the one that most of its photographs of the first season show. A photograph that shares a new animal
    with others counts as new.
    """
    shown = defaultdict(Counter)
    for row in before.values():
        if row.counts:
            shown[row.individual][truth[row.path]] += 1
    names = {individual: counts.most_common(1)[0][0] for individual, counts in shown.items()}
    known, found = set(names.values()), {"known": Counter(), "unknown": Counter()}
    for row in project.photographs:
        if row.key not in before and row.usable:
            if not row.counts:
                what = "unsure"
            elif row.individual not in names:
                what = "new"
            else:
                what = "right" if names[row.individual] == truth[row.path] else "wrong"
            found["known" if truth[row.path] in known else "unknown"][what] += 1
    return found


def moved_by_one_same(project: Project) -> tuple[int, int]:
    """Say "same" of photographs of two animals: how many photographs of the two moved, and how many of others."""
    rows = sorted((row for row in project.photographs if row.counts), key=lambda row: row.key)
    first = rows[0]
    other = next(row for row in rows if row.individual != first.individual)
    before = project.by_key
    add_decisions(project, [Decision("2025-01-01T00:00:00Z", "script", "same", first.key, other.key)])
    moved = [row for row in project.photographs if row.individual != before[row.key].individual]
    own = sum(before[row.key].individual in (first.individual, other.individual) for row in moved)
    return own, len(moved) - own


def main() -> None:
    """Discover two seasons, and print what became of the photographs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="folder to write; replaced if it is there")
    parser.add_argument("--decisions", type=int, default=0, help="answers between the seasons, default 0")
    parser.add_argument("--discover", nargs=argparse.REMAINDER, default=[], help="further arguments of discover")
    args = parser.parse_args()
    shutil.rmtree(args.output, ignore_errors=True)
    link(args.folder, args.output)
    folder, truth = args.output / "project", true_names(args.folder)
    discover([str(folder), "--photos", str(args.output / "first"), "--no-page", *args.discover])
    project = open_project(folder)
    *_, (answers, ari, animals) = review(project, truth, "queue", args.decisions)
    project.write()
    before = project.by_key
    discover([str(folder), "--photos", str(args.output / "second"), "--no-page"])
    project = open_project(folder)
    counted = sum(row.counts for row in before.values())
    print(f"\nFirst season: {animals} animals after {answers} decisions, ARI {ari:.2f}")
    print(f"IDs kept: {kept(before, project)} of {counted}")
    for name, counts in outcomes(project, before, truth).items():
        parts = ", ".join(f"{what} {counts[what]}" for what in ("right", "wrong", "unsure", "new"))
        print(f"New photographs of animals that were {name}: {counts.total()}: {parts}")
    own, others = moved_by_one_same(project)
    print(f'One "same" moved {own} photographs of the two animals and {others} of others.')


if __name__ == "__main__":
    main()
