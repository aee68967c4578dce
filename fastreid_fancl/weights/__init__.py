"""Starting weights and checkpoints: read from any file that holds tensors, fitted to a model by their names."""

from .contents import as_checkpoint, read
from .fitting import Fit, architectures, fit, fresh_parts, listed, lost_layers, start
from .formats import read_file

__all__ = [
    "Fit",
    "architectures",
    "as_checkpoint",
    "fit",
    "fresh_parts",
    "listed",
    "lost_layers",
    "read",
    "read_file",
    "start",
]
