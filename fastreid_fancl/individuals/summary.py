"""What a project holds, in a page of plain text."""

from collections import Counter
from collections.abc import Sequence

from ..data import plural, shorten
from ..escape import visible
from .certainty import FEWEST
from .checks import Association
from .discover import Report
from .intake import LEFT_OUT
from .project import Project
from .rows import COUNTED, Change, Individual, Photograph

SUMMARY = "summary.txt"
MOST = 20  # lines of one kind on the console
WHOLE_FRAMES = (
    "Whole frames are compared; crop by a detector for better groups: run MegaDetector and give its file by --boxes."
)


def summary(project: Project, report: Report, checks: Sequence[Association] = ()) -> list[str]:
    """What a command found or changed, line by line; `describe_photographs` says what it was found on.

    `to_check` and `seconds_of` follow it.
    """
    lines = [f"{project.settings['name']}: {_counts(project)}", *_animals(project, report), _local(project)]
    lines += [line for line in (report.training, report.regrouped) if line]
    return lines + [str(check) for check in checks]


def to_check(problems: Sequence[str], most: int = MOST) -> list[str]:
    """The first problems of a command, line by line."""
    if not problems:
        return []
    listed = shorten([visible(one) for one in problems], most)
    return [f"Please check ({len(problems)}):", listed, *[f"All of them are in {SUMMARY}."] * (len(problems) > most)]


def seconds_of(project: Project, report: Report) -> str:
    """The encoder, and the seconds of a command's steps."""
    steps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report.seconds.items())
    return f"Encoder: {project.settings['encoder']}. {steps}".strip()


def _counts(project: Project) -> str:
    statuses = Counter(row.status for row in project.photographs)
    animals = sum(animal.status != "merged" for animal in project.animals)
    parts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in statuses.most_common())
    photographs, rows = len({row.hash for row in project.photographs}), len(project.photographs)
    of = f"{rows} rows, one for each animal on each: " if rows > photographs else ""
    return f"{plural(animals, 'animal')} on {plural(photographs, 'photograph')} ({of}{parts})."


def describe_photographs(project: Project, report: Report) -> list[str]:
    """What is known of the photographs before anything is computed, line by line."""
    rows = project.photographs
    lines = []
    if report.intake is not None:
        completed = f", {report.completed} completed by what is known now" * bool(report.completed)
        read = len({row.hash for row in report.intake.photographs})
        lines.append(
            f"Photographs: {read} read, {report.added} new, {report.moved} at another place than before{completed}."
        )
        lines += report.intake.notes
    sources = Counter({row.hash: row.date_time_source for row in rows}.values())
    dates = sorted(row.date_time[:10] for row in rows if row.date_time)
    if dates:
        known = ", ".join(f"{name} ({number})" for name, number in sources.most_common())
        span = f"from {dates[0]} to {dates[-1]}" if dates[0] < dates[-1] else f"of {dates[0]}"
        lines.append(f"Dates {span}, by {known}.")
    else:
        lines.append("No dates are known: give the column date_time by --table if you have them.")
    sequences = Counter({row.hash: row.sequence for row in rows if row.sequence}.values())
    longer = sum(number > 1 for number in sequences.values())
    lines.append(f"Sequences: {len(sequences)}, {longer} with several photographs; each is assumed to show one animal.")
    several = sum(number > 1 for number in Counter(row.hash for row in rows).values())
    sides = Counter(row.side for row in rows if row.side != "unknown")
    if several:
        lines.append(f"Photographs that show several animals: {several}.")
    if sides:
        lines.append(f"Sides: {', '.join(f'{name} {number}' for name, number in sorted(sides.items()))}.")
    lines += _whole_frames(rows, report)
    if report.intake is not None and report.intake.left_out:
        left = [f"{visible(name)}: {reason}" for name, reason in sorted(report.intake.left_out.items())]
        lines += [f"Files left out ({len(left)}):", shorten(left, MOST)]
        lines += [f"All of them are in {LEFT_OUT}."] * (len(left) > MOST)
    return lines


def _whole_frames(rows: Sequence[Photograph], report: Report) -> list[str]:
    """A sentence if photographs that came in are not cut out by boxes, or without any, those of the project."""
    came = None if report.intake is None else {row.hash for row in report.intake.photographs}
    usable = [row for row in rows if row.usable]
    now = [row for row in usable if came is None or row.hash in came]
    if not now or any(row.box for row in now):
        return []
    cut_out = sum(row.box is not None for row in usable)
    return [WHOLE_FRAMES + f" Earlier photographs are cut out by boxes: {cut_out}." * bool(cut_out)]


def _local(project: Project) -> str:
    patterns = project.patterns
    if sum(row.usable for row in project.photographs) < 2:
        return "Local matches (spots, stripes): none, as they need two photographs."
    if patterns is None:
        return "Local matches (spots, stripes): left out; --local 0.2 compares them, too."
    matched = int((patterns.inliers > 0).sum())
    return (
        f"Local matches (spots, stripes): weight {patterns.weight:g}, {len(patterns.pairs)} pairs compared, {matched} "
        "of them match; --local 0 leaves them out."
    )


def _animals(project: Project, report: Report) -> list[str]:
    grouping = report.grouping
    if grouping is None:
        return []
    if len(grouping.labels) < FEWEST:
        return [f"Number of animals by the grouping: {grouping.groups}. An interval needs {FEWEST} photographs."]
    low, high = grouping.interval
    lines = [
        f"Number of animals by the grouping: {grouping.groups}; {low} to {high} when parts of the features are "
        f"grouped. Stability {grouping.stability:.2f} (agreement with these; it says nothing of accuracy)."
    ]
    if grouping.near_ties:
        others = ", ".join(f"{groups} groups at {radius:g}" for radius, groups in grouping.near_ties)
        lines.append(f"Radius {grouping.radius:g} is a close choice: {others} score almost the same.")
    unsure = sum(value < 0.5 for value in grouping.certainty)
    if unsure:
        lines.append(f"Photographs that change their group in most draws: {unsure}. Look at these first.")
    return lines


def changed(project: Project, changes: Sequence[Change]) -> str:
    """What changes came to, in words, such as "3 photographs moved, 1 new ID"; what was undone again does not count."""
    ends: dict[tuple[str, str], tuple[str, str]] = {}
    for change in changes:
        field = "place" if change.item in project.by_key and change.kind != "side" else change.kind
        before, _ = ends.get((change.item, field), (change.before, ""))
        ends[change.item, field] = before, change.after
    places = {item: ends[item, field] for item, field in ends if field == "place"}
    moved = {item for item, (before, after) in places.items() if _individual(before) != _individual(after)}
    confirmed = sum(after.endswith(" confirmed") > before.endswith(" confirmed") for before, after in places.values())
    merged = [(before == item, after == item) for (item, field), (before, after) in ends.items() if field == "merged"]
    split = {_individual(change.before) for change in changes if change.kind == "split" and change.item in moved}
    told = [end for (_, field), end in ends.items() if field in ("name", "sex", "side") and end[0] != end[1]]
    counts = (
        (len(moved), "photograph", " moved"),
        (confirmed, "photograph", " confirmed"),
        (merged.count((True, False)), "animal", " merged"),
        (merged.count((False, True)), "merge", " undone"),
        (len(split), "animal", " split"),
        (len(ended(project, changes)), "animal", " ended"),
        (sum(field == "new" for _, field in ends), "new ID", ""),
        (len(told), "detail", " (name, sex, side) set"),
    )
    return ", ".join(f"{plural(number, noun)}{rest}" for number, noun, rest in counts if number) or "nothing changed"


def ended(project: Project, changes: Sequence[Change]) -> list[Individual]:
    """Animals that these changes left without photographs, except merged ones."""
    merged = {change.item for change in changes if change.kind == "merged"}
    counted = [change.before for change in changes if change.before.rpartition(" ")[2] in COUNTED]
    left = {_individual(place) for place in counted} - merged
    return [animal for animal in project.animals if animal.individual in left and not animal.photographs]


def _individual(place: str) -> str:
    """The animal of a photograph, in a change."""
    return place.rpartition(" ")[0]
