"""The synthetic data sets: drawn below $FASTREID_DATASETS when first requested, then read like any folder."""

import contextlib
import logging
import os
import time

from fastreid.data.datasets import DATASET_REGISTRY

from ...errors import UserError
from ...locks import exclusive_lock
from ..synthetic import NAMES, build
from .folder import FolderDataset

logger = logging.getLogger(__name__)


class SyntheticDataset(FolderDataset):
    """A data set drawn by ``fastreid_fancl.data.synthetic``; several processes may request it at the same time."""

    def locate(self, root: str) -> str:
        """Return the folder of this data set below ``root``, and draw it first if necessary."""
        try:
            with contextlib.ExitStack() as stack:
                with contextlib.suppress(OSError):  # a read-only folder needs no lock
                    stack.enter_context(exclusive_lock(os.path.join(root, f".{self.dataset_name}.lock")))
                return self._drawn(root)
        except OSError as error:
            raise UserError(
                f"data set {self.dataset_name} cannot be drawn in {os.path.abspath(root)} ({error}); "
                "set FASTREID_DATASETS to a folder that can be written"
            ) from error

    def _drawn(self, root: str) -> str:
        """Return the folder, drawn now if it is missing or from an earlier version."""
        is_there = os.path.exists(os.path.join(root, self.dataset_name))
        if not is_there:
            logger.info("Drawing %s in %s, once", self.dataset_name, os.path.abspath(root))
        began = time.monotonic()
        path = str(build(self.dataset_name, root))
        seconds = time.monotonic() - began
        if not is_there or seconds > 1:
            logger.info("%s was drawn in %.1f s", self.dataset_name, seconds)
        return path


def _register(name: str) -> type[SyntheticDataset]:
    made = type(name, (SyntheticDataset,), {"dataset_name": name, "__doc__": f"{name}, drawn on first use."})
    DATASET_REGISTRY.register(made)
    return made


SYNTHETIC = {name: _register(name) for name in NAMES}
"""The classes of the synthetic data sets, by name."""
