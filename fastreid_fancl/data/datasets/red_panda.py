"""The red pandas of the FANCL paper, in its protocol."""

import logging

from fastreid.data.datasets import DATASET_REGISTRY

from .folder import FolderDataset

logger = logging.getLogger(__name__)

# Table I of the paper: identities and images
TABLE_I = {"train": (20, 1967), "query": (23, 138), "gallery": (23, 1382)}


@DATASET_REGISTRY.register()
class RedPanda(FolderDataset):
    """Red panda photographs of the paper (Section IV-A, Table I): 43 animals, test animals never seen in training.

    | split   | animals | images |                                                               |
    |---------|---------|--------|---------------------------------------------------------------|
    | train   | 20      | 1,967  | the 10 animals photographed outdoors, and 10 only seen indoors |
    | query   | 23      | 138    | the remaining animals                                         |
    | gallery | 23      | 1,382  | the same 23 animals, other photographs                        |

    The images are not public. Their owners lay them out as ``$FASTREID_DATASETS/RedPanda/metadata.csv``, one row a
    photograph: ``path`` relative to the csv, ``identity`` (of training images it is only read by supervised methods and
    to measure clusterings), ``split`` and, if the cameras are known, ``camera``. The split column is needed for
    comparison with the paper. Folders ``RedPanda/{train,query,gallery}/<identity>/*`` do as well. Numbers that differ
    from Table I are warned of.

    Raises:
        ValueError: as ``FolderDataset``; a missing folder names this layout.
    """

    dataset_name = "RedPanda"
    layout = """The images are not public; those who have them lay out one of
  RedPanda/metadata.csv                              columns path, identity, split (train, query, gallery)
  RedPanda/{train,query,gallery}/<identity>/*.jpg
with Table I's 20 animals / 1,967 images for training, 23 / 138 as queries and 23 / 1,382 in the gallery.
Without them, train on SyntheticPandas: it has the same shape."""

    def __init__(self, root: str | None = None, **kwargs):
        super().__init__(root, **kwargs)
        differences = [
            f"{split} has {self.get_num_pids(items)} animals / {len(items)} images, the paper {animals} / {images}"
            for (split, (animals, images)), items in zip(
                TABLE_I.items(), (self.train, self.query, self.gallery), strict=True
            )
            if (self.get_num_pids(items), len(items)) != (animals, images)
        ]
        if differences:
            self._warn("numbers differ from Table I, so scores do not compare with the paper", differences)
