"""Studies: one configuration in several variants, as the FANCL paper's Table II and Figure 3 have them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from .album import add_picture
from .systems import System
from .tables import RETRIEVAL, cell

PANELS = RETRIEVAL[:2]
# Okabe and Ito's colours, told apart by colour-blind readers, with a marker each.
STYLES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"))


@dataclass(frozen=True)
class Study:
    """Variants of a configuration.

    Attributes:
        name: of its file.
        variants: name -> key -> value.
        x, lines: the keys along the plot's axis and of its lines; None without a plot. A variant that does not set
            `lines` is a point of each line.
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
        ValueError: if the file is missing or is no such file.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"There is no study {path}: check --study.") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML file: {error}.") from error
    if not isinstance(found, dict) or not found.keys() <= {"VARIANTS", "PLOT"} or not _variants(found.get("VARIANTS")):
        raise ValueError(
            f"Expected {path} to hold VARIANTS, names of letters, digits and _ with settings {{KEY: value, ...}}, "
            "and perhaps PLOT: see configs/studies/."
        )
    plot = found.get("PLOT") or {}
    study = Study(path.stem, found["VARIANTS"], plot.get("X"), plot.get("LINES"))
    unknown = {study.x, study.lines} - study.keys - {None}
    if unknown or plot.keys() - {"X", "LINES"} or any(study.x not in v for v in study.variants.values() if study.x):
        raise ValueError(
            f"Expected PLOT of {path} as {{X: KEY, LINES: KEY}} of keys in VARIANTS, X in each of them; got {plot}."
        )
    return study


def _variants(found) -> bool:
    """Whether these are variants: names that can name folders, each with settings."""
    return (
        isinstance(found, dict)
        and bool(found)
        and all(re.fullmatch(r"\w+", str(name)) and isinstance(keys, dict) and keys for name, keys in found.items())
    )


def lines_of(study: Study, systems: Sequence[System]) -> dict[str, list[tuple[float, System]]]:
    """The plot's lines by their name, each the finished systems along `x`.

    Raises:
        ValueError: if a system is none of the study's variants.
    """
    unknown = [system.name for system in systems if system.name not in study.variants]
    if unknown:
        raise ValueError(f"Expected runs of the variants of study {study.name}, got {', '.join(unknown)}.")
    points = [(study.variants[system.name], system) for system in systems if system.runs]
    names = list(dict.fromkeys(str(v[study.lines]) for v, _ in points if study.lines in v)) or [""]
    return {
        name: sorted(
            ((v[study.x], system) for v, system in points if str(v.get(study.lines, name)) == name),
            key=lambda point: point[0],
        )
        for name in names
    }


def plot_study(study: Study, systems: Sequence[System], output: Path) -> Path:
    """Draw mAP and Rank-1 along the study's `x`, a line each value of `lines`, bars of a standard deviation over seeds.

    Returns:
        The picture, which the page of `output` shows.

    Raises:
        ValueError: if matplotlib is not installed, or the folder's index of pictures is damaged.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("The plot of a study needs matplotlib: pip install 'fastreid_fancl[report]'.") from error
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    for axes, column in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for number, (name, points) in enumerate(lines_of(study, systems).items()):
            colour, marker = STYLES[number % len(STYLES)]
            cells = [cell(column, system.runs) for _, system in points]
            axes.errorbar(
                [x for x, _ in points],
                [c.mean for c in cells],
                [c.deviation or 0 for c in cells],
                color=colour, marker=marker, markersize=5, capsize=3, label=f"{study.lines} {name}" if name else None,
            )  # fmt: skip
        axes.set(xlabel=study.x, ylabel=f"{column.title} (%)")
        axes.grid(alpha=0.3)
    if study.lines:
        axes.legend(frameon=False)
    names = " and ".join(column.title for column in PANELS)
    caption = f"{names} of the variants of {study.name} along {study.x}; bars: standard deviation over seeds."
    alt = f"Plots of {names}; the table has them."
    entry = {"kind": "study", "file": f"{study.name}.png", "caption": caption, "alt": alt}
    return add_picture(output, figure, entry, dpi=200)
