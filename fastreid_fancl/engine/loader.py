"""The training batches of one epoch at a time, behind the endless iterator that the stock train loop expects."""

from fastreid.utils import comm

from ..data.loaders import ReIDDataset, train_loader
from .seeds import derive


class EpochLoader:
    """Iterates over the batches of the epoch that was started last.

    Attributes:
        dataset: all training images, with the labels of the epoch.
    """

    def __init__(self, dataset: ReIDDataset, cfg):
        self.dataset = dataset
        self.num_workers, self.seed = cfg.DATALOADER.NUM_WORKERS, cfg.SEED
        self._loader, self._batches = (), None

    def start(self, batches, epoch: int) -> None:
        """Serve `batches`, (iterations, global batch size) image numbers, of which this rank loads its slice."""
        self._batches = None
        self._loader = train_loader(
            self.dataset,
            batches,
            seed=derive(self.seed, epoch),
            num_workers=self.num_workers,
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
        )

    def __iter__(self):
        return self

    def __next__(self) -> dict:
        if self._batches is None:
            self._batches = iter(self._loader)
        return next(self._batches)
