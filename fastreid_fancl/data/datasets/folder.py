"""A folder below $FASTREID_DATASETS as a data set, found by its name."""

import logging
import os
from collections.abc import Sequence

from fastreid.data.datasets.bases import ImageDataset

from ...errors import UserError
from ...logs import log_once
from .. import UNKNOWN_CAMERA, UNLABELLED, shorten
from ..check import require, unmatched_queries
from .metadata import read_metadata
from .names import near_duplicates
from .photos import LAYOUT, SPLITS, Photo
from .protocols import counted_mates, leave_one_out, market1501
from .split import assign_splits, no_test_reason
from .tree import read_folders

logger = logging.getLogger(__name__)


def datasets_root(root: str | None = None) -> str:
    """Return the folder of all data sets: `root` if given, else the current $FASTREID_DATASETS, else ``datasets``."""
    return root or os.environ.get("FASTREID_DATASETS") or "datasets"


class FolderDataset(ImageDataset):
    """Photographs with or without identities, splits and cameras; ``photos.LAYOUT`` shows the possible layouts.

    Subclasses set ``dataset_name``, the name of the folder. Without splits, the rule of ``split`` assigns them. Without
    identities everything is for training, and ``show_test`` says why nothing can be evaluated.

    Items are ``(path, pid, camid)``. For training both are str and begin with the name of the data set; pid is
    ``UNLABELLED`` and camid ``<name>_unknown`` if unknown. For query and gallery both are int. ``protocols`` makes
    query and gallery from the split "test". With the splits query and gallery, an unknown camera has one number in the
    query and another in the gallery: the Market-1501 rule drops matches of the same camera, but must not drop these.

    Attributes:
        dataset_dir: the folder.
        photos: all photographs, with their splits.
        has_cameras: whether the camera of every photograph is known.
        leaves_one_out: whether the test is leave-one-out.
        no_test_reason: why the rule of ``split`` gave no test photographs; None if the table has splits.
        test_identities: names of the query and gallery pids, ``test_identities[pid]``.

    Raises:
        ValueError: if there is no such folder or it has no photographs; if rows or files cannot be used, all in one
            message; if there is a split test beside query or gallery.
    """

    dataset_name = ""
    layout = LAYOUT

    def __init__(self, root: str | None = None, **kwargs):
        self.dataset_dir = self.locate(datasets_root(root))
        # Nothing below may depend on the order of a table's rows: ties, batches and random draws go by position.
        photos = sorted(self.read_photos(), key=lambda photo: photo.path.split(os.sep))
        self.photos = assign_splits(photos)
        self.no_test_reason = None if any(photo.split for photo in photos) else no_test_reason(photos)
        self.has_cameras = all(photo.camera is not None for photo in self.photos)
        self.leaves_one_out = self._tests_by_leave_one_out()
        tested = [photo for photo in self.photos if photo.split != "train"]
        protocol = leave_one_out if self.leaves_one_out else market1501
        test = protocol(tested)
        self.test_identities = test.names
        super().__init__(self._train_items(), test.query, test.gallery, **kwargs)
        self._log_oddities()

    def _tests_by_leave_one_out(self) -> bool:
        photos = {split: sum(photo.split == split for photo in self.photos) for split in SPLITS[1:]}
        if photos["test"] and (photos["query"] or photos["gallery"]):
            counts = ", ".join(f"{split} {number}" for split, number in photos.items())
            raise UserError(
                f"data set {self.dataset_name}: expected photographs of the split test, or of query and gallery, got "
                f"both ({counts}). Give all of them the split test, or none."
            )
        return photos["test"] > 0

    def locate(self, root: str) -> str:
        """Return the folder of this data set below ``root``."""
        folder = os.path.join(root, self.dataset_name)
        if not os.path.isdir(folder):
            raise UserError(
                f"data set {self.dataset_name}: there is no folder {folder}. Set FASTREID_DATASETS to the folder that "
                f"holds {self.dataset_name}/, now {os.path.abspath(root)}. {self.layout}"
            )
        return folder

    def read_photos(self) -> list[Photo]:
        """Read the photographs from the folder's metadata.csv, or else from its sub-folders."""
        tables = [name for name in sorted(os.listdir(self.dataset_dir)) if name.lower() == "metadata.csv"]
        source = os.path.join(self.dataset_dir, *tables[:1])
        photos = read_metadata(source) if tables else read_folders(source)
        if not photos:
            raise UserError(f"data set {self.dataset_name}: no photographs in {source}. {self.layout}")
        return photos

    def show_train(self) -> None:
        """Log the numbers for fast-reid's loaders.

        Raises:
            ValueError: if there is nothing to train on; the message says what to do.
        """
        require(self, ("train",))
        super().show_train()

    def show_test(self) -> None:
        """Log the numbers for fast-reid's loaders.

        Raises:
            ValueError: if queries cannot be matched against a gallery; the message says what to do.
        """
        require(self, ("query", "gallery"))
        super().show_test()

    def combine_all(self) -> None:
        """Train on the images of all splits, with consistent identities and cameras.

        fast-reid's own method treats identities and cameras of the test as different ones, and unknown cameras as two.
        """
        kept = {path for split in (self.train, self.query, self.gallery) for path, *_ in split}
        self._train = [item for item in self._train_items(SPLITS) if item[0] in kept]

    def _train_items(self, splits: Sequence[str] = ("train",)) -> list[tuple[str, str, str]]:
        return [
            (
                photo.path,
                UNLABELLED if photo.identity is None else f"{self.dataset_name}_{photo.identity}",
                f"{self.dataset_name}{UNKNOWN_CAMERA if photo.camera is None else '_' + photo.camera}",
            )
            for photo in self.photos
            if photo.split in splits
        ]

    def _log_oddities(self) -> None:
        """Warn of what is allowed but rarely intended: similar names, shared identities, no match, missing cameras."""
        for kind in ("identity", "camera"):
            groups = near_duplicates({getattr(photo, kind) for photo in self.photos} - {None})
            if groups:
                written = [", ".join(map(repr, group)) for group in groups]
                only = "differ only in letter case, leading zeros or spaces"
                self._warn(
                    f"{len(groups)} groups of {kind} names {only}; each spelling counts as a different {kind}", written
                )
        train = {photo.identity for photo in self.photos if photo.split == "train"}
        shared = [name for name in self.test_identities if name in train]
        if shared:
            self._warn(f"{len(shared)} identities are in training and test, so scores will be too high", shared)
        if self.query and self.gallery:
            alone = unmatched_queries(self)
            if alone:
                camera = " from another camera" if self.has_cameras else ""
                why = "no match from another sequence" if self.leaves_one_out else f"no gallery match{camera}"
                self._warn(f"{len(alone)} of {len(self.query)} queries have {why} and are not scored", alone)
        mates = [] if self.leaves_one_out else counted_mates(self.photos)
        if mates:
            self._warn(
                f"{len(mates)} of {len(self.query)} queries have gallery matches in their own sequence, so scores may "
                "be too high: with the splits query and gallery, only matches of the query's own camera do not count. "
                "Name the cameras, or give all these photographs the split test, which leaves out sequences",
                mates,
            )
        unknown = [photo.path for photo in self.photos if photo.camera is None]
        if unknown and len(unknown) < len(self.photos) and not self.leaves_one_out:
            self._warn(f"{len(unknown)} of {len(self.photos)} photographs have no camera", unknown)

    def _warn(self, message: str, lines: list[str]) -> None:
        log_once(logger, logging.WARNING, f"data set {self.dataset_name}: {message}\n{shorten(lines)}")
