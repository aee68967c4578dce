"""The configuration: this package's keys, the reading of files, the checks."""

from .defaults import add_fancl_config
from .load import load_config

__all__ = ["add_fancl_config", "load_config"]
