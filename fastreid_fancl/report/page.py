"""The page of a comparison: one HTML file that works offline, with a keyboard and with screen readers."""

import base64
import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import jinja2
from markupsafe import Markup

from ..colours import SERIES
from ..errors import UserError
from ..escape import visible
from ..files import make_folder, write_text
from ..runs.read import Run
from ..runs.settings import differences
from .album import TITLES, album
from .curves import PLOTS, Plot, identities, lines
from .statistics import LEVEL, RESAMPLES, SCORES, Difference, differences_by_baseline
from .systems import System, check_baseline, describe
from .tables import BUDGET, FURTHER, NOTES, RETRIEVAL, budgets, equal_budgets, failures, rows

logger = logging.getLogger(__name__)

PAGE = "report.html"
TEMPLATES = Path(__file__).with_name("templates")
# A system looks the same in all plots: number n has the n-th colour (of SERIES), dash (in pixels) and marker (plotly's
# names, drawn in page.html); each list starts again at its end. The lengths have no common divisor, so that systems
# with the same colour differ in dash or marker.
DASHES = ("", "8,4", "2,3", "10,3,2,3", "5,2,2,2")
MARKERS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x")


def write_page(systems: Sequence[System], output: Path, baseline: str | None = None) -> Path:
    """Write report.html; it compares the systems with `baseline`, or with the first system that has results.

    Raises:
        UserError: if there is no system `baseline`, or no plotly.
    """
    make_folder(output)
    text = page(systems, choose_baseline(systems, baseline), output)
    write_text(output / PAGE, text)
    return output / PAGE


def choose_baseline(systems: Sequence[System], name: str | None) -> str:
    """The name of the system to compare the others with; empty where there are no results."""
    check_baseline(name, (system.name for system in systems))
    known = [system.name for system in systems if system.runs]
    if name is not None and name not in known:
        logger.warning("The baseline %s has no finished run: the page compares with the first system that has.", name)
    return name if name in known else next(iter(known), "")


def page(systems: Sequence[System], baseline: str, output: Path) -> str:
    """The page's HTML, with the pictures of the runs and of the folder `output`."""
    scripts = [plotting_library(), (TEMPLATES / "page.js").read_text(encoding="utf-8")]
    runs = [run for system in systems for run in system.runs]
    pictures = album(runs, output)
    template = environment(TEMPLATES).get_template("page.html")
    return template.render(
        policy=policy(scripts),
        style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8") + series_css()),
        scripts=map(Markup, scripts),
        data=data(systems, baseline),
        described=describe(runs[0].datasets) if runs else "",
        facts=facts(runs),
        tables={"retrieval": RETRIEVAL, "further": FURTHER, "budget": BUDGET},
        rows=lambda columns: rows(systems, columns),
        smallest=min,
        level=LEVEL,
        resamples=RESAMPLES,
        notes=NOTES,
        budgets=budgets(systems),
        equal=equal_budgets(systems),
        study=pictures.pop(TITLES["study"], []),
        album=pictures,
        settings=settings(systems),
        runs=runs,
        versions=versions,
        unfinished=any(system.unfinished for system in systems),
        mixed=len({versions(run.starts) for run in runs}) > 1,
        failures=failures(systems),
    )


def environment(templates: Path) -> jinja2.Environment:
    """The templates of a folder, and head.html of this one; they escape all, and write control characters visibly."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([templates, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str or isinstance(value, Path) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def series_css() -> str:
    """The colours of the systems as variables --series-0 and so on."""
    colours = (f"--series-{number}: light-dark({', '.join(pair)});" for number, pair in enumerate(SERIES))
    return f":root {{ {' '.join(colours)} }}\n"


def plotting_library() -> str:
    """The JavaScript of plotly.

    Raises:
        UserError: if plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise UserError(
            f"{PAGE} draws with plotly, which is not installed: pip install 'fastreid_fancl[report]'."
        ) from None
    return get_plotlyjs()


def policy(scripts: Iterable[str], images: str = "data: blob:") -> str:
    """A Content-Security-Policy that allows only these scripts and loads only `images` (plotly sets styles)."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src {images}; base-uri 'none'; "
        "form-action 'none'"
    )


def data(systems: Sequence[System], baseline: str) -> dict:
    """The data that page.js shows and draws."""
    return {
        "baseline": baseline,
        "scores": list(SCORES),
        "systems": [
            {"name": system.name, "seeds": seeds(system), "unfinished": bool(system.unfinished), **line_style(number)}
            for number, system in enumerate(systems)
            if system.runs or system.unfinished
        ],
        "differences": {
            other: {name: {score: with_text(each) for score, each in scores.items()} for name, scores in versus.items()}
            for other, versus in differences_by_baseline(systems).items()
        },
        "plots": [plot_data(plot, systems) for plot in PLOTS],
    }


def seeds(system: System) -> dict[int, str]:
    """The names of a system's runs that have curves, by seed."""
    return {run.seed: title(run.seed, run in system.unfinished) for run in (*system.runs, *system.unfinished)}


def title(seed: int, unfinished: bool) -> str:
    """The name of a run within its system."""
    return f"seed {seed}" + ", unfinished" * unfinished


def plot_data(plot: Plot, systems: Sequence[System]) -> dict:
    """A plot's lines with a value or None for each epoch; `level` is a horizontal line for reference."""
    drawn = lines(plot, systems)
    epochs = sorted({epoch for line in drawn for epoch in line.values})
    return {
        "axis": plot.axis,
        "digits": plot.digits,
        "epochs": epochs,
        "lines": [
            {
                "system": line.system,
                "seed": line.seed,
                "title": title(line.seed, line.unfinished),
                "unfinished": line.unfinished,
                "values": [line.values.get(epoch) for epoch in epochs],
            }
            for line in drawn
        ],
        "level": identities(systems) if plot.name == "Clusters" else None,
    }


def line_style(number: int) -> dict[str, str | int]:
    """The colour, dash and marker of a system."""
    return {
        "colour": number % len(SERIES),
        "dash": DASHES[number % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)],
    }


def with_text(difference: Difference | str) -> dict:
    """A difference with its text; an arrow marks an interval that excludes zero."""
    if isinstance(difference, str):
        return {"text": f"none: {difference}"}
    arrow = "▲ " if difference.low > 0 else "▼ " if difference.high < 0 else ""
    mean, low, high = map(signed, (difference.mean, difference.low, difference.high))
    return {"text": f"{arrow}{mean} [{low}, {high}]", **asdict(difference)}


def signed(value: float) -> str:
    """A number with sign and one decimal; with a typographic minus sign, and 0.0 without a sign."""
    return f"{value:+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0").replace("-", "\N{MINUS SIGN}")


def facts(runs: Sequence[Run]) -> dict[str, str]:
    """Facts about all runs together, in words."""
    starts = [start for run in runs for start in run.starts]
    return {
        "Systems": str(len({run.system for run in runs})),
        "Finished runs": str(len(runs)),
        "Seeds": joined(sorted({run.seed for run in runs})),
        "Queries": joined(len(run.queries) for run in runs if run.queries),
        "Commit": joined(commit for run in runs for commit in run.commits),
        "Machine": joined(start["machine"] for start in starts),
        "Versions": versions(starts),
    }


def versions(starts: Iterable[dict]) -> str:
    """The versions of packages at the starts of runs, in words."""
    return joined("\N{NO-BREAK SPACE}".join(version) for start in starts for version in start["versions"].items())


def joined(values: Iterable) -> str:
    """The distinct values, separated by commas."""
    return ", ".join(dict.fromkeys(map(str, values))) or "unknown"


def settings(systems: Sequence[System]) -> dict[str, dict[str, list[str]]]:
    """The settings in which systems differ: key -> value -> systems with it, the most common value first."""
    known = [system for system in systems if system.runs]
    groups: dict[str, dict[str, list[str]]] = {}
    for key, values in differences(*(system.runs[0].config for system in known)).items() if known else ():
        sharing: dict[str, list[str]] = {}
        for system, value in zip(known, values, strict=True):
            sharing.setdefault(visible(value), []).append(system.name)
        groups[visible(key)] = dict(sorted(sharing.items(), key=lambda item: -len(item[1])))
    return groups
