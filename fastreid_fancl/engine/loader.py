"""The endless iterator over batches that fast-reid's train loop expects, filled one epoch at a time."""

import numpy as np
from fastreid.utils import comm

from ..data.loaders import ReIDDataset, train_loader
from ..memory import repeat_counts
from .seeds import derive_seed


class EpochLoader:
    """Iterates over the batches of the epoch that was started last.

    A batch also has "target_repeats" and "index_repeats", the `repeat_counts` of all ranks' targets and indices, which
    memories need on the host.

    Attributes:
        dataset: all training images.
    """

    def __init__(self, dataset: ReIDDataset, cfg):
        self.dataset = dataset
        self.num_workers, self.seed = cfg.DATALOADER.NUM_WORKERS, cfg.SEED
        self._loader, self._plan, self._targets, self._batches = (), (), None, None

    def start(self, batches: np.ndarray, epoch: int, labels: np.ndarray | None = None) -> None:
        """Serve an epoch.

        Args:
            batches: (iterations, global batch size) image numbers, of which this rank loads its slice.
            epoch: its number; with the seed it decides the augmentation.
            labels: (N,) pseudo-labels to serve as targets; None serves the identities.
        """
        dataset = self.dataset
        if labels is not None:
            dataset = ReIDDataset(dataset.img_items, dataset.transform, labels, views=dataset.views, read=dataset.read)
        self._batches = None
        self._plan, self._targets = batches, dataset.targets
        self._loader = train_loader(
            dataset,
            batches,
            seed=derive_seed(self.seed, epoch),
            num_workers=self.num_workers,
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
        )

    def __iter__(self):
        return self

    def __next__(self) -> dict:
        if self._batches is None:
            self._batches = zip(self._loader, self._plan, strict=True)
        batch, plan = next(self._batches)
        return {**batch, "target_repeats": repeat_counts(self._targets[plan]), "index_repeats": repeat_counts(plan)}
