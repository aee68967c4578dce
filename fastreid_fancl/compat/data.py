"""Images, batches and loaders."""

import os
import types
from collections.abc import Mapping

import numpy as np
import torch
import torchvision
from fastreid.data import build, common, data_utils
from fastreid.data.transforms import build as transforms_build
from fastreid.data.transforms import functional
from PIL import Image
from torch.utils.data import DataLoader

from ..data import images
from ..data.check import check_items
from ..data.loaders import worker_context
from ..errors import UserError
from .imports import replace, wrap


@replace(build.DataLoaderX)
class PlainDataLoader(DataLoader):
    """Symptom: without a GPU "Found no NVIDIA driver"; a hang on any unreadable image; exit code 134 after training.

    Cause: data/data_utils.py:126-190 prefetches on a CUDA stream in a thread that passes no errors on and never ends.
    Fix: PyTorch's own loader. Batches stay in host memory (pinned where there is a GPU) and compat.model moves them.
    Workers are forked on Linux: processes that `launch` spawned would otherwise spawn theirs, seconds for each.
    """

    def __init__(self, local_rank: int, **kwargs):
        kwargs["pin_memory"] = kwargs.get("pin_memory", False) and torch.cuda.is_available()
        if kwargs.get("num_workers", 0) > 0:
            kwargs.setdefault("multiprocessing_context", worker_context())
        super().__init__(**kwargs)


@replace(build.fast_batch_collator)
def fast_batch_collator(batch: list):
    """Symptom: identities given as NumPy integers become None, and the evaluator fails on it much later.

    Cause: data/build.py:167-187 returns nothing for a type it does not know.
    Fix: a UserError that names the type.
    """
    first = batch[0]
    if isinstance(first, torch.Tensor):
        return torch.stack(batch)
    if isinstance(first, Mapping):
        return {key: fast_batch_collator([item[key] for item in batch]) for key in first}
    if isinstance(first, float):
        return torch.tensor(batch, dtype=torch.float64)
    if isinstance(first, int):
        return torch.tensor(batch)
    if isinstance(first, (str, bytes)):
        return batch
    raise UserError(f"Expected tensors, Python numbers or text in a batch, got {type(first)}: {first!r}. Convert it.")


@replace(common.CommDataset)
class CommDataset(common.CommDataset):
    """Symptom: ``'list' object has no attribute 'to'`` or a TypeError of `sorted`, for identities of the wrong type.

    Cause: data/common.py:27 sorts training identities; evaluation/reid_evaluation.py:43 needs integers in a test.
    Fix: a UserError with the image, when the data set is made.
    """

    def __init__(self, img_items, transform=None, relabel=True):
        check_items(img_items, relabel)
        super().__init__(img_items, transform, relabel)


@replace(data_utils.read_image)
def read_image(file_name: str, format: str | None = None) -> Image.Image:
    """Symptom: RGBA, LA and CMYK images get 2 or 4 channels, 1-bit and 16-bit ones a TypeError.

    Cause: data/common.py:40 calls data/data_utils.py:20 without a format, which then keeps the file's mode.
    Fix: this package's reader, which always gives RGB; other formats are converted from that.
    """
    image = images.read_image(file_name)
    if format in (None, "RGB"):
        return image
    if format == "BGR":
        return Image.fromarray(np.asarray(image)[:, :, ::-1].copy())
    return image.convert(format)


@wrap(functional.to_tensor)
def to_tensor(stock, picture) -> torch.Tensor:
    """Symptom: a "TypedStorage is deprecated" warning in each worker.

    Cause: data/transforms/functional.py:46 builds the tensor from a ByteStorage.
    Fix: the same float32 (3, H, W) in [0, 255] through NumPy; arrays go the stock way.
    """
    if not isinstance(picture, Image.Image):
        return stock(picture)
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).contiguous().float()


class RandomAffine(torchvision.transforms.RandomAffine):
    """Symptom: INPUT.AFFINE on: ``RandomAffine.__init__() got an unexpected keyword argument 'resample'``.

    Cause: data/transforms/build.py:81 uses names that torchvision 0.13 removed.
    Fix: the old names become the new ones; `resample=False` meant nearest, which is the default.
    """

    def __init__(self, *args, resample=False, fillcolor=0, **kwargs):
        super().__init__(*args, fill=fillcolor, **kwargs)


transforms_build.T = types.SimpleNamespace(**{**vars(torchvision.transforms), "RandomAffine": RandomAffine})


def _read_root() -> None:
    build._root = os.environ.get("FASTREID_DATASETS", "datasets")


@wrap(build.build_reid_train_loader)
def build_reid_train_loader(stock, *args, **kwargs) -> DataLoader:
    """Symptom: FASTREID_DATASETS set after the import has no effect.

    Cause: data/build.py:27 reads it once, when it is imported.
    Fix: it is read whenever a loader is built, here and below.
    """
    _read_root()
    return stock(*args, **kwargs)


@wrap(build.build_reid_test_loader)
def build_reid_test_loader(stock, *args, **kwargs) -> tuple[DataLoader, int]:
    """Symptom: evaluation always starts four worker processes.

    Cause: data/build.py:124; from a configuration, `num_workers` would be handed to the data set.
    Fix: DATALOADER.NUM_WORKERS holds for the test loader too.
    """
    _read_root()
    cfg = kwargs.get("cfg", args[0] if args else None)
    if not isinstance(cfg, Mapping):
        return stock(*args, **kwargs)
    workers = kwargs.pop("num_workers", cfg.DATALOADER.NUM_WORKERS)
    return stock(**build._test_loader_from_config(*args, **kwargs), num_workers=workers)
