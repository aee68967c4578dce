"""Features of the animals of a project: encoded once, kept by content and box.

Shapes: N animals, D feature dimensions.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ..backbones.timm import NotFetchedError, find_model
from ..config.load import load_config
from ..data.images import READER_VERSION, UnreadableImage
from ..encoder import TrainedEncoder
from ..engine.trained_model import run_config
from ..errors import UserError
from ..files import make_folder, write_arrays
from ..machine import available_cores
from ..progress import Progress
from ..runs.checked import DamagedError
from .crops import own_crop
from .rows import Photograph

START = "tf_efficientnet_lite0"
FROZEN = "Photographs/cluster_contrast"  # whose start is taken as it is
BATCH, CHUNK = 32, 1024
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
    """The model of `fastreid_fancl.load` as a project's encoder, with a fingerprint of its weights."""

    def __init__(self, name: str, cfg: Any):
        self.name, self.trained = name, TrainedEncoder(cfg, start=not name.startswith("run:"))
        digest = hashlib.sha256(f"{READER_VERSION} {list(cfg.INPUT.SIZE_TEST)}".encode())
        for key, values in self.trained.model.state_dict().items():
            digest.update(key.encode() + values.detach().cpu().numpy().tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        """RGB images -> (N, D) float32 at unit length."""
        return self.trained.features(images, batch_size=BATCH)


def encoder_named(name: str, options: Sequence[str] = (), imports: Collection[str] = ()) -> ModelEncoder:
    """Build an encoder.

    Args:
        name: of a timm model, whose pretrained weights are taken without training, or `run:FOLDER`.
        options: KEY VALUE ... of the configuration.
        imports: those IMPORTS of the run, which may be somebody else's, that may run.

    Raises:
        UserError: if there is no such model or run, or its weights are not there.
    """
    common = ["DATASETS.TESTS", "()", *options]
    if name.startswith("run:"):
        return ModelEncoder(name, run_config(Path(name.removeprefix("run:")), common, imports))
    start = ["MODEL.BACKBONE.TIMM", name, "MODEL.BACKBONE.PRETRAIN", "True"]
    try:
        find_model(name, "--encoder")  # first, as its message names the flag
        return ModelEncoder(name, load_config(FROZEN, [*start, *common]))
    except NotFetchedError as error:
        cure = f"Run it once with a network, or leave out --encoder: {START} needs none."
        raise UserError(f"{error.problem} {cure}") from error


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
        stored = read_arrays(features_file(folder, fingerprint), ("values", "borders", "keys"))
        if stored is None:
            return cls()
        values, borders, keys = stored
        names = keys.tolist()
        right = values.ndim == 2 and borders.shape == (len(names), 12) and len(values) == len(set(names)) == len(names)
        if not (right and np.isfinite(values).all()):
            problem = "expected finite features and borders, a row of each for every key"
            raise DamagedError(features_file(folder, fingerprint), problem, AGAIN)
        return cls(values.astype(np.float32), borders, {key: number for number, key in enumerate(names)})

    def write(self, folder: Path, fingerprint: str) -> None:
        """Store the features, whole or not at all."""
        path = features_file(folder, fingerprint)
        make_folder(path.parent)
        keys = np.array(list(self.numbers))
        write_arrays(path, keys=keys, values=self.values.astype(np.float16), borders=self.borders)

    def add(self, keys: Sequence[str], values: np.ndarray, borders: np.ndarray) -> None:
        """Append features (n, D), in half precision as they are stored, and borders (n, 12)."""
        if not len(keys):
            return
        values = values.astype(np.float16).astype(np.float32)
        self.values = np.concatenate([self.values, values]) if len(self.numbers) else values
        self.borders = np.concatenate([self.borders, borders])
        self.numbers |= {key: number for number, key in enumerate(keys, start=len(self.numbers))}


def read_arrays(path: Path, names: Sequence[str]) -> list[np.ndarray] | None:
    """The arrays of an npz file that can be computed again; None without the file.

    Raises:
        DamagedError: (a ValueError) if the file is something else.
    """
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            return [stored[name] for name in names]
    except UNREADABLE as error:
        raise DamagedError(path, error, AGAIN) from error


def features_file(folder: Path, fingerprint: str) -> Path:
    """Where the features of one encoder lie."""
    return folder / "features" / f"{fingerprint}.npz"


def cache_key(row: Photograph) -> str:
    """The name of an animal's features: its photograph's content and its box."""
    box = "" if row.box is None else " ".join(f"{part:.4f}" for part in row.box)
    return f"{row.hash[:32]} {box}"


def encode_all(
    folder: Path,
    encoder: Encoder,
    photographs: Sequence[Photograph],
    view: Callable[[Image.Image], Image.Image] | None = None,
    suffix: str = "",
    displaced: Mapping[str, str] | None = None,
) -> tuple[Features, dict[str, str]]:
    """Encode the photographs that have no stored features, in the order of their keys.

    An interrupted call continues where it stopped.

    Args:
        folder: of the project.
        encoder: makes the features.
        photographs: of which those that are stored already are not read.
        view: applied to each crop, for features of changed photographs; `suffix` names their file.
        suffix: see `view`.
        displaced: of `displaced_in`; these photographs cannot be read.

    Returns:
        The features, and the problems of unreadable photographs by key.
    """
    fingerprint = encoder.fingerprint + suffix
    features = Features.read(folder, fingerprint)
    by_name = {cache_key(row): row for row in sorted(photographs, key=lambda row: row.key)}
    missing = [(name, row) for name, row in by_name.items() if name not in features.numbers]
    problems: dict[str, str] = {}
    workers = ThreadPoolExecutor(min(4, available_cores()))
    with workers as pool, Progress("Features", len(missing), "photographs") as progress:
        for start in range(0, len(missing), CHUNK):
            chunk, new = missing[start : start + CHUNK], Features()
            for first in range(0, len(chunk), BATCH):
                batch = chunk[first : first + BATCH]
                problems |= _add_batch(new, encoder, pool, batch, view, displaced or {})
                progress.advance(len(batch))
            features.add(list(new.numbers), new.values, new.borders)
            features.write(folder, fingerprint)
    return features, problems


def _add_batch(
    features: Features,
    encoder: Encoder,
    pool: ThreadPoolExecutor,
    batch: Sequence[tuple[str, Photograph]],
    view: Callable[[Image.Image], Image.Image] | None,
    displaced: Mapping[str, str],
) -> dict[str, str]:
    """Encode photographs, each with the name of its features; the problems of the unreadable ones by key."""
    names, images, problems = [], [], {}
    for (name, row), crop in zip(batch, pool.map(lambda pair: _crop(pair[1], view, displaced), batch), strict=True):
        if isinstance(crop, str):
            problems[row.key] = crop
        else:
            names.append(name)
            images.append(crop)
    if images:
        features.add(names, encoder.encode(images), np.stack([border_colours(image) for image in images]))
    return problems


def _crop(
    row: Photograph, view: Callable[[Image.Image], Image.Image] | None, displaced: Mapping[str, str]
) -> Image.Image | str:
    """The animal's crop, or what is wrong with its photograph."""
    try:
        image = own_crop(row, displaced)
    except UnreadableImage as error:
        return error.problem or str(error)
    return image if view is None else view(image)


def border_colours(image: Image.Image) -> np.ndarray:
    """(12,) mean colour of the upper, lower, left and right border of an RGB image, in [0, 1]."""
    cells = np.asarray(image.resize((BORDER, BORDER), Image.Resampling.BOX), np.float32) / 255
    sides = cells[0], cells[-1], cells[:, 0], cells[:, -1]
    return np.concatenate([side.mean(axis=0) for side in sides])
