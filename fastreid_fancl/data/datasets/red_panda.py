"""The red panda data set of the FANCL paper, with the paper's protocol."""

import logging

from fastreid.data.datasets import DATASET_REGISTRY

from .folder import FolderDataset

logger = logging.getLogger(__name__)

# Table I of the paper: number of identities and of images.
TABLE_I = {"train": (20, 1967), "query": (23, 138), "gallery": (23, 1382)}


@DATASET_REGISTRY.register()
class RedPanda(FolderDataset):
    """Red panda photographs of the paper (Section IV-A, Table I): 43 animals, test animals never seen in training.

    | split   | animals | images |                                                               |
    |---------|---------|--------|---------------------------------------------------------------|
    | train   | 20      | 1,967  | the 10 animals photographed outdoors, and 10 only seen indoors |
    | query   | 23      | 138    | the remaining animals                                         |
    | gallery | 23      | 1,382  | the same 23 animals, other photographs                        |

    The images are not public. Those who have them write ``$FASTREID_DATASETS/RedPanda/metadata.csv`` with one row per
    photograph: ``path`` relative to the csv, ``identity`` (for training images it is used only by supervised methods
    and to measure clusterings), ``split`` and, if the cameras are known, ``camera``. The column split is needed for a
    comparison with the paper. Folders ``RedPanda/{train,query,gallery}/<identity>/*`` work as well. A warning tells if
    numbers differ from Table I.

    Raises:
        ValueError: as ``FolderDataset`` does; for a missing folder the message describes this layout.
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
