"""Load batches from the items of a data set: dicts of images, targets, camids, indices and img_paths."""

import contextlib
import multiprocessing
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ..errors import UserError
from . import UNKNOWN_CAMERA, UNLABELLED
from .images import read_image
from .keys import image_keys
from .samplers import GlobalBatchSampler

Item = tuple[str, str | int, str | int]


class ReIDDataset(Dataset):
    """Images with targets, in place of fast-reid's ``CommDataset`` (data/common.py).

    ``dataset[index]`` and ``dataset[index, seed]`` give a dict of ``images`` (the transformed photograph, with
    fast-reid's transforms (3, H, W) float32 in [0, 255]), ``targets``, ``camids``, ``indices`` (ints) and
    ``img_paths``. With a seed, the random transforms of the item depend on the seed alone, and the random states of the
    process stay as they are.

    Args:
        items: ``(path, pid, camid)`` of each image.
        transform: transform of the RGB image.
        labels: (N,) pseudo-labels to use as targets; if None, the targets are the pids.
        relabel: whether to number pids and cameras 0, 1, ... in sorted order (training). Otherwise they must be ints
            (query and gallery). Unlabelled images get the target -1 and belong to no class.
        views: further transforms of the same photograph, each with its key in the item.
        read: function from a path to an RGB image.

    Attributes:
        targets: (N,) int64.
        cameras: (N,) int64 camera numbers.
        img_items, pids, cams, num_classes, num_cameras: as fast-reid's code expects them.
    """

    def __init__(
        self,
        items: Sequence[Item],
        transform: Callable | None = None,
        labels: np.ndarray | None = None,
        relabel: bool = True,
        views: dict[str, Callable] | None = None,
        read: Callable[[str], Image.Image] = read_image,
    ):
        self.img_items = list(items)
        self.transform = transform
        self.views = views or {}
        self.read = read
        self.cams = sorted({camid for _, _, camid in self.img_items})
        if labels is None:
            self.pids = sorted({pid for _, pid, _ in self.img_items} - {UNLABELLED})
            self.targets = self._numbers(1, self.pids, relabel)
        else:
            self.targets = np.asarray(labels, dtype=np.int64)
            if self.targets.shape != (len(self.img_items),):
                raise UserError(f"expected {len(self.img_items)} labels, one per image, got {self.targets.shape}")
            self.pids = np.unique(self.targets[self.targets >= 0]).tolist()
        self.cameras = self._numbers(2, self.cams, relabel)

    def _numbers(self, column: int, names: list, relabel: bool) -> np.ndarray:
        """Numbers (N,) int64 of one column of the items; -1 for values that are not among ``names``."""
        if not relabel:
            return np.array([item[column] for item in self.img_items], dtype=np.int64)
        numbers = {name: number for number, name in enumerate(names)}
        return np.array([numbers.get(item[column], -1) for item in self.img_items], dtype=np.int64)

    @cached_property
    def keys(self) -> np.ndarray:
        """The `image_keys` of all images, (N,) uint64."""
        return image_keys(path for path, _, _ in self.img_items)

    @property
    def num_classes(self) -> int:
        """Number of identities or clusters."""
        return len(self.pids)

    @property
    def num_cameras(self) -> int:
        """Number of different camids."""
        return len(self.cams)

    @property
    def has_usable_cameras(self) -> bool:
        """Whether the camera of every image is known and there are at least two cameras."""
        return self.num_cameras > 1 and not any(str(camera).endswith(UNKNOWN_CAMERA) for camera in self.cams)

    def __len__(self) -> int:
        return len(self.img_items)

    def __getitem__(self, key: int | tuple[int, int]) -> dict:
        index, seed = key if isinstance(key, tuple) else (key, None)
        path = self.img_items[index][0]
        image = self.read(path)
        with contextlib.nullcontext() if seed is None else seeded(seed):
            transformed = image if self.transform is None else self.transform(image)
            views = {name: transform(image) for name, transform in self.views.items()}
        return {
            "images": transformed,
            **views,
            "targets": int(self.targets[index]),
            "camids": int(self.cameras[index]),
            "indices": int(index),
            "img_paths": path,
        }


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU generators of Python, NumPy and torch, and restore their states at the end.

    ``torch.manual_seed`` is not used because it would also reset the generators of the GPUs.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def train_loader(
    dataset: Dataset,
    batches: np.ndarray,
    seed: int,
    num_workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader:
    """Load one epoch: this rank's slice of each planned global batch, with a seed for every item.

    Args:
        dataset: a :class:`ReIDDataset`.
        batches: (iterations, batch_size) indices, from ``samplers``; batch_size counts the images of all ranks.
        seed: seed of the epoch's augmentation.
        num_workers: processes that read and transform; the batches do not depend on it.
        rank: rank of this process.
        world_size: number of processes.
    """
    return _loader(dataset, GlobalBatchSampler(batches, seed, rank, world_size), num_workers)


def feature_loader(
    dataset: Dataset,
    batch_size: int,
    num_workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader:
    """Load this rank's contiguous share of the data set, once and in order; shares differ by at most one image.

    Args:
        dataset: a :class:`ReIDDataset` with test-time transforms.
        batch_size: images per batch of this process; the last batch may be smaller.
        num_workers: as for :func:`train_loader`.
        rank: as for :func:`train_loader`.
        world_size: as for :func:`train_loader`.
    """
    if batch_size < 1:
        raise UserError(f"expected at least 1 image per batch, got {batch_size}")
    start, stop = (len(dataset) * part // world_size for part in (rank, rank + 1))
    batches = [range(first, min(first + batch_size, stop)) for first in range(start, stop, batch_size)]
    return _loader(dataset, batches, num_workers)


def _loader(dataset: Dataset, batch_sampler: Sequence, num_workers: int) -> DataLoader:
    return DataLoader(
        dataset,
        batch_sampler=batch_sampler,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context=worker_context() if num_workers > 0 else None,
        # without its own generator, a loader draws from torch's global one at each start
        generator=torch.Generator().manual_seed(0),
    )


def worker_context() -> str | None:
    """Choose fork on Linux, also in spawned processes, whose workers would otherwise import torch again (slow)."""
    return "fork" if sys.platform == "linux" and "fork" in multiprocessing.get_all_start_methods() else None
