"""Contact sheets of an epoch's clusters, from the tables in a run's folder."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..clustering import quality
from ..data import UNLABELLED
from ..data.loaders import ReIDDataset
from ..engine.trained_model import run_label
from ..engine.trainer import training_items
from ..errors import UserError
from ..runs.checked import read_table
from ..runs.tables import CLUSTER_COLUMNS, find_cluster_table
from . import drawing
from .album import Picture
from .drawing import GAP, LINE, NEUTRAL, RIGHT, WIDTH, WRONG, Mark, Sheet

COLUMNS = 9
LEGEND = ((RIGHT, "the cluster's commonest identity"), (WRONG, "another identity"))


class Group(NamedTuple):
    """The images of a cluster and their identities; `cluster` is empty for images left out."""

    cluster: str
    paths: list[str]
    pids: list[str]

    @property
    def commonest(self) -> str | None:
        """The most common identity; None if none is known, and for images left out."""
        known = Counter(pid for pid in self.pids if pid != UNLABELLED)
        return known.most_common(1)[0][0] if known and self.cluster else None

    def mark(self, image: int) -> Mark:
        """The frame of one of the images."""
        if self.commonest is None or self.pids[image] == UNLABELLED:
            return NEUTRAL
        return RIGHT if self.pids[image] == self.commonest else WRONG


def draw(cfg, number: int, epoch: int | None = None) -> Picture:
    """Draw some images of each of an epoch's largest clusters, and images that were left out.

    Args:
        epoch: from 1; None for the one that began last.

    Raises:
        UserError: if the run has no clusters of that epoch, or its images are not those of DATASETS.NAMES.
    """
    folder = Path(cfg.OUTPUT_DIR)
    epoch, path = find_cluster_table(folder, epoch)
    groups = read_clusters(path, identities(cfg))
    clusters, left_out = [g for g in groups if g.cluster], [g for g in groups if not g.cluster]
    numbers = summary(groups)
    where = run_label(folder, f"epoch {epoch}", cfg.SEED)
    shown = clusters[:number]
    hidden = clusters[number:]
    text = (
        f"Clusters of {where}, from the features at its beginning: the {len(shown)} largest of {len(clusters)}, which "
        f"hold {sum(len(g.paths) for g in clusters)} of the {sum(len(g.paths) for g in groups)} training images of "
        f"{' and '.join(cfg.DATASETS.NAMES)}, and images that were left out ({numbers['left_out']}). Up to {COLUMNS} "
        "images each, evenly from the data set's order."
    )
    if "purity" in numbers:
        text += (
            " Purity is the share of a cluster's commonest identity (solid green; others dashed red); over all "
            f"clusters {100 * numbers['purity']:.1f}%, adjusted Rand index {numbers['ari']:.3f}."
        )
    sizes = f"{len(shown[-1].paths)} to {len(shown[0].paths)}" if shown else "no"
    alt = f"{len(shown)} rows of photographs, each of one cluster; the clusters have {sizes} images."
    return Picture("clusters", where, layout(shown, hidden, left_out), text, alt)


def identities(cfg) -> dict[str, str]:
    """Path -> identity of the training images; without the data set's name that folder data sets prepend."""
    known = {}
    for path, pid, _ in training_items(cfg):
        for name in cfg.DATASETS.NAMES if len(cfg.DATASETS.NAMES) == 1 else ():
            pid = str(pid).removeprefix(f"{name}_")
        known[path] = pid
    return known


def read_clusters(path: Path, identities: dict[str, str]) -> list[Group]:
    """Read the clusters in the file's order: the largest first, images left out at the end."""
    rows = [(row["path"], row["cluster"]) for row in read_table(path, CLUSTER_COLUMNS)]
    strangers = [image for image, _ in rows if image not in identities]
    if strangers:
        raise UserError(
            f"{len(strangers)} of the {len(rows)} images of {path} are not among those of DATASETS.NAMES, such as "
            f"{strangers[0]}: set FASTREID_DATASETS as it was in training."
        )
    groups: dict[str, Group] = {}
    for image, cluster in rows:
        name = "" if cluster is None else str(cluster)
        group = groups.setdefault(name, Group(name, [], []))
        group.paths.append(image)
        group.pids.append(identities[image])
    return list(groups.values())


def summary(groups: list[Group]) -> dict[str, float]:
    """The `clustering.quality` of all groups, numbers by name."""
    items = [(path, pid, "") for group in groups for path, pid in zip(group.paths, group.pids, strict=True)]
    labels = np.array([int(group.cluster or -1) for group in groups for _ in group.paths])
    return quality(labels, ReIDDataset(items).targets)


def heading(group: Group) -> str:
    """A cluster's heading: number, size and purity."""
    size = f"{len(group.paths)} image{'s' * (len(group.paths) != 1)}"
    if not group.cluster:
        return f"left out: {size}"
    purity = summary([group]).get("purity")
    known = "" if purity is None else f", purity {100 * purity:.0f}% ({group.commonest})"
    return f"cluster {group.cluster}: {size}{known}"


def layout(shown: list[Group], hidden: list[Group], left_out: list[Group]) -> drawing.Figure:
    """Lay out a heading and a row of photographs for each group, the images left out at the end."""
    groups = [*shown, *left_out]
    width = (WIDTH - GAP * COLUMNS) / (COLUMNS + 1)
    picked = [np.unique(np.linspace(0, len(g.paths) - 1, COLUMNS).round().astype(int)).tolist() for g in groups]
    photographs = [[drawing.photograph(g.paths[n], width) for n in few] for g, few in zip(groups, picked, strict=True)]
    height = drawing.cell_height(width, (drawing.aspect_of(pixels) for row in photographs for pixels in row), most=2.5)
    step = LINE + height + 2 * GAP
    note = f"and {len(hidden)} more clusters with {sum(len(g.paths) for g in hidden)} images" if hidden else ""
    sheet = Sheet(len(groups) * step + LINE + (LINE + GAP) * bool(note))
    sheet.text(0, len(shown) * step, note)
    for row, (group, few, pictures) in enumerate(zip(groups, picked, photographs, strict=True)):
        y = row * step + (LINE + GAP) * (bool(note) and row >= len(shown))
        sheet.text(0, y, heading(group))
        for column, (n, pixels) in enumerate(zip(few, pictures, strict=True)):
            box = column * (width + GAP), y + LINE, width, height
            sheet.picture(box, pixels, drawing.aspect_of(pixels), group.mark(n))
        more = len(group.paths) - len(few)
        if more:
            sheet.text(COLUMNS * (width + GAP), y + LINE + height / 2, f"and {more}\nmore", va="center")
    marks = {group.mark(n) for group, few in zip(groups, picked, strict=True) for n in few}
    sheet.legend(sheet.height - LINE, [entry for entry in LEGEND if entry[0] in marks])
    return sheet.figure
