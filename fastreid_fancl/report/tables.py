"""Tables of a comparison in the form of the FANCL paper's Table III: CSV, Markdown and LaTeX."""

import csv
import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..escape import csv_cell, visible
from ..escape import markdown as escape_markdown
from ..files import make_folder, write_text
from ..runs.read import Run
from .systems import GROUPS, Missing, System, describe, describe_test


@dataclass(frozen=True)
class Column:
    """A column: its title, its value in a run (None if there is none), decimals, and `max` or `min` for the best."""

    title: str
    value: Callable[[Run], float | None]
    digits: int = 1
    best: Callable | None = None


def score(name: str) -> Column:
    """A metric of the last evaluation, in percent."""
    return Column(name, lambda run: run.last.scores.get(name) if run.last else None, best=max)


def grouped(title: str, name: str, digits: int, best: Callable | None = None) -> Column:
    """The value of a score of the test photographs' groups in the last evaluation."""
    return Column(title, lambda run: run.last.scores.get(name) if run.last else None, digits, best)


def clustered(title: str, name: str, digits: int, best: Callable | None = None) -> Column:
    """The value of a number of the last epoch's clustering."""
    return Column(title, lambda run: None if run.supervised else run.clustering.get(name), digits, best)


PEAK_MEMORY = Column("Peak memory (GiB)", lambda run: run.peak_memory, 2, min)
RETRIEVAL = (score("mAP"), score("Rank-1"), score("Rank-5"), score("Rank-10"))
FURTHER = (
    score("mINP"),
    grouped("Test ARI", "ARI", 3, max),
    grouped("Test purity", "Purity", 3),
    grouped("Test homogeneity", "homogeneity", 3),
    grouped("Test completeness", "completeness", 3),
    grouped("Test groups", "groups", 1),
    grouped("Test animals", "animals", 0),
    grouped("Test ungrouped", "ungrouped", 1),
    clustered("ARI", "ari", 3, max),
    clustered("NMI", "nmi", 3, max),
    clustered("Clusters", "clusters", 1),
    clustered("Identities", "identities", 0),
    clustered("Left out", "left_out", 1),
    Column("Seconds per epoch", lambda run: run.seconds_per_epoch, 1, min),
    PEAK_MEMORY,
)
BUDGET = (
    Column("Epochs", lambda run: len(run.epochs), 0),
    Column("Iterations", lambda run: run.iterations, 0),
    Column("Images seen", lambda run: run.images_seen, 0),
    Column("Seconds", lambda run: run.seconds, 0),
    PEAK_MEMORY,
)
COLUMNS = tuple(dict.fromkeys((*RETRIEVAL, *FURTHER, *BUDGET)))
NOTES = (
    "Evaluation after the last epoch. ± is the standard deviation over seeds (n - 1), omitted where all seeds have "
    "the same whole number. Bold: best of its group. Columns named Test score the groups of the test photographs, "
    "counting each ungrouped image as its own group. ARI, NMI, clusters, identities and left out describe the last "
    "clustering in training; ARI and NMI cover the clustered images only. "
    "Seconds per epoch exclude evaluation; parallel runs slow each other down."
)


@dataclass(frozen=True)
class Cell:
    """Mean and deviation over the seeds; None without values, no deviation for one seed; `best` in its group or not."""

    mean: float | None
    deviation: float | None
    digits: int
    best: bool = False

    @property
    def text(self) -> str:
        return "" if self.mean is None else f"{self.mean:,.{self.digits}f}"

    @property
    def spread(self) -> str:
        """The deviation in words; "" for a whole number that all seeds share, such as epochs."""
        unsaid = self.deviation is None or self.deviation == self.digits == 0
        return "" if unsaid else f"{self.deviation:,.{self.digits}f}"


def cell(column: Column, runs: Sequence[Run]) -> Cell:
    """A column's mean over runs and its sample standard deviation."""
    return summary([value for value in map(column.value, runs) if value is not None], column.digits)


def summary(values: Sequence[float], digits: int = 1) -> Cell:
    """The mean and the sample standard deviation of values."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Cell(statistics.fmean(values) if values else None, deviation, digits)


@dataclass(frozen=True)
class Row:
    """A system with its cells."""

    system: System
    cells: tuple[Cell, ...]

    @property
    def label(self) -> str:
        """The system's name, with the number of finished seeds if some are missing."""
        name, finished, missing = self.system.name, len(self.system.runs), len(self.system.missing)
        return f"{name} ({finished} of {finished + missing} seeds)" if missing else name


def rows(systems: Sequence[System], columns: Sequence[Column]) -> dict[str, list[Row]]:
    """The rows of a table by group, in the order of `place`, or else by mAP as in Table III, with best cells marked."""
    groups: dict[str, list[Row]] = {}
    for group in GROUPS:
        own = sorted((system for system in systems if system.group == group), key=_order)
        if own:
            groups[group] = _mark_best([Row(s, tuple(cell(c, s.runs) for c in columns)) for s in own], columns)
    return groups


def _order(system: System) -> float:
    if system.place is not None:
        return system.place
    mean = cell(RETRIEVAL[0], system.runs).mean
    return float("-inf") if mean is None else mean


def _mark_best(group: list[Row], columns: Sequence[Column]) -> list[Row]:
    """Mark the best cells of each column; cells that print alike are equal."""
    winners = []
    for number, column in enumerate(columns):
        known = [row.cells[number] for row in group if row.cells[number].text]
        winners.append(column.best(known, key=lambda cell: cell.mean).text if column.best and known else None)
    return [
        replace(row, cells=tuple(replace(c, best=c.text == best) for c, best in zip(row.cells, winners, strict=True)))
        for row in group
    ]


def markdown(systems: Sequence[System], columns: Sequence[Column]) -> str:
    """A table in Markdown, with a line before each group."""
    lines = [("Method", *(column.title for column in columns)), ("---", *("---:" for _ in columns))]
    for group, own in rows(systems, columns).items():
        lines.append((f"*{group}*", *("" for _ in columns)))
        lines += [(escape_markdown(row.label), *map(markdown_cell, row.cells)) for row in own]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_cell(cell: Cell) -> str:
    """The mean, in bold if it is the best, and the deviation."""
    text = f"**{cell.text}**" if cell.best else cell.text
    return f"{text} ± {cell.spread}" if cell.spread else text


def latex(systems: Sequence[System], columns: Sequence[Column], caption: str) -> str:
    """A table in LaTeX that needs no package."""
    lines = [
        r"\begin{table}",
        rf"\caption{{{escape(caption)}}}",
        r"\centering",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\hline",
        " & ".join(("Method", *(escape(column.title) for column in columns))) + r" \\",
    ]
    for group, own in rows(systems, columns).items():
        lines += [r"\hline", rf"\multicolumn{{{len(columns) + 1}}}{{l}}{{{group}}} \\"]
        lines += [" & ".join((escape(row.label), *map(_latex_cell, row.cells))) + r" \\" for row in own]
    return "\n".join((*lines, r"\hline", r"\end{tabular}", r"\end{table}"))


def _latex_cell(cell: Cell) -> str:
    text = rf"\textbf{{{cell.text}}}" if cell.best else cell.text
    return rf"{text} $\pm$ {cell.spread}" if cell.spread else text


def escape(text: str) -> str:
    """Text, as `visible`, with LaTeX's special characters made plain."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(char, "\\" + char if char in "_%&#$" + "{}" else char) for char in visible(text))


def summary_csv(systems: Sequence[System]) -> str:
    """CSV with a row per system: group, seeds, test, and each column's mean and deviation over the seeds."""
    titles = [title for column in COLUMNS for title in (column.title, f"{column.title} deviation")]
    table = [("system", "group", "seeds", "missing", *titles, "tested on")]
    for system in systems:
        cells = [cell(column, system.runs) for column in COLUMNS]
        numbers = [_number(value) for entry in cells for value in (entry.mean, entry.deviation)]
        test = describe_test(system.runs[0].datasets) if system.runs else ""
        table.append((system.name, system.group, len(system.runs), len(system.missing), *numbers, test))
    return _csv(table)


def runs_csv(systems: Sequence[System]) -> str:
    """CSV with a row per run: system, group, seed, state, folder, commit, test, and the value of each column."""
    titles = [column.title for column in COLUMNS]
    table = [("system", "group", "seed", "state", "folder", "commit", *titles, "tested on")]
    for system in systems:
        for run in system.runs:
            values = [_number(column.value(run)) for column in COLUMNS]
            own = (str(run.folder), " ".join(run.commits))
            table.append((system.name, system.group, run.seed, "finished", *own, *values, describe_test(run.datasets)))
        table += [(entry.system, system.group, entry.seed, entry.reason) for entry in system.missing]
    return _csv(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"


def _csv(table: list[tuple]) -> str:
    text = io.StringIO(newline="")
    width = len(table[0])
    cells = ([*map(csv_cell, row), *[""] * (width - len(row))] for row in table)
    csv.writer(text, lineterminator="\n").writerows(cells)
    return text.getvalue()


def report(systems: Sequence[System]) -> str:
    """The comparison in Markdown: retrieval as in Table III, further columns, budgets, runs without results."""
    runs = [run for system in systems for run in system.runs]
    parts = ["# Comparison"]
    if runs:
        seeds = ", ".join(map(str, sorted({run.seed for run in runs})))
        commits = ", ".join(dict.fromkeys(commit for run in runs for commit in run.commits)) or "unknown"
        described, commits = map(escape_markdown, (describe(runs[0].datasets), commits))
        parts.append(f"Every system was {described}. Seeds: {seeds}. Commit: {commits}.")
    parts += [markdown(systems, RETRIEVAL), NOTES, markdown(systems, FURTHER)]
    if runs:
        parts += ["## Budgets", escape_markdown(budgets(systems)), markdown(systems, BUDGET)]
    if failed := failures(systems):
        listed = (map(escape_markdown, entry) for entry in failed.items())
        parts += [f"## {GROUPS[-1]}", "\n".join(f"- {runs}: {reason}" for runs, reason in listed)]
    return "\n\n".join(parts) + "\n"


def equal_budgets(systems: Sequence[System]) -> bool:
    """Whether all runs had the same number of iterations and images."""
    return len({(run.iterations, run.images_seen) for system in systems for run in system.runs}) < 2


def budgets(systems: Sequence[System]) -> str:
    """The budgets of the systems in a sentence, the most common one first."""
    sharing: dict[str, list[str]] = {}
    for system in systems:
        if system.runs:
            iterations, images = (
                _span([getattr(run, name) for run in system.runs]) for name in ("iterations", "images_seen")
            )
            sharing.setdefault(f"{iterations} iterations and {images} images seen", []).append(system.name)
    if equal_budgets(systems):
        return f"The budgets of all systems are equal: {next(iter(sharing), 'none')}."
    by_size = sorted(sharing.items(), key=lambda item: -len(item[1]))
    listed = "; ".join(f"{words} ({', '.join(names)})" for words, names in by_size)
    return f"The budgets are not equal: {listed}."


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def failures(systems: Sequence[System]) -> dict[str, str]:
    """Runs without results -> the reason; seeds of a system with the same reason share an entry."""
    alike: dict[tuple[str, str], list[Missing]] = {}
    for entry in (entry for system in systems for entry in system.missing):
        reason = entry.reason.replace(f"seed_{entry.seed}", "seed_*")
        alike.setdefault((entry.system, reason), []).append(entry)
    reasons = {}
    for (name, reason), own in alike.items():
        if len(own) == 1:
            reasons[f"{name}, seed {own[0].seed}"] = own[0].reason
        else:
            reasons[f"{name}, seeds {', '.join(str(entry.seed) for entry in own)}"] = reason
    return reasons


def write_tables(systems: Sequence[System], output: Path) -> str:
    """Write comparison.csv, runs.csv, comparison.md and comparison.tex; return the Markdown."""
    text = report(systems)
    data = next((describe(run.datasets) for system in systems for run in system.runs), "")
    tables = (
        latex(systems, RETRIEVAL, f"Comparison of methods (%). Each was {data}."),
        latex(systems, FURTHER, "The same runs: clustering and cost."),
    )
    make_folder(output)
    contents = {
        "comparison.csv": summary_csv(systems),
        "runs.csv": runs_csv(systems),
        "comparison.md": text,
        "comparison.tex": "\n\n".join(tables) + "\n",
    }
    for name, content in contents.items():
        write_text(output / name, content)
    return text
