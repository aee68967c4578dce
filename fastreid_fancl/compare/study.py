"""Studies: one configuration in several variants, as the FANCL paper's Table II and Figure 3 have them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

import yaml

from ..colours import SERIES
from ..config.repeated_keys import refuse_repeated_keys
from ..errors import UserError
from ..files import looked_for
from ..report.album import add_picture
from ..report.systems import System
from ..report.tables import RETRIEVAL, Cell, cell
from ..runs.checked import NO_YAML

PANELS = RETRIEVAL[:2]
STYLES = tuple(zip((on_white for on_white, _ in SERIES), "os^D", strict=False))


@dataclass(frozen=True)
class Study:
    """Variants of a configuration.

    Attributes:
        name: the name of its file.
        variants: name -> key -> value.
        x, lines: the key along the plot's axis, whose values are numbers, and the key that distinguishes its lines;
            without `x` the variants stand side by side. A variant that does not set `lines` is a point of each line.
    """

    name: str
    variants: dict[str, dict[str, object]]
    x: str | None = None
    lines: str | None = None

    @property
    def keys(self) -> set[str]:
        """All keys that the variants set."""
        return set().union(*self.variants.values())

    def options(self, variant: str) -> list[str]:
        """The settings of a variant, as KEY VALUE ..."""
        return [str(word) for pair in self.variants[variant].items() for word in pair]


def read_study(path: Path) -> Study:
    """Read a study from a YAML file with VARIANTS (name: {KEY: value, ...}) and, for a plot, PLOT {X: KEY, LINES: KEY}.

    Raises:
        UserError: if the file is missing or is not a study.
    """
    refuse_repeated_keys(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"There is no study {path}{looked_for(path)}: check --study.") from error
    except (*NO_YAML, OSError) as error:
        raise UserError(f"{path} is not a YAML file: {error}.") from error
    if (
        not isinstance(content, dict)
        or not content.keys() <= {"VARIANTS", "PLOT"}
        or not _variants(content.get("VARIANTS"))
    ):
        raise UserError(
            f"Expected {path} to hold VARIANTS, names of letters, digits and _ with settings {{KEY: value, ...}}, "
            "and perhaps PLOT: see configs/studies/."
        )
    plot = content.get("PLOT") or {}
    variants = {str(name): keys for name, keys in content["VARIANTS"].items()}
    study = Study(path.stem, variants, plot.get("X"), plot.get("LINES"))
    unknown = {study.x, study.lines} - study.keys - {None}
    along = [keys.get(study.x) for keys in variants.values() if study.x]
    if unknown or plot.keys() - {"X", "LINES"} or not all(isinstance(x, int | float) for x in along):
        raise UserError(
            f"Expected PLOT of {path} as {{X: KEY, LINES: KEY}} of keys in VARIANTS, X a number in each of them; got "
            f"{plot}."
        )
    return study


def in_order(study: Study, systems: Sequence[System]) -> list[System]:
    """Sort systems in the order of the study's file, which tables then keep.

    Raises:
        UserError: if a system is not one of the study's variants.
    """
    names = list(study.variants)
    unknown = [system.name for system in systems if system.name not in names]
    if unknown:
        raise UserError(f"Expected runs of the variants of study {study.name}, got {', '.join(unknown)}.")
    placed = [replace(system, place=names.index(system.name)) for system in systems]
    return sorted(placed, key=lambda system: system.place)


def _variants(variants) -> bool:
    """Whether `variants` is a dictionary of settings by names that can be folder names."""
    return (
        isinstance(variants, dict)
        and bool(variants)
        and all(re.fullmatch(r"\w+", str(name)) and isinstance(keys, dict) and keys for name, keys in variants.items())
    )


def lines_of(study: Study, systems: Sequence[System]) -> dict[str, list[tuple[float, System]]]:
    """The lines of the plot by name: the finished variants of each, sorted by `x`."""
    points = [(study.variants[system.name], system) for system in systems if system.runs]
    names = list(dict.fromkeys(str(v[study.lines]) for v, _ in points if study.lines in v)) or [""]
    return {
        name: sorted(
            ((v[study.x], system) for v, system in points if str(v.get(study.lines, name)) == name),
            key=lambda point: point[0],
        )
        for name in names
    }


def figure_class() -> type:
    """Matplotlib's Figure.

    Raises:
        UserError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("The plot of a study needs matplotlib: pip install 'fastreid_fancl[report]'.") from error
    return Figure


def plot_study(study: Study, systems: Sequence[System], output: Path) -> Path:
    """Plot mAP and Rank-1 of a study's variants; bars show the standard deviation over seeds.

    The axis is the study's `x`, with a line for each value of `lines`; without `x` the variants stand side by side.

    Returns:
        The picture, which the page of `output` shows.

    Raises:
        UserError: if matplotlib is not installed, or the folder's index of pictures is damaged.
    """
    figure = figure_class()(figsize=(7.2, 2.9), layout="constrained")
    for axes, column in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        if study.x:
            for style, (name, points) in zip(cycle(STYLES), lines_of(study, systems).items(), strict=False):
                label = f"{study.lines} {name}" if name else None
                _draw(axes, [(x, cell(column, system.runs)) for x, system in points], style, "-", label)
            axes.set_xlabel(study.x)
        else:
            _draw(axes, [(n, cell(column, system.runs)) for n, system in enumerate(systems)], STYLES[0], "none")
            axes.set_xticks(range(len(systems)), [system.name.replace("_", "\n") for system in systems])
            axes.margins(x=0.1)
        axes.set_ylabel(f"{column.title} (%)")
        axes.grid(alpha=0.3)
    if study.lines:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    names = " and ".join(column.title for column in PANELS)
    along = f" along {study.x}" if study.x else ""
    caption = f"{names} of the variants of {study.name}{along}; bars: standard deviation over seeds."
    alt = f"Plots of {names}; the table has them."
    entry = {"kind": "study", "file": f"{study.name}.png", "caption": caption, "alt": alt}
    return add_picture(output, figure, entry, dpi=200)


def _draw(axes, points: list[tuple[float, Cell]], style: tuple[str, str], line: str, label: str | None = None) -> None:
    """Draw points with error bars; points without an evaluation are left out."""
    known = [(x, value) for x, value in points if value.mean is not None]
    means, deviations = ([getattr(value, name) or 0 for _, value in known] for name in ("mean", "deviation"))
    colour, marker = style
    axes.errorbar(
        [x for x, _ in known], means, deviations,
        color=colour, marker=marker, markersize=5, capsize=3, linestyle=line, label=label,
    )  # fmt: skip
