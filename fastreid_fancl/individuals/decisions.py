"""What a person decided, applied to a project: each decision changes the animals that it names and no others."""

from collections.abc import Callable, Iterable, Sequence

from ..clustering.constraints import Constraints, Link, linked
from ..data import plural
from ..errors import UserError
from ..escape import visible
from .ledger import Ledger
from .links import active, apart_by, burst
from .project import Project
from .rows import KINDS, KINDS_OF_INDIVIDUALS, Decision, Photograph
from .splitting import split


def add_decisions(project: Project, decisions: Iterable[Decision]) -> tuple[int, list[str]]:
    """Append decisions that are not there yet and apply them, in their order.

    Decisions on photographs or animals that the project lacks are neither recorded nor applied, so that their file can
    be given again.

    Returns:
        How many were new, and what could not be followed, in sentences that name files.

    Raises:
        UserError: if they name photographs, but none of the project.
    """
    decisions = list(decisions)
    _check_own(project, decisions)
    there, problems, new = set(project.decisions), [], 0
    ledger = Ledger(project, "")
    for decision in decisions:
        if decision in there:
            continue
        there.add(decision)
        if missing := _missing(ledger, decision):
            problems.append(f"{_not_followed(decision)}: {missing}.")
            continue
        new += 1
        project.decisions.append(decision)
        ledger.event = decision.when
        problem = _apply(ledger, decision)
        ledger.mark_singles()
        if problem:
            problems.append(f"{_not_followed(decision)}: {problem}.")
    ledger.close()
    return new, problems


def _check_own(project: Project, decisions: Sequence[Decision]) -> None:
    named = {decision.a for decision in decisions if decision.kind in KINDS}
    named |= {key for decision in decisions for key in _shown(decision)}
    if named and named.isdisjoint(project.by_key):
        raise UserError(
            f"The decisions name {plural(len(named), 'photograph')}, such as {visible(min(named))}, but none of them "
            f"is in {visible(project.folder)}: give the file of this project."
        )


def _not_followed(decision: Decision) -> str:
    return f'The decision "{decision.kind}" of {decision.when} is not followed'


def _shown(decision: Decision) -> list[str]:
    """The photographs that a "confirm" names in its value, "2 photographs: KEY KEY"."""
    return decision.value.partition(":")[2].split() if decision.kind == "confirm" else []


def _named(decision: Decision) -> tuple[list[str], list[str]]:
    """The photographs and the animals that a decision names, which is no undo."""
    both = [decision.a, decision.b]
    if decision.kind in ("same", "different", "unsure"):
        return both, []
    if decision.kind in KINDS:
        return both[:1], both[1:] if decision.kind in ("is", "is_not") else []
    return [], both if decision.kind == "merge" else both[:1]


def _missing(ledger: Ledger, decision: Decision) -> str:
    """What a decision names that the project does not have, in words; "" if it has all."""
    if decision.kind == "undo":
        known = {one.when for one in ledger.project.decisions} | {change.event for change in ledger.earlier}
        return "" if decision.a in known else "there is nothing to undo; first give the file with what it takes back"
    (keys, animals), shown = _named(decision), _shown(decision)
    missing = [f"photograph {visible(key)}" for key in keys if key not in ledger.rows]
    missing += [f"animal {visible(animal)}" for animal in animals if animal not in ledger.animals]
    missing += [f"photograph {visible(shown[0])}"] if shown and ledger.rows.keys().isdisjoint(shown) else []
    return f"there is no {missing[0]}; give this file again once the photographs are there" if missing else ""


def _apply(ledger: Ledger, decision: Decision) -> str:
    """Apply one decision; why it cannot be, or ""."""
    kind = decision.kind
    if kind == "undo":
        return _undo(ledger, decision)
    if kind in KINDS_OF_INDIVIDUALS:
        return _of_individual(ledger, decision)
    return APPLY[kind](ledger, decision)


def _undo(ledger: Ledger, decision: Decision) -> str:
    if not ledger.earlier + ledger.changes:
        return "changes.csv is missing, so that nothing says what it changed"
    stay = ledger.undo(decision.a, f"undone on {decision.when}")
    return f"what was changed again since then stays: {len(stay)}, such as {stay[0]}" if stay else ""


def _of_individual(ledger: Ledger, decision: Decision) -> str:
    a, said = ledger.current(decision.a), f"you said so on {decision.when}"
    if decision.kind == "merge":
        return _merge(ledger, a, ledger.current(decision.b), said)
    if decision.kind == "confirm":
        return _confirm(ledger, a, decision, said)
    ledger.set_field(a, decision.kind, decision.value, said)
    return ""


def _confirm(ledger: Ledger, individual: str, decision: Decision, reason: str) -> str:
    """Confirm the photographs of an animal that the page showed: "2 photographs: KEY KEY".

    The page lists the photographs that it showed, because nothing else records what the person saw: the page may be
    days old, the animal may have gained photographs since, and the clocks of two computers may differ. A decision that
    lists none, such as one written by hand, confirms all photographs of the animal.
    """
    shown = set(_shown(decision))
    if decision.value and not shown:
        return "the value names no photographs; leave it empty to confirm all"
    keys = [row.key for row in ledger.counted(individual) if row.key in shown or not shown]
    ledger.move(keys, individual, "confirmed", "status", reason)
    return "" if keys or not shown else f"{individual} has none of the photographs that the page showed"


def _merge(ledger: Ledger, gone: str, kept: str, reason: str) -> str:
    if gone == kept:
        return ""
    objection = _objection(ledger, gone, kept)
    if not objection:
        ledger.merge(gone, kept, reason)
        _release(ledger, kept, reason)
    return objection


def _release(ledger: Ledger, individual: str, reason: str) -> None:
    """Take an animal from the unsure photographs that are known not to show it, since one was merged into it."""
    rejected = ledger.rejected
    for key in sorted(ledger.members[individual]):
        if not ledger.rows[key].counts and individual in rejected.get(key, ()):
            ledger.move([key], "", ledger.rows[key].status, "moved", reason)


def _objection(ledger: Ledger, one: str, other: str) -> str:
    """Why two animals cannot be one: a decision that holds, or two boxes of one photograph; by the names of files."""
    a, b = ({row.key: row for row in ledger.counted(name)} for name in (one, other))
    for decision in active(ledger.project.decisions):
        for first, second in ((a, b), (b, a)):
            if decision.kind == "different" and decision.a in first and decision.b in second:
                paths = first[decision.a].path, second[decision.b].path
                said = f"you said on {decision.when} that {paths[0]} and {paths[1]} differ"
                return f"{one} and {other} stay apart, as {said}: undo that first, then decide again"
    rejected = ledger.rejected
    for rows, animal in ((a, other), (b, one)):
        for row in rows.values():
            if when := rejected.get(row.key, {}).get(animal):
                return f"{one} and {other} stay apart, as {_said_not(row, animal, when)}"
    shared = {row.hash: row for row in a.values()}
    both = next((row for row in b.values() if row.hash in shared), None)
    return f"{one} and {other} are both on {both.path}" if both else ""


def _said_not(row: Photograph, individual: str, when: str) -> str:
    return f"you said on {when} that {row.path} is not {individual}: undo that first, then decide again"


def _burst(ledger: Ledger, row: Photograph) -> list[str]:
    """The photographs that move with one: see `links.burst`. The decision that moves it may say that it goes alone."""
    sequence = [ledger.rows[key] for key in ledger.of_sequence.get(row.sequence, ())]
    return burst(row, sequence, apart_by(active(ledger.project.decisions)))


def _join(ledger: Ledger, keys: Iterable[str], home: str, reason: str) -> None:
    """Confirm photographs for an animal, except for those that show it in another box."""
    for key in keys:
        if not _in_other_box(ledger, ledger.rows[key], home):
            ledger.move([key], home, "confirmed", "joins", reason)


def _in_other_box(ledger: Ledger, row: Photograph, home: str) -> str:
    """Why a photograph cannot join an animal: it shows it in another box already; or ""."""
    twice = any(other.hash == row.hash and other.key != row.key for other in ledger.counted(home))
    return f"{home} is on {row.path} already, in another box" if twice else ""


def _same(ledger: Ledger, decision: Decision) -> str:
    one, other = ledger.rows[decision.a], ledger.rows[decision.b]
    said = f"you said on {decision.when} that {one.path} and {other.path} are the same"
    homes = [row.individual if row.counts else "" for row in (one, other)]
    if one.hash == other.hash:
        return f"both are on {one.path}, which shows two animals"
    if all(homes) and homes[0] != homes[1]:
        kept, gone = sorted(homes, key=lambda name: (_unconfirmed(ledger, name), name))
        objection = _merge(ledger, gone, kept, said)
        if objection:
            return objection
    home = next((ledger.current(name) for name in homes if name), "") or ledger.new_animal(said)
    for row in (one, other):
        when = "" if row.individual == home else ledger.rejected.get(row.key, {}).get(home)
        objection = _said_not(row, home, when) if when else _in_other_box(ledger, row, home)
        if objection:
            return objection
    coming = [row.key for row in (one, other) if row.individual != home or not row.counts]
    bursts = [mate for key in coming for mate in _burst(ledger, ledger.rows[key])]
    _join(ledger, [one.key, other.key, *bursts], home, said)
    return ""


def _unconfirmed(ledger: Ledger, individual: str) -> bool:
    return not any(row.status == "confirmed" for row in ledger.counted(individual))


def _different(ledger: Ledger, decision: Decision) -> str:
    one, other = ledger.rows[decision.a], ledger.rows[decision.b]
    if not (one.counts and other.counts and one.individual == other.individual):
        return ""
    said = f"you said on {decision.when} that {one.path} and {other.path} differ"
    rows = ledger.counted(one.individual)
    objection = _said_same(rows, active(ledger.project.decisions), one.key, other.key)
    if objection:
        return objection
    parts, held = split(ledger.project, rows, one.key, other.key)
    for part in parts[1:]:
        name = ledger.new_animal(said)
        for key in part:
            # What likeness alone moves is a proposal, even if it was confirmed for the animal that it leaves.
            status = ledger.rows[key].status if key in held else "proposed"
            ledger.move([key], name, status, "split", said)
    return ""


def _said_same(rows: Sequence[Photograph], decisions: Iterable[Decision], one: str, other: str) -> str:
    """The "same" by which two photographs of an animal must be one, perhaps over further ones; or ""."""
    number = {row.key: n for n, row in enumerate(rows)}
    same = [
        Link(number[decision.a], number[decision.b], decision.when)
        for decision in decisions
        if decision.kind == "same" and {decision.a, decision.b} <= number.keys()
    ]
    _, refused = linked(len(rows), Constraints(same, [Link(number[one], number[other], "")]))
    if not refused:
        return ""
    a, b, when = refused[0].link
    return f"you said on {when} that {rows[a].path} and {rows[b].path} are the same: undo that first, then decide again"


def _is(ledger: Ledger, decision: Decision) -> str:
    home, row = ledger.current(decision.b), ledger.rows[decision.a]
    objection = _in_other_box(ledger, row, home)
    if not objection:
        _join(ledger, _burst(ledger, row), home, f"you said so on {decision.when}")
    return objection


def _is_not(ledger: Ledger, decision: Decision) -> str:
    row = ledger.rows[decision.a]
    if row.individual != ledger.current(decision.b):
        return ""
    second = ledger.current(row.second)
    other = "" if second in ledger.rejected[row.key] else second
    ledger.move(
        _burst(ledger, row), other, "unsure", "moved", f"you said on {decision.when} that it is not {decision.b}"
    )
    return ""


def _new(ledger: Ledger, decision: Decision) -> str:
    row, said = ledger.rows[decision.a], f"you said so on {decision.when}"
    keys = _burst(ledger, row)
    alone = row.counts and {other.key for other in ledger.counted(row.individual)} == set(keys)
    home = row.individual if alone else ledger.new_animal(said)
    ledger.move(keys, home, "confirmed", "joins", said)
    return ""


def _not_animal(ledger: Ledger, decision: Decision) -> str:
    ledger.move([decision.a], "", "not_animal", "moved", f"you said so on {decision.when}")
    ledger.clear_note(decision.a)  # by which a detector could find an animal later
    return ""


def _side(ledger: Ledger, decision: Decision) -> str:
    ledger.set_side(decision.a, decision.value, f"you said so on {decision.when}")
    return ""


APPLY: dict[str, Callable[[Ledger, Decision], str]] = {
    "same": _same,
    "different": _different,
    "unsure": lambda ledger, decision: "",
    "is": _is,
    "is_not": _is_not,
    "new": _new,
    "not_animal": _not_animal,
    "side": _side,
}
