"""Data sets by name: fast-reid's own, those of this package, and every folder under $FASTREID_DATASETS."""

import functools
import os
from operator import itemgetter

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from ...errors import UserError, did_you_mean
from ..check import LOADED_SPLITS
from .folder import FolderDataset, datasets_root
from .names import FileIndex
from .red_panda import RedPanda
from .synthetic import SYNTHETIC

__all__ = ["SYNTHETIC", "FolderDataset", "RedPanda", "datasets_root", "load", "resolve"]


def resolve(name: str) -> type[ImageDataset]:
    """Return the class of a data set: the registered one, or else one for the folder $FASTREID_DATASETS/<name>.

    Raises:
        ValueError: if there is neither; the message lists what there is.
    """
    registered = DATASET_REGISTRY._obj_map
    if name in registered:
        return registered[name]
    root = datasets_root()
    folder = FileIndex().find(os.path.join(root, name)) if _is_plain(name) else None
    if folder and os.path.isdir(folder):
        return _folder_class(os.path.relpath(folder, root))
    if _is_path(name):
        raise UserError(f"no data set named {name!r}: {_explain_path(name, root)}")
    folders = _folders(root)
    raise UserError(
        f"no data set named {name!r}."
        + did_you_mean(name, [*registered, *folders])
        + f" Registered: {', '.join(sorted(registered))}. Folders in {os.path.abspath(root)}: "
        + f"{', '.join(folders) or 'none'}. Set FASTREID_DATASETS to the folder that holds {name}/, or correct "
        "DATASETS.NAMES and DATASETS.TESTS."
    )


@functools.lru_cache(maxsize=64)
def _load(cls: type[ImageDataset], root: str) -> ImageDataset:
    try:
        dataset = cls(root=root)
        if not issubclass(cls, FolderDataset):
            _sort(dataset)
    except (AssertionError, RuntimeError) as error:  # raised by fast-reid's own data sets
        raise UserError(
            f"{cls.__name__} is not below {os.path.abspath(root)} ({error}): set FASTREID_DATASETS to the folder that "
            "holds it, or DATASETS.NAMES and DATASETS.TESTS to your data set."
        ) from error
    return dataset


def _sort(dataset: ImageDataset) -> None:
    """Sort the images, since fast-reid's own data sets list them in the order of the file system."""
    for split in LOADED_SPLITS:
        setattr(dataset, f"_{split}", sorted(getattr(dataset, split), key=itemgetter(0)))


def load(name: str) -> ImageDataset:
    """Load a data set by name, once per process; photographs that `check.preflight` removes stay removed."""
    return _load(resolve(name), datasets_root())


@functools.lru_cache(maxsize=256)
def _folder_class(name: str) -> type[FolderDataset]:
    return type(name, (FolderDataset,), {"dataset_name": name, "__doc__": f"The folder {name}."})


def _is_plain(name: str) -> bool:
    """Whether a name can only refer to a folder below the root."""
    return bool(name) and not os.path.isabs(name) and ".." not in name.split("/") and name != "."


def _is_path(name: str) -> bool:
    """Whether a name that is not a data set is probably meant as a path."""
    return bool(os.path.dirname(name) or "\\" in name or name.startswith("~")) or os.path.exists(name) and len(name) > 2


def _explain_path(name: str, root: str) -> str:
    """Say how to name a data set for which a path was given."""
    path = os.path.abspath(os.path.expanduser(name.replace("\\", "/")))
    if os.path.isfile(path):
        path = os.path.dirname(path)
    there = "" if os.path.isdir(path) else f" (there is no folder {path} either)"
    return (
        f"expected the name of a folder below FASTREID_DATASETS, now {os.path.abspath(root)}, and no path{there}. Set "
        f"FASTREID_DATASETS={os.path.dirname(path)} and name the data set {os.path.basename(path) or '<folder>'!r} in "
        "DATASETS.NAMES and DATASETS.TESTS."
    )


def _folders(root: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []
