"""Refuse weights that are quantised, NaN or infinite."""

from torch import Tensor

from ..errors import UserError


def require_usable(weights: dict[str, Tensor], state: dict[str, Tensor], source: str) -> None:
    """Check the weights that a model takes from a file.

    Args:
        weights: under the model's names.
        state: the model's own weights. Entries that are not floating-point there are not checked.
        source: how messages call the file.

    Raises:
        UserError: on quantised weights, and on NaN or infinite values. A single number may be NaN as long as it is not
            set, such as SpCL's threshold.
    """
    for name, value in weights.items():
        if not state[name].is_floating_point():
            continue
        if not value.is_floating_point():
            raise UserError(
                f"Expected floating-point weights, got {value.dtype} in {name} of {source}: give the file from before "
                "its quantisation."
            )
        if value.dim() and not value.float().isfinite().all():
            raise UserError(
                f"Expected finite weights, got NaN or infinite values in {name} of {source}, as of a training that "
                "diverged: give an earlier checkpoint or another file."
            )
