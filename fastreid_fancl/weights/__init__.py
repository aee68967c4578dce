"""Read starting weights and checkpoints from any file that holds tensors, and match them to a model by their names."""

from .contents import as_checkpoint, read
from .fitting import architectures, fresh_parts, load_backbone, lost_layers, summarise_names, surplus_layers
from .formats import read_file
from .names import Fit, fit
from .positions import of_another_grid
from .values import require_usable

__all__ = [
    "Fit",
    "architectures",
    "as_checkpoint",
    "fit",
    "fresh_parts",
    "load_backbone",
    "lost_layers",
    "of_another_grid",
    "read",
    "read_file",
    "require_usable",
    "summarise_names",
    "surplus_layers",
]
