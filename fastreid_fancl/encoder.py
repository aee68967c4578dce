"""Features of photographs from Python: `fastreid_fancl.load(run_or_config).features(photographs)`."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from fastreid.config import CfgNode
from fastreid.data.transforms import build_transforms
from PIL import Image
from torch import nn

from .config.load import load_config
from .data import UNLABELLED
from .data.images import read_image, upright_rgb
from .data.loaders import ReIDDataset, feature_loader
from .engine.features import extract_test_features
from .engine.trained_model import load_start_or_trained_model, run_config
from .errors import UserError
from .methods.base import Encoder

Photograph = str | os.PathLike | Image.Image | np.ndarray


def load(
    run_or_config: str | os.PathLike,
    *,
    device: str = "auto",
    runtime: str | None = None,
    allow_imports: Collection[str] = (),
) -> "TrainedEncoder":
    """Load an encoder of photographs.

    Args:
        run_or_config: the folder of a run, whose last checkpoint is loaded; or a configuration (a path, or the name of
            a shipped one), whose MODEL.WEIGHTS are loaded, or, if it names none, the pretrained weights that a training
            would start from.
        device: "cpu", "cuda", "cuda:1", ...; "auto" takes a GPU where there is one.
        runtime: "torch" or "openvino", which is faster on a CPU; None is TEST.RUNTIME of the run or configuration.
        allow_imports: files or modules of the run's IMPORTS that may run: they are code.

    Raises:
        ValueError: if there is no such run or configuration, it has no weights, its weights do not fit, or the runtime
            is not installed or cannot run the model.

    Example:
        >>> import fastreid_fancl
        >>> model = fastreid_fancl.load("logs/my_lynxes")
        >>> features = model.features(["a.jpg", "b.jpg", "c.jpg"])
        >>> features.shape, features.dtype
        ((3, 2048), dtype('float32'))
        >>> similarity = features @ features.T  # cosine, 1 for equal photographs
    """
    opts = ["MODEL.DEVICE", device, *(["TEST.RUNTIME", runtime] if runtime else [])]
    if Path(run_or_config).is_dir():
        return TrainedEncoder(run_config(Path(run_or_config), opts, allow_imports), start=False)
    return TrainedEncoder(load_config(os.fspath(run_or_config), opts))


class TrainedEncoder:
    """A model with its weights, in evaluation mode, behind the test-time transforms of its configuration.

    Attributes:
        cfg: the configuration.
        model: the module; in evaluation mode it takes a batch {"images": (B, 3, H, W) in [0, 255]}.
    """

    def __init__(self, cfg: CfgNode, start: bool = True):
        """Build the model; with `start` it takes the weights that a training starts from where it has no others."""
        self.cfg = cfg
        self.model: nn.Module = load_start_or_trained_model(cfg, start)
        self._transform = build_transforms(cfg, is_train=False)

    def features(
        self, photographs: Photograph | Iterable[Photograph], *, batch_size: int | None = None, workers: int = 0
    ) -> np.ndarray:
        """The test-time features that the evaluator and tools/group.py compare, without TEST.FLIP.

        Args:
            photographs: N paths, PIL images or (H, W, 3) uint8 arrays in RGB, mixed as you like; or a single one.
            batch_size: photographs that go through the network together; TEST.IMS_PER_BATCH by default.
            workers: processes that read and resize; 0 does both in this one.

        Returns:
            (N, D) float32 of unit length, in the order of the photographs.

        Raises:
            ValueError: without photographs, on an array of another shape or type, and on a file that cannot be read, by
                its name.
        """
        dataset = as_dataset(photographs, self._transform)
        loader = feature_loader(dataset, batch_size or self.cfg.TEST.IMS_PER_BATCH, workers)
        features = extract_test_features(self.model, loader)
        if not isinstance(self.model, Encoder):  # which gives unit length; other models of fast-reid do not
            features = F.normalize(features.float(), dim=1)
        return features.float().numpy()


def as_dataset(photographs: Photograph | Iterable[Photograph], transform) -> ReIDDataset:
    """Photographs of any kind as items that a loader reads.

    Raises:
        ValueError: without photographs, and on an array that is no RGB image.
    """
    is_array = isinstance(photographs, np.ndarray) and photographs.ndim == 3
    single = is_array or isinstance(photographs, str | os.PathLike | Image.Image)
    each = [photographs] if single else list(photographs)
    if not each:
        raise UserError("Expected at least one photograph, got none.")
    items, images = [], {}
    for number, photograph in enumerate(each):
        if isinstance(photograph, str | os.PathLike):
            name = os.fspath(photograph)
        else:
            name = f"photograph {number}"
            images[name] = as_image(name, photograph)
        items.append((name, UNLABELLED, ""))
    return ReIDDataset(items, transform, read=Reader(images))


def as_image(name: str, photograph: Image.Image | np.ndarray) -> Image.Image:
    """An upright RGB image of a PIL image or an array; `name` is for the message.

    Raises:
        ValueError: on anything else, with what it is.
    """
    if isinstance(photograph, Image.Image):
        try:
            photograph.load()  # while it loads, Pillow turns a TIFF upright itself
        except OSError as error:
            raise UserError(f"Expected {name} as an image that can be decoded, but {error}.") from error
        return upright_rgb(photograph, name)
    pixels = np.asarray(photograph)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise UserError(
            f"Expected {name} as a path, a PIL image or an (H, W, 3) array of uint8, got "
            f"{type(photograph).__name__} of shape {pixels.shape} and type {pixels.dtype}."
        )
    return Image.fromarray(pixels)


class Reader:
    """Returns an image that was passed in, or reads the photograph from its path; workers can pickle it."""

    def __init__(self, images: dict[str, Image.Image]):
        self.images = images

    def __call__(self, name: str) -> Image.Image:
        return self.images[name] if name in self.images else read_image(name)
