"""From a data set's items to batches: dicts of images, targets, camids, indices and img_paths."""

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

from . import UNKNOWN_CAMERA, UNLABELLED
from .images import read_image
from .keys import image_keys
from .samplers import GlobalBatchSampler

Item = tuple[str, str | int, str | int]


class ReIDDataset(Dataset):
    """Images with targets, in the place of fast-reid's ``CommDataset`` (data/common.py).

    ``dataset[index]`` and ``dataset[index, seed]`` give a dict of ``images`` (what ``transform`` makes of the
    photograph; with fast-reid's transforms (3, H, W) float32 in [0, 255]), ``targets``, ``camids``, ``indices``
    (ints) and ``img_paths``. A seed makes the random transforms of this one item a function of it, and leaves the
    process's random states as they were.

    Args:
        items: ``(path, pid, camid)`` of each image.
        transform: applied to the RGB image.
        labels: (N,) pseudo-labels to use as targets; without them the targets are the pids.
        relabel: number pids and cameras 0, 1, ... in sorted order (training); otherwise they are ints already
            (query and gallery). Unlabelled images get target -1 and are no class.
        views: further transforms of the same photograph, each under its own key of the item.
        read: from a path to an RGB image.

    Attributes:
        targets: (N,) int64.
        cameras: (N,) int64; the numbers of the cameras.
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
                raise ValueError(f"expected {len(self.img_items)} labels, one an image, got {self.targets.shape}")
            self.pids = np.unique(self.targets[self.targets >= 0]).tolist()
        self.cameras = self._numbers(2, self.cams, relabel)

    def _numbers(self, column: int, names: list, relabel: bool) -> np.ndarray:
        """(N,) int64 of one column of the items; -1 for what is not among ``names``."""
        if not relabel:
            return np.array([item[column] for item in self.img_items], dtype=np.int64)
        numbers = {name: number for number, name in enumerate(names)}
        return np.array([numbers.get(item[column], -1) for item in self.img_items], dtype=np.int64)

    @cached_property
    def keys(self) -> np.ndarray:
        """(N,) uint64 of `image_keys`."""
        return image_keys(path for path, _, _ in self.img_items)

    @property
    def num_classes(self) -> int:
        return len(self.pids)

    @property
    def num_cameras(self) -> int:
        return len(self.cams)

    @property
    def has_usable_cameras(self) -> bool:
        """Whether the camera of every image is known, and not one and the same."""
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
    """Seed Python's, NumPy's and torch's CPU generators, and put their states back at the end.

    ``torch.manual_seed`` would also reset the generators of the GPUs, hence torch's CPU generator alone.
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
    """Load one epoch: this rank's slice of each planned global batch, with every item seeded.

    Args:
        dataset: a :class:`ReIDDataset`.
        batches: (iterations, batch_size) indices, from ``samplers``; batch_size is that of all ranks together.
        seed: of the epoch's augmentation.
        num_workers: processes that read and transform; the batches do not depend on it.
        rank: this process among ``world_size``.
        world_size: see ``rank``.
    """
    return _loader(dataset, GlobalBatchSampler(batches, seed, rank, world_size), num_workers)


def feature_loader(
    dataset: Dataset,
    batch_size: int,
    num_workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader:
    """Load this rank's contiguous share of the data set, in order and once; shares differ by one image at most.

    Args:
        dataset: a :class:`ReIDDataset` with test-time transforms.
        batch_size: images a batch of this process; the last batch may be smaller.
        num_workers, rank, world_size: as in :func:`train_loader`.
    """
    if batch_size < 1:
        raise ValueError(f"expected at least 1 image a batch, got {batch_size}")
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
        # a loader without a generator of its own draws from torch's global one at each start
        generator=torch.Generator().manual_seed(0),
    )


def worker_context() -> str | None:
    """Fork on Linux, also inside spawned processes, whose workers would import torch anew (tens of seconds)."""
    return "fork" if sys.platform == "linux" and "fork" in multiprocessing.get_all_start_methods() else None
