"""Resample position embeddings of vision transformers from a file's grid of patches to the model's.

Equal numbers hide another grid: 14 x 14 patches are as many as 7 x 28. Shapes: N tokens, D channels.
"""

import logging
import math
from pathlib import Path

from torch import Tensor, nn

from ..errors import UserError
from ..runs.beside import size_beside

logger = logging.getLogger(__name__)


def of_another_grid(model: nn.Module, path: str) -> bool:
    """Whether the run of the file at `path` had the model's number of patches on another grid."""
    grids = [(grid, _trained_grid(module, path)) for module in model.modules() if (grid := _grid(module))]
    return any(trained and trained != grid and math.prod(trained) == math.prod(grid) for grid, trained in grids)


def resampled(weights: dict[str, Tensor], model: nn.Module, source: str) -> dict[str, Tensor]:
    """Resample position embeddings to the model's grid if the number of patches does not reveal another grid.

    The file's grid is that of the run whose config.yaml lies beside it, or else a square. Squares of another number are
    left to the key filter, such as timm's.

    Args:
        weights: under the model's names.
        model: its vision transformers, of timm or fast-reid, have one embedding for each patch.
        source: the path of the file.
    """
    weights = dict(weights)
    for name, module in model.named_modules():
        key, grid = f"{name}.pos_embed".removeprefix("."), _grid(module)
        if grid and key in weights and weights[key].dim() == 3:
            weights[key] = _on_grid(weights[key], grid, module, source)
    return weights


def _on_grid(places: Tensor, grid: tuple[int, int], model: nn.Module, source: str) -> Tensor:
    extra = model.pos_embed.shape[1] - math.prod(grid)  # class and register tokens
    number = places.shape[1] - extra
    trained = _grid_in_file(number, model, source)
    square_of_other_size = trained and trained[0] == trained[1] and number != math.prod(grid)
    if not trained or trained == grid or square_of_other_size:
        return places
    try:
        from timm.layers import resample_abs_pos_embed
    except ImportError as error:
        raise UserError(
            f"timm resamples the position embeddings of {source}, of {trained[0]} x {trained[1]} patches, to {grid[0]} "
            f"x {grid[1]}: pip install timm"
        ) from error
    logger.info("Position embeddings of %s: resampled from %d x %d patches to %d x %d", source, *trained, *grid)
    if number == math.prod(grid) and size_beside(Path(source)) is None:
        logger.warning(
            "%s has as many patches as the backbone's %d x %d, and was taken for a square of %d x %d. If a run with "
            "the backbone's grid wrote it, put the run's config.yaml beside it.",
            source,
            *grid,
            *trained,
        )
    return resample_abs_pos_embed(places, list(grid), list(trained), extra)


def _grid_in_file(number: int, model: nn.Module, source: str) -> tuple[int, int] | None:
    """The grid of a file with this number of patches: that of its run, or else a square; None if unknown."""
    side = math.isqrt(max(number, 0))
    grids = (_trained_grid(model, source), (side, side))
    return next((grid for grid in grids if grid and min(grid) > 0 and math.prod(grid) == number), None)


def _grid(model: nn.Module) -> tuple[int, int] | None:
    """(rows, columns) of patches of a model with learned embeddings (1, N, D) of them; None for another model."""
    patches, places = getattr(model, "patch_embed", None), getattr(model, "pos_embed", None)
    if not isinstance(places, Tensor) or places.dim() != 3:
        return None
    if hasattr(patches, "num_y"):  # fast-reid's
        return patches.num_y, patches.num_x
    return getattr(patches, "grid_size", None)


def _trained_grid(model: nn.Module, path: str) -> tuple[int, int] | None:
    """The grid of a model at the size of the images that the run beside a file was trained at; None if unknown."""
    size, patches = size_beside(Path(path)), getattr(model.patch_embed, "proj", None)
    if size is None or not isinstance(patches, nn.Conv2d):
        return None
    rows, columns = (
        (side - kernel) // stride + 1
        for side, kernel, stride in zip(size, patches.kernel_size, patches.stride, strict=True)
    )
    return rows, columns
