"""Figure 4 of the FANCL paper: the regions that Feature-Aware Noise Addition chooses and hides."""

import numpy as np
import torch
from torch import nn

from .. import fana
from ..config.load import load_config
from ..engine.trained_model import TrainedModel, load_trained_model
from . import drawing
from .album import Picture
from .drawing import GAP, LINE, MAP, WIDTH, Sheet
from .search import checked_training_items, inputs, photographs, spread

# Figure 4 shows both layers; another FANA.LAYER is shown alone.
PAPER = ("conv1", "bn1")
COLUMNS = ("activation", "region", "noised")


def draw(cfg, number: int) -> Picture:
    """Draw training images with A(x), P(x) and x~ (Eq. 1-3) at FANA.LAYER, which any model's backbone may have.

    The model is in evaluation mode, whereas in training its BatchNorm layers normalise by the batch.

    Raises:
        UserError: if the backbone has no such layer, or one of which only the parts run.
    """
    trained = load_trained_model(cfg)
    items = checked_training_items(cfg)
    shown = [items[index] for index in spread([item[1] for item in items], number, cfg.SEED)]
    images = inputs(cfg, shown)
    layers = shown_layers(trained.backbone, cfg.FANA.LAYER)
    panels = {layer: noise(trained, images, layer, cfg.FANA.RATIO) for layer in layers}
    height, width = trained.size
    names, data = " and ".join(layers), " and ".join(cfg.DATASETS.NAMES)
    caption = (
        f"Feature-Aware Noise Addition after {names} of {trained.label}: {len(shown)} of the {len(items)} training "
        f"images of {data}. Image; activation A(x), ReLU and mean over the channels, from least (dark) to greatest "
        f"(bright) of each image; region P(x) in white, the {100 * cfg.FANA.RATIO:g}% of the area with the greatest "
        f"activation; noised image. Maps and noise are those of the network's input of {height} x {width} pixels, "
        "stretched to the image's proportions."
    )
    alt = (
        f"{len(shown)} rows: an image, and after {names} a map of the activation, the white region where it is "
        "greatest, and the image with this region black."
    )
    figure = layout(photographs(cfg, shown, images), panels)
    return Picture("fana", trained.label, figure, caption, alt, variant(layers, cfg.FANA.RATIO))


def shown_layers(backbone: nn.Module, layer: str) -> tuple[str, ...]:
    """The layers to show for FANA.LAYER: both of the paper's Figure 4 if it is one of them, on a ResNet."""
    layer = fana.first_convolution(backbone) if layer == "auto" else layer
    modules = dict(backbone.named_modules())
    return PAPER if layer in PAPER and all(name in modules for name in PAPER) else (layer,)


def variant(layers: tuple[str, ...], ratio: float) -> str:
    """The name of a picture that does not show both layers of PAPER; empty for one that does."""
    changed = ratio != load_config("", []).FANA.RATIO
    return " ".join([*(layers if layers != PAPER else ()), *([f"ratio {ratio:g}"] if changed else [])])


@torch.no_grad()
def noise(trained: TrainedModel, images: torch.Tensor, layer: str, ratio: float) -> list[tuple[np.ndarray, ...]]:
    """A(x) (H, W), P(x) (H, W) and x~ (H, W, 3) for each of the images (B, 3, H, W), after one layer."""
    transform = fana.FANA(layer, ratio)
    with transform.watch(trained.backbone, trained.size) as activations:
        trained.model({"images": images})
    activation = activations[0].cpu()
    regions, noised = fana.noise_mask(activation, ratio), transform(images, activation)
    return [
        (a.numpy(), region.numpy(), drawing.as_pixels(x))
        for a, region, x in zip(activation, regions, noised, strict=True)
    ]


def layout(pictures: list[np.ndarray], panels: dict[str, list[tuple]]) -> drawing.Figure:
    """Lay out a row per image: the photograph, then three panels for each layer."""
    columns = 1 + len(COLUMNS) * len(panels)
    width = (WIDTH - GAP * (columns - 1)) / columns
    aspects = [drawing.aspect_of(pixels) for pixels in pictures]
    height = drawing.cell_height(width, aspects)
    top = 2 * LINE
    sheet = Sheet(top + len(pictures) * (height + GAP))
    places = [column * (width + GAP) for column in range(columns)]
    sheet.text(places[0] + width / 2, LINE, "image", centre=True)
    for number, layer in enumerate(panels):
        first = 1 + len(COLUMNS) * number
        sheet.text(places[first + 1] + width / 2, 0, f"after {layer}", centre=True, weight="bold")
        for x, title in zip(places[first:], COLUMNS, strict=False):
            sheet.text(x + width / 2, LINE, title, centre=True)
    for row, (picture, aspect) in enumerate(zip(pictures, aspects, strict=True)):
        y = top + row * (height + GAP)
        cells = [picture, *(panel for each in panels.values() for panel in each[row])]
        for x, pixels in zip(places, cells, strict=True):
            style = {"cmap": "gray" if pixels.dtype == bool else MAP} if pixels.ndim == 2 else {}
            sheet.picture((x, y, width, height), pixels, aspect, **style)
    return sheet.figure
