"""Figure 1 of the FANCL paper: Grad-CAM (Selvaraju et al., ICCV 2017) of the features of queries.

Captum, PyTorch's library of attributions, computes it for any scalar of the output and any layer. A classifier's
Grad-CAM explains the score of a class. A feature has no classes, so here the score of a query is

    cos(f, m+) - cos(f, m-)

where m+ is the mean feature of its true matches in the gallery and m- that of the images of all other identities. The
map shows which parts of the query distinguish its identity from the others.

Two things differ from a classifier's Grad-CAM. First, the lengths that features are divided by count as constants. The
gradient of a unit vector has no component along the vector itself, so the map would show what the image lacks for a
higher score, not what it contains. Second, the map has no ReLU. Most heads subtract a mean (BatchNorm) that belongs to
no place, so only differences between places have a meaning.
"""

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import LayerAttribution, LayerGradCam
from matplotlib import colormaps
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..engine.trained_model import TrainedModel, load_trained_model
from ..errors import UserError, nearest_names
from . import drawing
from .album import Picture
from .drawing import GAP, LINE, MAP, WIDTH, Sheet
from .search import Search, choose, inputs, mean_feature, photographs, search_tests

COLUMNS = 6
OPACITY = 0.6


class ConstantLengths(TorchFunctionMode):
    """A mode in which `F.normalize` divides by lengths without a gradient."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return (divide if func is F.normalize else func)(*args, **(kwargs or {}))


def divide(features: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out=None) -> Tensor:
    """`F.normalize` with constant lengths; same arguments."""
    return features / torch.linalg.vector_norm(features.detach(), p, dim, keepdim=True).clamp_min(eps)


def draw(cfg, number: int, layer: str = "") -> Picture:
    """Draw queries, each above its Grad-CAM.

    Args:
        layer: the backbone's module whose feature map is explained; empty for the output of the backbone.

    Raises:
        UserError: without identities, or for a layer that is not there or whose output is no map.
    """
    trained = load_trained_model(cfg)
    search = search_tests(cfg, trained.model)
    if search.ranking is None:
        raise UserError(
            f"Attention explains a score that needs identities, and those of {cfg.DATASETS.TESTS[0]} are not known: "
            "name a test whose animals are known."
        )
    shown = choose(search, number, cfg.SEED)
    items = [search.queries[query] for query in shown]
    images = inputs(cfg, items)
    means = [torch.stack(each) for each in zip(*(reference(search, query) for query in shown), strict=True)]
    maps = grad_cam(trained, find(trained, layer), images, *means)
    height, width = trained.size
    caption = (
        f"Grad-CAM of {trained.label} for {len(shown)} of the {len(search.queries)} queries of "
        f"{cfg.DATASETS.TESTS[0]}: what in the image makes its feature more similar to the mean of its true matches in "
        "the gallery than to the mean of all other identities, from least (dark) to most (bright) of each image. The "
        f"{layer or 'last'} feature map of the backbone, {maps.shape[1]} x {maps.shape[2]} for an input of {height} x "
        f"{width} pixels, laid over the photograph."
    )
    alt = f"{len(shown)} query photographs, each above the same photograph with a map of where the feature comes from."
    figure = layout(photographs(cfg, items, images), maps, [search.name(query) for query in shown])
    return Picture("attention", trained.label, figure, caption, alt, layer)


def reference(search: Search, query: int) -> tuple[Tensor, Tensor]:
    """The mean features m+ and m- (D,) for a query, by the Market-1501 rule."""
    _, pid, camid = search.queries[query]
    gallery = search.features[len(search.queries) :]
    same = torch.tensor([other == pid for _, other, _ in search.gallery])
    own_camera = torch.tensor([other == camid for _, _, other in search.gallery])
    return mean_feature(gallery[same & ~own_camera]), mean_feature(gallery[~same])


def find(trained: TrainedModel, layer: str) -> nn.Module:
    """The backbone's module of this name; the backbone itself for an empty name.

    Raises:
        UserError: if no module of that name runs.
    """
    if layer and layer not in trained.layers:
        near = ", ".join(nearest_names(layer, trained.layers, number=4, least=0))
        raise UserError(f"Expected --layer to name a module of the backbone that runs, such as {near}; got {layer!r}.")
    return trained.backbone.get_submodule(layer)


def grad_cam(trained: TrainedModel, layer: nn.Module, images: Tensor, positive: Tensor, negative: Tensor) -> np.ndarray:
    """Grad-CAM of cos(f, m+) - cos(f, m-), without ReLU.

    Args:
        layer: the layer whose output is explained.
        images: (B, 3, H, W) in [0, 255].
        positive, negative: (B, D) m+ and m-, of unit length.

    Returns:
        (B, h, w), from 0 to 1 for each image.

    Raises:
        UserError: if the layer's output is no map.
    """

    def score(pixels: Tensor, direction: Tensor) -> Tensor:
        return (F.normalize(trained.model({"images": pixels}), dim=1) * direction).sum(1)

    device = next(trained.model.parameters()).device
    with ConstantLengths():
        maps = LayerGradCam(score, layer).attribute(
            images.to(device), additional_forward_args=(positive - negative).to(device)
        )
    if maps.ndim != 4 or maps.shape[-2:].numel() == 1:
        raise UserError(
            f"Attention needs a layer with a feature map, and that of {type(layer).__name__} has the shape "
            f"{tuple(maps.shape[2:])} per image: name another module of the backbone by --layer."
        )
    maps = maps.detach()[:, 0].cpu()
    least, most = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return ((maps - least) / (most - least).clamp_min(1e-12)).numpy()


def overlay(photograph: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """Lay a map (h, w) in [0, 1] over the grey photograph (H, W, 3); the result is (H, W, 3) in [0, 1]."""
    grown = LayerAttribution.interpolate(torch.from_numpy(attention)[None, None], photograph.shape[:2], "bilinear")
    grey = photograph.mean(axis=2, keepdims=True) / 255
    return (1 - OPACITY) * grey + OPACITY * colormaps[MAP](grown[0, 0].numpy())[..., :3]


def layout(pictures: list[np.ndarray], maps: np.ndarray, titles: list[str]) -> drawing.Figure:
    """Lay photographs with titles out in rows of COLUMNS, each above its map."""
    columns = min(COLUMNS, len(pictures))
    width = (WIDTH - GAP * (COLUMNS - 1)) / COLUMNS
    aspects = [drawing.aspect_of(pixels) for pixels in pictures]
    height = drawing.cell_height(width, aspects)
    block = LINE + 2 * (height + GAP)
    sheet = Sheet(-(-len(pictures) // columns) * block)
    for number, (picture, attention, title) in enumerate(zip(pictures, maps, titles, strict=True)):
        x, y = number % columns * (width + GAP), number // columns * block
        sheet.text(x + width / 2, y, drawing.shorten(title, 18), centre=True)
        y += LINE
        for pixels in (picture, overlay(picture, attention)):
            sheet.picture((x, y, width, height), pixels, aspects[number])
            y += height + GAP
    return sheet.figure
