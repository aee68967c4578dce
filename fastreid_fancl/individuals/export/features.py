"""Features for other programs: features.npz, and features.parquet where pyarrow is installed."""

import logging
from pathlib import Path

import numpy as np

from .contents import Contents, new_folder

logger = logging.getLogger(__name__)

COLUMNS = ("key", "path", "season", "station", "date_time", "side", "individual", "status")


def write(contents: Contents, output: Path) -> None:
    """Write `features` (N, D) at unit length, and for each row the columns of photographs.csv that name it.

    An unsure photograph has no individual here; its likeliest one is in photographs.csv.
    """
    keys, features = contents.project.stored_features()
    known = contents.project.by_key
    rows = [known[key] for key in keys]
    columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
    columns["individual"] = [row.individual if row.counts else "" for row in rows]
    with new_folder(output) as folder:
        texts = {name: np.array(values, dtype=np.str_) for name, values in columns.items()}
        np.savez(folder / "features.npz", features=np.asarray(features, np.float32), **texts)
        _write_parquet(folder / "features.parquet", columns, features)


def _write_parquet(path: Path, columns: dict[str, list[str]], features: np.ndarray) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        logger.info("features.parquet is not written: it needs pyarrow (pip install pyarrow).")
        return
    flat = pyarrow.array(np.asarray(features, np.float32).ravel())
    lists = pyarrow.FixedSizeListArray.from_arrays(flat, features.shape[1])
    parquet.write_table(pyarrow.table({**columns, "features": lists}), path)
