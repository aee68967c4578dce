"""Unsupervised re-identification of animals for fast-reid: importing it fixes fast-reid and registers everything."""

import importlib.util

if importlib.util.find_spec("fastreid") is None:
    raise ModuleNotFoundError(
        "fastreid_fancl needs fast-reid. Install it by: pip install --no-deps fastreid==1.4.0", name="fastreid"
    )

from . import compat  # first: it fixes fast-reid

# isort: split
from . import backbones, heads, methods
from .config.defaults import add_fancl_config
from .config.load import load_config
from .data import datasets
from .encoder import load
from .version import __version__

__all__ = [
    "__version__",
    "add_fancl_config",
    "backbones",
    "compat",
    "datasets",
    "heads",
    "load",
    "load_config",
    "methods",
]


def open(folder, encoder=None):  # noqa: A001 - as one opens a file
    """Open a project of individuals: see `individuals.opening.open_project`."""
    from .individuals.opening import open_project

    return open_project(folder, encoder)
