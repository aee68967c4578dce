"""`fancl discover`: its arguments, and its steps from the reading of photographs to the review page."""

import argparse
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..data import plural
from ..data.datasets.sequences import GAP_SECONDS
from ..errors import UserError
from ..escape import visible
from ..files import write_text
from . import discover as steps
from .additions import keep_season, take_in
from .checks import check_groups
from .crops import own_crop
from .decisions import add_decisions
from .discover import Report
from .encode import START
from .export.contents import parse_zone
from .intake import Intake, read_folder, write_left_out
from .ledger import contradictions
from .opening import new_project, open_project, restored_project
from .options import add_encoder_options, guarded, set_encoder_options
from .project import TABLES, Project
from .queue import review_queue
from .review.page import write_page
from .rows import Box, Change
from .sequences import long_sequences, with_sequences
from .sources import CONFIDENCE, common_offset, with_boxes, with_camtrapdp, with_table
from .stations import stations_note
from .storage import read_decisions
from .summary import SUMMARY, changed, describe_photographs, ended, seconds_of, summary, to_check
from .train import train
from .verify import checked_weight, with_points

logger = logging.getLogger(__name__)

OF_GROUPING = ("augment", "k1")  # options beside one that groups, see `_groups`
OF_PHOTOGRAPHS = ("season", "stations", "gap", "boxes", "confidence", "camtrapdp", "table")  # options beside --photos


def discover(argv: Sequence[str] | None = None) -> None:
    """`fancl discover PROJECT`: photographs come in, decisions are applied, a season is added."""
    parser = discover_parser()
    args = parser.parse_args(argv)
    if args.train and args.runtime == "openvino":
        parser.error("--train trains and encodes by torch: leave out --runtime openvino, or --train.")

    if not 0 <= args.confidence <= 1:
        parser.error(f"Expected --confidence to be from 0 to 1, got {args.confidence:g}.")

    if not (math.isfinite(args.gap) and args.gap >= 0):
        parser.error(f"Expected --gap to be 0 seconds or more, got {args.gap:g}.")
    if args.k1 < 1:
        parser.error(f"Expected --k1 to be 1 photograph or more, got {args.k1}.")
    if args.seed is not None and args.seed < 0:
        parser.error(f"Expected --seed to be 0 or more, got {args.seed}.")

    def given(names: Sequence[str]) -> str:
        return ", ".join(f"--{name}" for name in names if getattr(args, name) != parser.get_default(name))

    if given(OF_PHOTOGRAPHS) and args.photos is None:
        parser.error(f"{given(OF_PHOTOGRAPHS)}: name the photographs by --photos FOLDER, too.")
    if given(OF_GROUPING) and not _groups(args):
        parser.error(
            f"{given(OF_GROUPING)}: nothing is grouped; add --regroup, or name photographs by --photos FOLDER."
        )
    guarded(_discover, args, ": features and keypoints found so far are kept")


def discover_parser() -> argparse.ArgumentParser:
    """The arguments of `discover`."""
    parser = argparse.ArgumentParser("fancl discover", description="Find the individuals on photographs.")
    add = parser.add_argument
    add("project", type=Path, help="folder of the project; its name gives the IDs: lions/ -> LION-001")
    add("--photos", type=Path, metavar="FOLDER", help="photographs to add: the first ones, or a further season's")
    add("--season", help="season of the added photographs; default: the folder's name")
    text = "level of the folders that are stations: 1 for those directly in --photos"
    add("--stations", type=int, metavar="LEVEL", help=text)
    add("--gap", type=float, default=GAP_SECONDS, help="seconds between photographs of one sequence, default 60")
    add("--boxes", type=Path, metavar="FILE", help="MegaDetector's JSON file")
    add(
        "--confidence",
        type=float,
        default=CONFIDENCE,
        help="minimum confidence of MegaDetector's boxes, from 0 to 1; default 0.2",
    )
    add("--camtrapdp", type=Path, metavar="FOLDER", help="Camtrap DP tables of the photographs")
    add("--table", type=Path, metavar="FILE", help="CSV: path, station, camera, date_time, sequence, side")
    add("--decisions", type=Path, metavar="FILE", help="file of decisions that the review page saved")
    add("--timezone", help="time zone of the cameras' clocks, such as +03:00; some exports need it")
    add("--species", help='such as "Panthera leo"; some exports need it')
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--encoder", metavar="NAME", help=f"a timm model; default {START}, without training")
    source.add_argument(
        "--run", type=Path, metavar="FOLDER", help="folder of a trained run, whose weights become the encoder"
    )
    text = "weight of local matches (spots, stripes); 0: none; default 0.2 with faiss and at most 10,000 photographs"
    add("--local", type=float, metavar="WEIGHT", help=text)
    add_encoder_options(parser)
    text = "train on the project's photographs; keep the result if the groups improve"
    add("--train", action="store_true", help=text)
    add("--regroup", action="store_true", help="group all photographs again, except for confirmed ones")
    text = "test stability also on closer (1), or closer and darker (2), copies of each photograph; default 0"
    add("--augment", type=int, default=0, choices=(0, 1, 2), help=text)
    text = "nearest photographs to compare each one with: about as many as an animal has; default 15"
    add("--k1", type=int, default=15, help=text)
    add("--seed", type=int, help="seed of all random choices; default: the project's, 0 for a new one")
    add("--no-page", action="store_true", help="do not write review.html")
    return parser


def _discover(args: argparse.Namespace) -> None:
    with opened(args).writing():
        report, event = Report(), steps.now()
        if args.decisions is not None:
            _decide(args, report)
        try:
            project = opened(args)  # again: another command may have changed it until the lock was there
            if _groups(args):
                _group(project, args, report, event)
            else:
                steps.rescore(project, report)
        except Exception:  # the decisions are on record, so that no later command will say what is wrong with them
            for line in to_check(report.problems):
                print(line)
            raise
        finish(project, report, page=not args.no_page)


def _decide(args: argparse.Namespace, report: Report) -> None:
    """Apply decisions and write the project at once, so that a later error cannot lose them."""
    project = _found(args)
    earlier = len(project.changes)
    with report.step("decisions"):
        new, problems = add_decisions(project, read_decisions(args.decisions))
        project.write()
    changes = project.changes[earlier:]
    report.problems += problems + contradictions(project.animals, changes)
    what = changed(project, changes) if new or problems else "the project has all of this file"
    print(f"{plural(new, 'new decision')}: {what}.")


def _groups(args: argparse.Namespace) -> bool:
    """Whether photographs are grouped; else only decisions are applied, and scores written again."""
    return bool(args.photos or args.encoder or args.run or args.train or args.regroup or args.local is not None)


def opened(args: argparse.Namespace) -> Project:
    """The project of the arguments, with their settings; a new one where there is none.

    Raises:
        ValueError: if there is none and no photographs are given, or the time zone is unknown.
    """
    parse_zone(args.timezone or "")
    project, name = _found(args), _encoder_name(args)
    if name and name != project.settings["encoder"]:
        project.change_encoder(name)
    for key in ("species", "timezone", "seed"):
        if getattr(args, key) is not None:
            project.settings[key] = getattr(args, key)
    if args.local is not None:
        project.settings["local"] = checked_weight(args.local)
    set_encoder_options(project, args)
    return project


def _found(args: argparse.Namespace) -> Project:
    """Open the project of the arguments, without their settings; create it if there is none.

    Raises:
        ValueError: as `opened`.
    """
    if (args.project / "project.json").exists():
        return open_project(args.project)
    if any((args.project / table).exists() for table in TABLES):
        return restored_project(args.project, _encoder_name(args) or START)
    if args.photos is None:
        raise UserError(f"There is no project in {visible(args.project)} yet: give photographs by --photos FOLDER.")
    if args.decisions is not None:
        raise UserError(
            f"There is no project in {visible(args.project)} yet: discover the photographs first, without --decisions."
        )
    return new_project(args.project, _encoder_name(args) or START)


def _encoder_name(args: argparse.Namespace) -> str:
    """The encoder that the arguments name; "" for none."""
    return f"run:{os.path.abspath(args.run)}" if args.run else args.encoder or ""


def _group(project: Project, args: argparse.Namespace, report: Report, event: str) -> None:
    """Photographs come in, all are encoded and grouped, perhaps after a training."""
    before = {row.key: row.box for row in project.photographs}, project.settings["fingerprint"]
    with report.step("encoder"):  # first: the reading of many photographs takes long, and its name may be wrong
        logger.info("Encoder: %s.", project.encoder.name)
    if args.photos:
        with report.step("reading"):
            season = args.season or args.photos.resolve().name
            intake = read_folder(args.photos, season, args.stations, args.gap, args.project)
            if args.season is None:
                keep_season(project.photographs, intake, args.gap)
            intake = understood(intake, args, project)
        given_options = {"season": args.season is not None, "gap": args.gap != GAP_SECONDS}
        take_in(project, intake, report, [name for name, given in given_options.items() if given])
        print("\n".join(describe_photographs(project, report)), flush=True)
    k2 = max(2, args.k1 // 4 + 1)
    features, views = steps.encode(project, report, args.augment)
    if args.train and train(project, report, args.k1, k2):
        features, views = steps.encode(project, report, args.augment)
    earlier = len(project.changes)
    steps.regroup(project, features, views, report, event, args.k1, k2, args.regroup)
    if args.regroup:
        _say_what_moved(project, report, project.changes[earlier:])
    elif _seen_anew(project, *before):
        report.problems.append(
            "New boxes or a new encoder do not change existing animals; --regroup groups all unconfirmed photographs "
            "again."
        )


def _say_what_moved(project: Project, report: Report, changes: Sequence[Change]) -> None:
    """Report what --regroup changed, and the animals with a name that it left without photographs."""
    report.regrouped = f"Grouped afresh: {changed(project, changes)}."
    report.problems += [
        f"{animal.individual} {animal.name} has no photographs left, as all were grouped afresh: look for its "
        "photographs on the review page, and say which animal they show."
        for animal in ended(project, changes)
        if animal.name
    ]


def _seen_anew(project: Project, boxes: dict[str, Box | None], fingerprint: str) -> bool:
    """Whether photographs that the project had have another box or another encoder now."""
    moved = any(row.key in boxes and row.box != boxes[row.key] for row in project.photographs)
    return bool(boxes) and (moved or fingerprint != project.settings["fingerprint"])


def understood(intake: Intake, args: argparse.Namespace, project: Project) -> Intake:
    """What came in, with what other programs know of it; a time zone that all of their times have is the project's."""
    settings = project.settings
    if args.camtrapdp is not None:
        settings["timezone"] = settings["timezone"] or common_offset(args.camtrapdp)
    zone, species = parse_zone(settings["timezone"]), settings["species"]
    sources = (
        (args.camtrapdp, lambda rows, path: with_camtrapdp(rows, path, zone, species, intake.left_out)),
        (args.table, lambda rows, path: with_table(rows, path, intake.left_out)),
        (args.boxes, lambda rows, path: with_boxes(rows, path, args.confidence, intake.left_out)),
    )
    if any(file is not None for file, _ in sources):
        rows = [replace(row, sequence="") for row in intake.photographs]
        for file, source in sources:
            if file is not None:
                rows, note = source(rows, file)
                intake.notes.append(note)
        intake.photographs = with_sequences(rows, args.gap)
    intake.notes += [
        stations_note(intake.photographs, intake.level, project.photographs),
        *long_sequences(intake.photographs),
    ]
    return intake


def finish(project: Project, report: Report, page: bool = True) -> None:
    """Write a project: tables, summary, review page."""
    usable = [row for row in project.photographs if row.counts and row.individual]
    keys, _ = project.known_features.of(usable)
    known = project.by_key
    checks = check_groups([known[key] for key in keys], project.known_features.borders_of([known[key] for key in keys]))
    photographs, found = describe_photographs(project, report), summary(project, report, checks)
    problems, last = report.problems, seconds_of(project, report)
    project.write()
    everything = [*photographs, *found, *to_check(problems, len(problems)), last]
    write_text(project.folder / SUMMARY, "\n".join(everything) + "\n")
    if report.intake is not None:
        write_left_out(project.folder, report.intake.left_out | report.unreadable)
    described = [] if report.intake else photographs  # those that came in are described already
    print("\n".join([*described, *found, *to_check(problems), last]))
    if page:
        queue = with_points(project, review_queue(project))
        displaced = project.displaced
        write_page(project.folder, queue, lambda key: own_crop(known[key], displaced))
        print(f"Review: {visible(project.folder / 'review.html')}")
