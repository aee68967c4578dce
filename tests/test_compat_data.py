"""Images, batches and loaders of stock fast-reid."""

import sys
import threading
import warnings

import numpy as np
import pytest
import torch
from bag_of_tricks import stock_cfg
from fastreid.data import build, build_reid_test_loader, build_reid_train_loader
from fastreid.data.common import CommDataset
from fastreid.data.datasets.bases import ImageDataset
from fastreid.data.samplers import TrainingSampler
from fastreid.data.transforms import ToTensor, build_transforms
from PIL import Image
from torch.utils.data import BatchSampler

ITEMS = [(f"{pid}_{n}.png", f"p{pid}", f"c{n % 2}") for pid in range(4) for n in range(5)]


def endless_loader(items, workers=0):
    """What build_reid_train_loader makes: batches of 2 from an endless sampler."""
    return build.DataLoaderX(
        0,
        dataset=CommDataset(items, ToTensor()),
        batch_sampler=BatchSampler(TrainingSampler(len(items), seed=0), 2, True),
        num_workers=workers,
        collate_fn=build.fast_batch_collator,
        pin_memory=True,
    )


@pytest.fixture
def pictures(tmp_path):
    """Four readable images as training items."""
    for n in range(4):
        Image.new("RGB", (8, 8), (n, 0, 0)).save(tmp_path / f"{n}.png")
    return [(str(tmp_path / f"{n}.png"), f"p{n}", "c0") for n in range(4)]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_stops_the_loader_instead_of_hanging_it(pictures, workers):
    for path, *_ in pictures:
        with open(path, "wb") as file:
            file.write(b"no image")
    with pytest.raises(ValueError, match="0.png|1.png|2.png|3.png"):
        next(iter(endless_loader(pictures, workers)))


def test_the_loader_is_quiet_leaves_no_thread_and_keeps_batches_on_the_host(pictures):
    before = threading.active_count()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = next(iter(endless_loader(pictures)))
    assert batch["images"].device.type == "cpu" and batch["images"].shape == (2, 3, 8, 8)
    assert threading.active_count() == before


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_workers_are_forked_also_in_a_process_that_spawns(pictures):
    loader = endless_loader(pictures, workers=1)
    assert loader.multiprocessing_context.get_start_method() == "fork"


def test_a_batch_of_numpy_integers_is_an_error_and_not_none():
    with pytest.raises(ValueError, match="numpy.int64"):
        build.fast_batch_collator([{"targets": np.int64(3)}])


@pytest.mark.parametrize(
    "items, relabel, message",
    [
        ([], True, "at least one training image"),
        ([], False, "at least one query and gallery image"),
        ([("a.png", "3", 0)], False, "pid of the query and gallery images a Python int, got '3' .* a.png"),
        ([("a.png", 3, 0), ("b.png", 3, np.int64(1))], False, "camid .* a Python int, got .* b.png"),
        ([("a.png", "x", "c"), ("b.png", 1, "c")], True, "pid .* text or integers throughout, got 1 .* b.png"),
    ],
)
def test_items_that_cannot_become_batches_are_named(items, relabel, message):
    with pytest.raises(ValueError, match=message):
        CommDataset(items, relabel=relabel)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P", "1", "I;16", "CMYK"])
def test_an_image_of_any_mode_becomes_three_channels(mode, tmp_path):
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.new(mode, (4, 6)).save(path)
    image = CommDataset([(str(path), "p", "c")], ToTensor())[0]["images"]
    assert image.shape == (3, 6, 4) and image.dtype == torch.float32


def test_to_tensor_keeps_pixel_values_without_a_warning():
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = ToTensor()(Image.fromarray(pixels))
    assert torch.equal(tensor, torch.from_numpy(pixels).permute(2, 0, 1).float())


def test_random_affine_is_built_and_fills_with_black():
    cfg = stock_cfg(INPUT__AFFINE__ENABLED=True, INPUT__REA__ENABLED=False)
    affine = next(t for t in build_transforms(cfg).transforms if type(t).__name__ == "RandomAffine")
    assert affine.fill == 0 and affine.scale == [0.9, 1.1]
    assert build_transforms(cfg)(Image.new("RGB", (16, 32))).shape == (3, 32, 16)


def test_the_data_root_is_read_when_a_loader_is_built(monkeypatch):
    roots = []

    class Probe(ImageDataset):
        def __init__(self, root):
            roots.append(root)
            super().__init__(ITEMS, [("q.png", 1, 0)], [("g.png", 1, 1)])

    monkeypatch.setitem(build.DATASET_REGISTRY._obj_map, "Probe", Probe)
    monkeypatch.setenv("FASTREID_DATASETS", "first")
    build_reid_train_loader(stock_cfg(DATASETS__NAMES=("Probe",)))
    monkeypatch.setenv("FASTREID_DATASETS", "second")
    build_reid_test_loader(stock_cfg(), dataset_name="Probe")
    assert roots == ["first", "second"]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_test_loader_has_the_configured_number_of_workers(datasets, workers):
    loader, num_query = build_reid_test_loader(stock_cfg(DATALOADER__NUM_WORKERS=workers), dataset_name="Stripes")
    assert loader.num_workers == workers and num_query == 3
