"""The tables in a run's folder: the radii that were tried, and the clusters of each epoch."""

import csv
import gzip
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from ..files import make_folder, replacing
from .checked import DamagedError, cell_of, finite, read_rows, read_table, whole, word

SWEEP, CLUSTERS = "eps_sweep.csv", "clusters"


def write_sweep(path: str, epoch: int, eps: float, sweep: Sequence[NamedTuple]) -> None:
    """Add an epoch's sweep to the table of all radii of all epochs; it replaces rows of an interrupted run."""
    before = read_rows(Path(path)) if os.path.exists(path) else []
    rows = [row for row in before if re.fullmatch(r"\d{1,9}", row[0]) and int(row[0]) < epoch]
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("epoch", *sweep[0]._fields, "used"))
        table.writerows(rows)
        table.writerows((epoch, *row, int(row.eps == eps)) for row in sweep)  # type: ignore[attr-defined]


def write_clusters(folder: str, epoch: int, items: list[tuple], labels: np.ndarray) -> None:
    """Write the clusters that an epoch begins with to clusters/epoch_<n>.csv.gz, n from 1, and to clusters.csv.

    Tables of later epochs come from an interrupted or an older run and are removed.
    """
    kept = Path(folder, CLUSTERS, f"epoch_{epoch + 1}.csv.gz")
    make_folder(kept.parent)
    write_groups(kept, items, labels, gzip.open)
    write_groups(Path(folder, "clusters.csv"), items, labels)
    for number, path in cluster_tables(folder).items():
        if number > epoch + 1:
            path.unlink()


def write_groups(path: Path, items: list[tuple], labels: np.ndarray, opened: Callable = open) -> None:
    """Write a table of image and cluster: the largest cluster first, images left out at the end."""
    sizes = Counter(labels.tolist())
    order = sorted(range(len(labels)), key=lambda n: (labels[n] < 0, -sizes[labels[n]], labels[n], n))
    with replacing(path) as temporary, opened(temporary, "wt", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("path", "cluster"))
        table.writerows((items[n][0], labels[n] if labels[n] >= 0 else "") for n in order)


def cluster_tables(folder: str | os.PathLike) -> dict[int, Path]:
    """The tables of clusters in a run's folder by epoch, from 1, in ascending order."""
    names = ((re.fullmatch(r"epoch_(\d{1,9})\.csv\.gz", path.name), path) for path in Path(folder, CLUSTERS).glob("*"))
    return dict(sorted((int(name[1]), path) for name, path in names if name))


CLUSTER_COLUMNS = {"path": word, "cluster": cell_of(whole, empty=True)}


def find_cluster_table(folder: Path, epoch: int | None) -> tuple[int, Path]:
    """An epoch's number and the table of its clusters; None means the last epoch.

    Raises:
        UserError: if there is none.
    """
    tables = cluster_tables(folder)
    if not tables:
        raise UserError(
            f"There are no clusters in {folder / CLUSTERS}: methods that learn from identities do not cluster, others "
            "write them in each epoch. Choose the run of an unsupervised method."
        )
    epoch = epoch or max(tables)
    if epoch not in tables:
        raise UserError(f"Expected --epoch to be one of {', '.join(map(str, tables))}, got {epoch}.")
    return epoch, tables[epoch]


SWEEP_COLUMNS = {
    "epoch": cell_of(whole),
    **dict.fromkeys(("eps", "score", "clusters", "left_out", "used"), cell_of(finite)),
}


def read_sweeps(path: Path) -> dict[int, list[dict[str, float]]]:
    """The rows of an eps_sweep.csv by epoch, from 0.

    Raises:
        UserError: if there is no such table, or it is damaged.
    """
    if not path.exists():
        raise UserError(f"There is no {path}: a run writes it with PSEUDO_LABELS.EPS auto.")
    epochs = defaultdict(list)
    for row in read_table(path, SWEEP_COLUMNS):
        epochs[row["epoch"]].append(row)
    if not any(row["used"] for rows in epochs.values() for row in rows):
        raise DamagedError(path, "no radius in it was used")
    return dict(epochs)
