"""Features of the animals of a project: encoded once, kept by content and box.

Shapes: N animals, D feature dimensions.
"""

import hashlib
import logging
import os
import time
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from fastreid.data.transforms import build_transforms
from PIL import Image

from ..config.load import load_config
from ..data.images import READER_VERSION, UnreadableImage
from ..engine.trained_model import load_model, load_trained_model, run_config
from ..files import replacing
from ..runs.checked import DamagedError
from .crops import crop_of
from .rows import Photograph

logger = logging.getLogger(__name__)

PHOTOGRAPHS = Path(__file__).resolve().parents[2] / "configs" / "Photographs"
START = "tf_efficientnet_lite0"
BATCH, CHUNK = 32, 1024
SECONDS_BETWEEN_REPORTS = 10
BORDER = 8  # cells of a side of the grid whose outer cells are the background
AGAIN = "Remove it: `fancl discover` computes it again, with --photos"
UNREADABLE = (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error)


class Encoder(Protocol):
    """What makes features of images; `fingerprint` differs where features do."""

    name: str
    fingerprint: str

    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        """RGB images -> (N, D) float32 at unit length."""


class ModelEncoder:
    """A method of this package as an encoder, with the photo recipe's start or a run's weights."""

    def __init__(self, name: str, cfg, model: torch.nn.Module):
        self.name, self.model = name, model.eval()
        self.transform = build_transforms(cfg, is_train=False)
        digest = hashlib.sha256(f"{READER_VERSION} {list(cfg.INPUT.SIZE_TEST)}".encode())
        for key, values in model.state_dict().items():
            digest.update(key.encode() + values.detach().cpu().numpy().tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    @torch.no_grad()
    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        """RGB images -> (N, D) float32 at unit length."""
        parts = []
        for start in range(0, len(images), BATCH):
            pixels = torch.stack([self.transform(image) for image in images[start : start + BATCH]])
            features = self.model.cluster_features({"images": pixels.to(self.model.device)})["original"]
            parts.append(torch.nn.functional.normalize(features.float()).cpu().numpy())
        return np.concatenate(parts)


def encoder_named(name: str, options: Sequence[str] = (), imports: Collection[str] = ()) -> ModelEncoder:
    """Build an encoder.

    Args:
        name: of a timm model, whose pretrained weights are taken without training, or `run:FOLDER`.
        options: KEY VALUE ... of the configuration.
        imports: those IMPORTS of the run, which may be somebody else's, that may run.

    Raises:
        ValueError: if there is no such model or run, or its weights are not there.
    """
    if name.startswith("run:"):
        cfg = run_config(Path(name.removeprefix("run:")), ["DATASETS.TESTS", "()", *options], imports)
        return ModelEncoder(name, cfg, load_trained_model(cfg).model)
    start = ["MODEL.BACKBONE.TIMM", name, "MODEL.BACKBONE.PRETRAIN", "True", "DATASETS.TESTS", "()"]
    cfg = load_config(os.fspath(PHOTOGRAPHS / "cluster_contrast.yml"), [*start, *options])
    return ModelEncoder(name, cfg, load_model(cfg))


@dataclass
class Features:
    """Features by key and box.

    Attributes:
        numbers: row of `values` and `borders` by what `cache_key` gives.
        values: (N, D) float32.
        borders: (N, 12) mean colours of the four sides of each crop, in [0, 1].
    """

    values: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    borders: np.ndarray = field(default_factory=lambda: np.zeros((0, 12), np.float32))
    numbers: dict[str, int] = field(default_factory=dict)

    def of(self, photographs: Iterable[Photograph]) -> tuple[list[str], np.ndarray]:
        """Keys and features of those of the photographs that have some."""
        chosen = [row for row in photographs if cache_key(row) in self.numbers]
        return [row.key for row in chosen], self.values[[self.numbers[cache_key(row)] for row in chosen]]

    def borders_of(self, photographs: Iterable[Photograph]) -> np.ndarray:
        """(N, 12) borders of photographs that have features."""
        return self.borders[[self.numbers[cache_key(row)] for row in photographs]]

    @classmethod
    def read(cls, folder: Path, fingerprint: str) -> "Features":
        """What is stored of one encoder; empty where nothing is.

        Raises:
            DamagedError: (a ValueError) if the file is something else.
        """
        path = features_file(folder, fingerprint)
        if not path.exists():
            return cls()
        try:
            with np.load(path, allow_pickle=False) as stored:
                keys, values, borders = stored["keys"].tolist(), stored["values"], stored["borders"]
        except UNREADABLE as error:
            raise DamagedError(path, error, AGAIN) from error
        right = values.ndim == 2 and borders.shape == (len(keys), 12) and len(values) == len(set(keys)) == len(keys)
        if not (right and np.isfinite(values).all()):
            raise DamagedError(path, "expected finite features and borders, a row of each for every key", AGAIN)
        return cls(values.astype(np.float32), borders, {key: number for number, key in enumerate(keys)})

    def write(self, folder: Path, fingerprint: str) -> None:
        """Store the features, whole or not at all."""
        path = features_file(folder, fingerprint)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, open(temporary, "wb") as file:
            keys = np.array(list(self.numbers))
            np.savez(file, keys=keys, values=self.values.astype(np.float16), borders=self.borders)

    def add(self, keys: Sequence[str], values: np.ndarray, borders: np.ndarray) -> None:
        """Append features (n, D), in half precision as they are stored, and borders (n, 12)."""
        if not len(keys):
            return
        values = values.astype(np.float16).astype(np.float32)
        self.values = np.concatenate([self.values, values]) if len(self.numbers) else values
        self.borders = np.concatenate([self.borders, borders])
        self.numbers |= {key: len(self.numbers) + n for n, key in enumerate(keys)}


def features_file(folder: Path, fingerprint: str) -> Path:
    """Where the features of one encoder lie."""
    return folder / "features" / f"{fingerprint}.npz"


def cache_key(row: Photograph) -> str:
    """By what the features of an animal are kept: its photograph's content and its box."""
    box = "" if row.box is None else " ".join(f"{part:.4f}" for part in row.box)
    return f"{row.hash[:32]} {box}"


def encode_all(
    folder: Path,
    encoder: Encoder,
    photographs: Sequence[Photograph],
    view: Callable[[Image.Image], Image.Image] | None = None,
    suffix: str = "",
) -> tuple[Features, dict[str, str]]:
    """Encode what is not stored yet, in an order of its own; interrupted, it goes on where it was.

    Args:
        folder: of the project.
        encoder: makes the features.
        photographs: of which those that are stored already are not read.
        view: applied to each crop, for features of changed photographs; `suffix` names their file.
        suffix: see `view`.

    Returns:
        The features, and the problems of unreadable photographs by key.
    """
    fingerprint = encoder.fingerprint + suffix
    features, problems = Features.read(folder, fingerprint), {}
    missing = {cache_key(row): row for row in sorted(photographs, key=lambda row: row.key)}
    left = iter([(key, row) for key, row in missing.items() if key not in features.numbers])
    total, done, began = len(missing.keys() - features.numbers.keys()), 0, time.perf_counter()
    reported = began
    with ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1))) as pool:
        while chunk := list(islice(left, CHUNK)):
            for start in range(0, len(chunk), BATCH):
                part = chunk[start : start + BATCH]
                crops = list(pool.map(lambda pair: _crop(pair[1], view), part))
                good = [n for n, crop in enumerate(crops) if not isinstance(crop, str)]
                problems |= {part[n][1].key: crops[n] for n in range(len(part)) if n not in good}
                if good:
                    images = [crops[n] for n in good]
                    borders = np.stack([border_colours(image) for image in images])
                    features.add([part[n][0] for n in good], encoder.encode(images), borders)
                done += len(part)
                if time.perf_counter() - reported > SECONDS_BETWEEN_REPORTS:
                    reported = time.perf_counter()
                    logger.info(
                        "Features: %d of %d, %.0f s left", done, total, (reported - began) / done * (total - done)
                    )
            features.write(folder, fingerprint)
    return features, problems


def _crop(row: Photograph, view: Callable | None) -> Image.Image | str:
    """The animal's crop, or what is wrong with its photograph."""
    try:
        image = crop_of(row.file, row.box)
    except UnreadableImage as error:
        return error.problem or str(error)
    return image if view is None else view(image)


def border_colours(image: Image.Image) -> np.ndarray:
    """(12,) mean colour of the upper, lower, left and right border of an RGB image, in [0, 1]."""
    cells = np.asarray(image.resize((BORDER, BORDER), Image.Resampling.BOX), np.float32) / 255
    sides = cells[0], cells[-1], cells[:, 0], cells[:, -1]
    return np.concatenate([side.mean(axis=0) for side in sides])
