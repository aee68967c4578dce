"""Photographs that come into a project, and what is learned of those that it has."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from ..data import plural
from ..escape import visible
from .discover import Report
from .intake import Intake
from .notes import NO_ANIMAL, NOT_OURS, SEEN
from .project import Project
from .rows import Photograph
from .sequences import named_by_time, with_sequences

FOUND, SAID = ("found", "exif", "file name"), ("named", "table")  # of station_source and date_time_source


def keep_season(had: Sequence[Photograph], intake: Intake, gap: float) -> None:
    """Keep the season of a folder that is given again, also under another name, if most photographs have it.

    Args:
        had: photographs of the project.
        intake: what lies in the folder, without what other programs know of it.
        gap: as for `with_sequences`.
    """
    known, there = {row.hash: row for row in had}, {_place_and_time(row): row for row in had if row.date_time}
    seasons = Counter(
        old.season
        for row in intake.photographs
        if (old := known.get(row.hash) or there.get(_place_and_time(row)))
        and old.path == row.path
        and (old.root == row.root or not old.file.exists())
    )
    season, number = seasons.most_common(1)[0] if seasons else ("", 0)
    if season and 2 * number > len(intake.photographs) and season != intake.photographs[0].season:
        rows = [replace(row, season=season, sequence="") for row in intake.photographs]
        intake.photographs = with_sequences(rows, gap)
        intake.notes.append(
            f"The season is {visible(season)}, by which most of these photographs are known; for another one give "
            "--season NAME."
        )


def _place_and_time(row: Photograph) -> tuple[str, str, str]:
    return row.root, row.path, row.date_time


def take_in(project: Project, intake: Intake, report: Report, given_options: Collection[str] = ()) -> None:
    """Add photographs to a project.

    Known photographs keep their data, take their new place, and get the values that they lack. A station or a time that
    the user gives replaces one that the program found; other differences are only reported. If a photograph comes with
    other boxes, and several before or now, the project's boxes stay, because nobody knows which new box shows which
    animal.

    Args:
        project: changed.
        intake: what came in; copies of photographs of another season are left out.
        report: of the discovery.
        given_options: which of "season" and "gap" the user gave.
    """
    before = _without_broken(project.photographs, intake.photographs)
    intake.photographs, problems = _written_into(before, intake.photographs)
    intake.notes += _further_of_season(before, intake.photographs)
    known, report.intake = _by_content(before), intake
    others, boxes, new, copies = [], [], set[str](), dict[str, str]()
    for content, came in _by_content(intake.photographs).items():
        had, first = known.get(content, []), came[0]
        if _as_if_new(had, first):
            report.added += not had
            known[content] = came
            new.add(content)
            continue
        if _is_copy(had[0], first):
            copies[first.path] = f"the same photograph as {had[0].path} of the season {had[0].season}"
            continue
        if _other_boxes(had, came):
            boxes.append(first.path)
            came = [replace(first, box=None)]
        of_box = {row.box: row for row in came}
        pairs = [(old, of_box.get(old.box, came[0])) for old in had]
        known[content] = [_completed(old, row) for old, row in pairs]
        placed = [replace(old, root=first.root, path=first.path) for old in had]
        report.moved += placed != had  # once for a photograph, however many boxes it has
        report.completed += placed != known[content]
        both = zip(known[content], (row for _, row in pairs), strict=True)
        others += [first.path] if any(_differs(*pair) for pair in both) else []
    intake.photographs = [row for row in intake.photographs if row.path not in copies]
    intake.left_out |= copies
    _join_bursts(known, intake.photographs, new)
    project.photographs = [row for rows in known.values() for row in rows]
    again = [(known[row.hash][0], row) for row in intake.photographs if row.hash not in new]
    report.problems += problems + _kept(boxes, others) + _of_new_ones_only(again, given_options)


def _without_broken(had: Sequence[Photograph], came: Iterable[Photograph]) -> list[Photograph]:
    """Leave out unreadable photographs whose file has been replaced."""
    now = {(row.file, row.season): row.hash for row in came}
    return [row for row in had if row.status != "unreadable" or now.get((row.file, row.season), row.hash) == row.hash]


def _written_into(had: Sequence[Photograph], came: Sequence[Photograph]) -> tuple[list[Photograph], list[str]]:
    """Match incoming files that another program has changed to the photographs that they were.

    Keywords change the content of a file, but not its path or time. A file is taken for a known photograph if path and
    time are equal and the old content is gone. Without a time it counts as a new photograph.

    Returns:
        The rows, and sentences on both cases.
    """
    contents, known = {row.hash for row in came}, {row.hash for row in had}
    before = defaultdict(list)
    for old in had:
        if old.hash not in contents and old.status != "unreadable":
            before[old.path].append(old)
    rows, same, unclear = [], dict[str, None](), dict[str, None]()
    for row in came:
        there = before[row.path] if row.hash not in known else []
        same_time = (old for old in there if old.date_time and old.date_time == row.date_time)
        then = next((old for old in same_time if _lay_there(old, row)), None)
        if then:
            row = replace(row, hash=then.hash, key=then.hash[:16] + row.key[16:])
            same[row.path] = None
        elif any(old.root == row.root for old in there):
            unclear[row.path] = None
        rows.append(row)
    return rows, _changed_files(list(same), list(unclear))


def _changed_files(same: Sequence[str], unclear: Sequence[str]) -> list[str]:
    """Sentences on files whose content is another one than before."""
    return _such_as(
        "Files that another program wrote into since",
        same,
        "They lie where photographs of the project lay and have the same times, so they count as these.",
    ) + _such_as(
        "Files of another content than before at the same place",
        unclear,
        "They count as new photographs. If another program only wrote into them, restore the original files and remove "
        "the new rows from photographs.csv; otherwise give the folder of the earlier photographs by --photos.",
    )


def _such_as(what: str, paths: Sequence[str], further: str) -> list[str]:
    """A problem of some photographs, with their number and the first of them; none without photographs."""
    return [f"{what}: {len(paths)}, such as {paths[0]}. {further}"] if paths else []


def _lay_there(old: Photograph, row: Photograph) -> bool:
    """Whether a file may replace the photograph at its path: one season, and one root or the old file is gone.

    A second memory card at the same place has the same names, and perhaps times, but another season.
    """
    return old.season == row.season and (old.root == row.root or not old.file.exists())


def _is_copy(old: Photograph, row: Photograph) -> bool:
    """Whether a file is only a copy, in another season, of a photograph that still lies where it was."""
    return old.season != row.season and old.file.exists() and not old.file.samefile(row.file)


def _join_bursts(known: dict[str, list[Photograph]], came: Sequence[Photograph], new: Collection[str]) -> None:
    """Put new photographs into the sequences of those with which they came in as one: a card may come in parts.

    Args:
        known: rows of the project by content, changed.
        came: rows that came in.
        new: contents of those that are new.
    """
    mates: dict[str, list[Photograph]] = defaultdict(list)
    for row in came:
        if row.sequence and row.hash not in new:
            mates[row.sequence] += [old for old in known[row.hash] if old.sequence]
    for content in new:
        first = known[content][0]
        one_camera = [old for old in mates[first.sequence] if _camera_of(old) == _camera_of(first)]
        if one_camera:
            nearest = min(one_camera, key=lambda old: _seconds_between(old, first))
            known[content] = [replace(row, sequence=nearest.sequence) for row in known[content]]


def _camera_of(row: Photograph) -> tuple[str, str, str]:
    return row.season, row.station, row.camera


def _seconds_between(one: Photograph, other: Photograph) -> float:
    """0 where a time is not known."""
    return abs((one.moment - other.moment).total_seconds()) if one.moment and other.moment else 0.0


def _by_content(rows: Iterable[Photograph]) -> dict[str, list[Photograph]]:
    """The rows of each photograph, by its hash."""
    by_hash = defaultdict(list)
    for row in rows:
        by_hash[row.hash].append(row)
    return dict(by_hash)


def _as_if_new(had: Sequence[Photograph], first: Photograph) -> bool:
    """Whether a photograph has nothing to keep: no animal, and no box unless the new row has one, too."""
    return all(_tried_again(old, first) and (old.box is None or first.box is not None) for old in had)


def _tried_again(old: Photograph, row: Photograph) -> bool:
    """Whether a photograph comes in as if it were new: it was unreadable, or its animal was overlooked.

    A box or a note shows that an animal has been found since. A usable row with neither proves nothing: whole
    photographs are usable, too.
    """
    found = row.usable and (row.box is not None or SEEN in row.note)
    overlooked = old.note in (NO_ANIMAL, NOT_OURS) and not old.usable
    return old.status == "unreadable" or (overlooked and found)


def _other_boxes(had: Sequence[Photograph], came: Sequence[Photograph]) -> bool:
    """Whether the boxes of a photograph are not those that the project has, and are several before or now."""
    before, now = ({row.box for row in rows if row.box} for rows in (had, came))
    return bool(now) and before != now and max(len(before), len(now)) > 1


def _completed(old: Photograph, row: Photograph) -> Photograph:
    """A photograph of the project at its new place, with what it lacked."""
    if _tried_again(old, row):
        return replace(row, key=old.key, box=old.box or row.box)
    changes: dict[str, Any] = {"root": row.root, "path": row.path}
    if (row.station and not old.station) or _overrules("station_source", row, old):
        changes |= {"station": row.station, "station_source": row.station_source, "camera": row.camera}
    elif _stands_in(old) and not _stands_in(row) and not _overrules("station_source", old, row):
        changes["camera"] = row.camera
    if (row.date_time and not old.date_time) or _overrules("date_time_source", row, old):
        changes |= {"date_time": row.date_time, "date_time_source": row.date_time_source}
    if not old.sequence or _has_other_sequence(old, row, replace(old, **changes)):
        changes["sequence"] = row.sequence
    if old.side == "unknown":
        changes["side"] = row.side
    if old.box is None:
        changes["box"] = row.box
    return replace(old, **changes)


def _stands_in(row: Photograph) -> bool:
    """Whether a station or a folder stands in for a camera that nobody named."""
    return row.camera in ("", row.station, row.path.rpartition("/")[0])


def _overrules(source: str, row: Photograph, other: Photograph) -> bool:
    """Whether the user, or another program, says for one photograph what was only found for the other."""
    return getattr(row, source) in SAID and getattr(other, source) in FOUND


def _has_other_sequence(old: Photograph, row: Photograph, completed: Photograph) -> bool:
    """Whether a photograph leaves its sequence, which followed from its station and time or was given.

    A sequence that was found is replaced if the station, camera or time has changed, or if a sequence is given now. A
    sequence that was given is replaced only if both are true.
    """
    moved = any(getattr(old, name) != getattr(completed, name) for name in ("station", "camera", "date_time"))
    given = bool(row.sequence) and not named_by_time(row.sequence)
    return moved + given + named_by_time(old.sequence) >= 2


def _differs(old: Photograph, row: Photograph) -> bool:
    """Whether a photograph of the project is said to have another station, camera, time, sequence, side or box."""
    at_station, at_time = (_overrules(f"{name}_source", old, row) for name in ("station", "date_time"))
    cameras = not (at_station or _stands_in(old) or _stands_in(row)) and old.camera != row.camera
    sequences = [_given_name(one) for one in (old, row)]
    sides = [one.side if one.side != "unknown" else "" for one in (old, row)]
    pairs = [sequences, sides, (old.box, row.box)]
    pairs += [] if at_station else [(old.station, row.station)]
    pairs += [] if at_time else [(old.date_time, row.date_time)]
    return cameras or any(before and after and before != after for before, after in pairs)


def _given_name(row: Photograph) -> str:
    """The name of a sequence as a table gave it; "" for one that was found."""
    return "" if named_by_time(row.sequence) else _bare_name(row)


def _bare_name(row: Photograph) -> str:
    """The name of a sequence without the season, the station and the camera before it."""
    names = [name for name in (row.season, row.station, row.camera if row.camera != row.station else "") if name]
    return row.sequence.removeprefix(" ".join([*names, ""]))


def _further_of_season(had: Sequence[Photograph], came: Sequence[Photograph]) -> list[str]:
    """A sentence if a season gets photographs of which it has none yet, as two cards called DCIM are one season."""
    seasons = {row.season for row in came}
    there = [row for row in had if row.season in seasons]
    if not there or not {row.hash for row in there}.isdisjoint(row.hash for row in came):
        return []
    return [
        f"The season {visible(there[0].season)} already has {plural(len(there), 'photograph')} of "
        f"{visible(there[0].root)}, and none of them came in now. If the new ones belong to another season, correct "
        "the column season of photographs.csv; for the next folder of this name give --season NAME."
    ]


def _kept(boxes: Sequence[str], others: Sequence[str]) -> list[str]:
    """What was not taken over from photographs that the project has, in sentences."""
    return _such_as(
        "Photographs of the project with other boxes now",
        boxes,
        "They keep the boxes that they have, or stay whole; a new project takes each new box for an animal.",
    ) + _such_as(
        "Photographs of the project with another station, camera, time, sequence, side or box now",
        others,
        "What the project has stays; correct photographs.csv if that is wrong.",
    )


def _of_new_ones_only(pairs: Sequence[tuple[Photograph, Photograph]], given_options: Collection[str]) -> list[str]:
    """What --season and --gap do not change of photographs that the project has, in sentences.

    Args:
        pairs: such photographs, each as the project has it and as it came in.
        given_options: as for `take_in`.
    """
    found = [pair for pair in pairs if all(one.sequence and named_by_time(one.sequence) for one in pair)]
    kept = {
        "season": {old.hash: old.path for old, row in pairs if old.season != row.season},
        "gap": {old.hash: old.path for old, row in found if _bare_name(old) != _bare_name(row)},
    }
    return [
        f"--{option} holds for new photographs only: {plural(len(paths), 'photograph')} of the project, such as "
        f"{next(iter(paths.values()))}, stay as they are; if that is wrong, correct {column} in photographs.csv."
        for option, column in (("season", "season"), ("gap", "sequence"))
        if option in given_options and (paths := kept[option])
    ]
