"""Unsupervised re-identification of animals for fast-reid: importing it mends fast-reid and registers everything."""

from . import compat

compat.apply()

from . import backbones, heads, methods  # noqa: E402
from .config import add_fancl_config, load_config  # noqa: E402
from .data import datasets  # noqa: E402

__version__ = "0.1.0"
__all__ = ["add_fancl_config", "backbones", "compat", "datasets", "heads", "load_config", "methods"]
