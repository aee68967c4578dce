"""The drawn data sets: made under $FASTREID_DATASETS the first time they are asked for, then read like any folder."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator

from fastreid.data.datasets import DATASET_REGISTRY

from ..synthetic import NAMES, build
from .folder import FolderDataset

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

logger = logging.getLogger(__name__)


class SyntheticDataset(FolderDataset):
    """A data set drawn by ``fastreid_fancl.data.synthetic``; several processes may ask for it at once."""

    def locate(self, root: str) -> str:
        if os.path.exists(os.path.join(root, self.dataset_name, "metadata.csv")):
            return str(build(self.dataset_name, root))
        try:
            with _alone(root, self.dataset_name):
                return self._draw(root)
        except OSError as error:
            raise ValueError(
                f"data set {self.dataset_name} cannot be drawn in {os.path.abspath(root)} ({error}); "
                "set FASTREID_DATASETS to a folder that can be written"
            ) from error

    def _draw(self, root: str) -> str:
        logger.info("Drawing %s in %s, once", self.dataset_name, os.path.abspath(root))
        began = time.monotonic()
        path = build(self.dataset_name, root)
        logger.info("%s is there after %.1f s", self.dataset_name, time.monotonic() - began)
        return str(path)


@contextlib.contextmanager
def _alone(root: str, name: str) -> Iterator[None]:
    """Hold the other processes that want to draw the same; the lock goes with its process."""
    os.makedirs(root, exist_ok=True)
    if fcntl is None:
        yield
        return
    with open(os.path.join(root, f".{name}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _register(name: str) -> type[SyntheticDataset]:
    made = type(name, (SyntheticDataset,), {"dataset_name": name, "__doc__": f"{name}, drawn on first use."})
    DATASET_REGISTRY.register(made)
    return made


SYNTHETIC = {name: _register(name) for name in NAMES}
"""The classes by name."""
