"""Unsupervised re-identification of animals for fast-reid: importing it mends fast-reid and registers everything."""

from . import compat  # first: it mends fast-reid

# isort: split
from . import backbones, heads, methods
from .config.defaults import add_fancl_config
from .config.load import load_config
from .data import datasets

__version__ = "0.1.0"
__all__ = ["add_fancl_config", "backbones", "compat", "datasets", "heads", "load_config", "methods"]
