"""From a folder of photographs to individuals by commands: discover, match, export."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..data.images import UnreadableImage
from ..errors import UserError
from ..escape import visible
from .discover_command import discover
from .opening import open_project
from .options import add_encoder_options, guarded, set_encoder_options
from .rows import Photograph

logger = logging.getLogger(__name__)


def command_line(argv: list[str] | None = None) -> None:
    """Run one of the commands; wrong input ends in its message without a traceback."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in ("-h", "--help"):
        print(f"usage: individuals.py {' | '.join(COMMANDS)} PROJECT ...; --help after a command lists its options")
        return
    if not argv or argv[0] not in COMMANDS:
        sys.exit(f"error: Expected one of the commands {', '.join(COMMANDS)}, got {visible((argv or ['nothing'])[0])}.")
    COMMANDS[argv[0]](argv[1:])


def match(argv: Sequence[str] | None = None) -> None:
    """`fancl match PROJECT PHOTO ...`: the known animals that photographs are most alike."""
    parser = argparse.ArgumentParser("fancl match", description="Match photographs against known individuals.")
    parser.add_argument("project", type=Path, help="folder of the project")
    parser.add_argument("photographs", type=Path, nargs="+", metavar="PHOTO", help="photographs to match, taken whole")
    parser.add_argument("--top", type=int, default=5, help="candidates, default 5")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_encoder_options(parser)
    args = parser.parse_args(argv)
    if args.top < 1:
        parser.error(f"Expected --top to be 1 or more, got {args.top}.")
    guarded(_match, args)


def _match(args: argparse.Namespace) -> None:
    project = open_project(args.project)
    set_encoder_options(project, args)
    if any(row.box for row in project.photographs):
        logger.warning("The known animals are cut out by boxes: cut out these photographs, too, for better matches.")
    matches, still_open, problems = {}, {}, []
    for path in args.photographs:
        try:
            matches[os.fspath(path)] = project.match(path, args.top)
            still_open[os.fspath(path)] = _still_open(project.rows_of(path))
        except UnreadableImage as error:
            problems.append(str(error))
    if args.json:
        print(json.dumps(matches, ensure_ascii=False, indent=1))
    else:
        _print_matches(matches, still_open)
    if problems:  # at the end, as one of many must not cost the matches of the others
        raise UserError("\n".join(problems))


def _still_open(rows: Sequence[Photograph]) -> str:
    """What the project knows of a photograph that is no evidence of an animal; "" if it is, or is not there."""
    if not rows or any(row.counts for row in rows):
        return ""
    if any(row.status == "unsure" for row in rows):
        return "the project has this photograph; its animal is still open (unsure)"
    marked = "not an animal" if rows[0].status == "not_animal" else rows[0].status
    return f"the project has this photograph, marked as {marked}"


def _print_matches(matches: dict[str, list[dict[str, Any]]], still_open: dict[str, str]) -> None:
    for path, candidates in matches.items():
        known = [one["individual"] for one in candidates if one["verdict"] == "known"]
        there = f"known, the project has this photograph as one of {' and '.join(known)}"
        print(f"{visible(path)}: {there if known else still_open[path] or candidates[0]['verdict']}")
        for one in candidates:
            name = visible(f"{one['individual']} {one['name']}".strip())
            points = f"  ({one['matched_points']} matched points)" if one["matched_points"] else ""
            likely = "" if one["probability"] is None else f"{one['probability']:4.0%}  "
            print(f"  {one['score']:.3f}  {likely}{name}  {visible(one['photograph'])}{points}")


def export(argv: Sequence[str] | None = None) -> None:
    """`fancl export PROJECT --to FORMAT OUT`: tables for other programs."""
    from .export import FORMATS, add_options

    parser = argparse.ArgumentParser("fancl export", description="Export individuals for other programs.")
    parser.add_argument("project", type=Path, help="folder of the project")
    parser.add_argument("--to", required=True, choices=sorted(FORMATS), help="what to write")
    parser.add_argument("output", type=Path, help="file or folder to write; it must not exist yet")
    add_options(parser)
    args = parser.parse_args(argv)
    options = {
        name: value
        for name, value in vars(args).items()
        if value is not None and name not in ("project", "to", "output")
    }

    def write(args: argparse.Namespace) -> None:
        FORMATS[args.to](open_project(args.project), args.output, **options)
        print(f"Written: {visible(args.output)}")

    guarded(write, args)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {"discover": discover, "match": match, "export": export}
