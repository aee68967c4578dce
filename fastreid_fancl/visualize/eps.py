"""The radii that PSEUDO_LABELS.EPS auto chose from in each epoch, from a run's eps_sweep.csv."""

from pathlib import Path

from matplotlib import colormaps

from ..engine.trained_model import run_label
from ..runs.tables import SWEEP, read_sweeps
from . import drawing
from .album import Picture
from .drawing import Sheet

HEIGHT = 5.2  # cm


PANELS = {"score": "score", "clusters": "clusters", "left_out": "share left out"}


def draw(cfg, number: int) -> Picture:
    """Plot score, clusters and images left out by radius, a line for each of some epochs; rings mark the radius used.

    Raises:
        UserError: if the run had no EPS auto.
    """
    folder = Path(cfg.OUTPUT_DIR)
    epochs = read_sweeps(folder / SWEEP)
    where = run_label(folder, f"epoch {max(epochs) + 1}", cfg.SEED)
    picked = sorted(epochs)[:: -(-len(epochs) // number)]
    sheet = Sheet(HEIGHT)
    axes = sheet.figure.subplots(1, len(PANELS), gridspec_kw={"left": 0.07, "right": 0.92, "bottom": 0.17, "top": 0.97})
    sheet.figure.subplots_adjust(wspace=0.42)
    for panel, (name, label) in zip(axes, PANELS.items(), strict=True):
        for place, epoch in enumerate(picked):
            colour = colormaps[drawing.MAP](0.75 * place / max(1, len(picked) - 1))  # its end is pale on white
            rows = epochs[epoch]
            panel.plot([row["eps"] for row in rows], [row[name] for row in rows], color=colour, label=f"{epoch + 1}")
            used = [row for row in rows if row["used"]]
            panel.plot([row["eps"] for row in used], [row[name] for row in used], "o", mfc="none", mec=colour)
        panel.set_xlabel("eps", fontsize=drawing.POINTS)
        panel.set_ylabel(label, fontsize=drawing.POINTS)
        panel.tick_params(labelsize=drawing.POINTS)
        panel.yaxis.get_major_locator().set_params(integer=name == "clusters")
    sheet.figure.legend(
        *axes[0].get_legend_handles_labels(), title="epoch", loc="center right", frameon=False,
        fontsize=drawing.POINTS, title_fontsize=drawing.POINTS,
    )  # fmt: skip
    chosen = [row["eps"] for rows in epochs.values() for row in rows if row["used"]]
    text = (
        f"EPS auto of {where}, in {len(picked)} of {len(epochs)} epochs: label-free score of each radius (the "
        "clusters' modularity, times the fourth root of their stability: how much of them a part of the pairs finds "
        f"again), clusters, share of images left out. Rings: the radius used, over all epochs {min(chosen):.3g} to "
        f"{max(chosen):.3g}."
    )
    alt = f"Three plots over eps with {len(picked)} lines each, one per epoch, and a ring on each."
    return Picture("eps", where, sheet.figure, text, alt)
