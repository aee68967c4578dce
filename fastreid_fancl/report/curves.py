"""The numbers that a comparison plots over the epochs; the page draws them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..runs.read import Epoch, Run
from .systems import System


@dataclass(frozen=True)
class Plot:
    """A plot: its name, the title of its axis, its decimals and its value after an epoch (None if there is none)."""

    name: str
    axis: str
    digits: int
    value: Callable[[Epoch], float | None]
    clustering: bool = False


PLOTS = (
    Plot("mAP", "mAP (%)", 1, lambda epoch: epoch.scores.get("mAP")),
    Plot("Clusters", "Clusters", 0, lambda epoch: epoch.clustering.get("clusters"), clustering=True),
    Plot("ARI", "Adjusted Rand index", 3, lambda epoch: epoch.clustering.get("ari"), clustering=True),
)


@dataclass(frozen=True)
class Line:
    """A run in a plot: epoch, from 1, -> value."""

    system: str
    seed: int
    values: dict[int, float]
    unfinished: bool


def lines(plot: Plot, systems: Sequence[System]) -> list[Line]:
    """The runs of all systems that have values in a plot."""
    drawn = [
        line(plot, run, unfinished)
        for system in systems
        for runs, unfinished in ((system.runs, False), (system.unfinished, True))
        for run in runs
    ]
    return [each for each in drawn if each.values]


def line(plot: Plot, run: Run, unfinished: bool) -> Line:
    """The line of a run in a plot; empty for supervised runs in plots of clusters."""
    values = {epoch.number + 1: plot.value(epoch) for epoch in run.epochs if not (plot.clustering and run.supervised)}
    known = {epoch: value for epoch, value in values.items() if value is not None and math.isfinite(value)}
    return Line(run.system, run.seed, known, unfinished)


def identities(systems: Sequence[System]) -> int | None:
    """The true number of identities, None if it is unknown."""
    runs = (run for system in systems for run in (*system.runs, *system.unfinished))
    known = (epoch.clustering.get("identities") for run in runs for epoch in run.epochs)
    return next((int(number) for number in known if number), None)
