"""Items become batches: the same ones for any number of workers and processes."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fastreid_fancl.data import UNLABELLED  # first: importing the package fixes fast-reid
from fastreid_fancl.data.images import UnreadableImage
from fastreid_fancl.data.loaders import ReIDDataset, feature_loader, seeded, train_loader, worker_context
from fastreid_fancl.data.samplers import shuffled_batches
from fastreid_fancl.engine.loader import EpochLoader

from fastreid.data.common import CommDataset  # isort: skip
from fastreid.data.transforms import ToTensor  # isort: skip

NUMBER = 10


@pytest.fixture
def items(tmp_path):
    """Ten uniform images, image n of grey 20 n; three animals and two cameras."""
    made = []
    for number in range(NUMBER):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (6, 4), (20 * number,) * 3).save(path)
        made.append((str(path), f"wild_{'abc'[number % 3]}", f"wild_{number % 2}"))
    return made


def noisy(image):
    """Draws from all three generators that fast-reid's transforms use."""
    tensor = ToTensor()(image)
    return tensor + torch.rand(tensor.shape) + float(np.random.rand()) + random.random()


def epoch(items, num_workers=0, rank=0, world_size=1, seed=3):
    batches = shuffled_batches(len(items), batch_size=4, iterations=5, seed=0)
    return list(train_loader(ReIDDataset(items, noisy), batches, seed, num_workers, rank, world_size))


def equal(one, other):
    return all(
        torch.equal(one[key], other[key]) if isinstance(one[key], torch.Tensor) else one[key] == other[key]
        for key in one
    )


def test_an_item_has_the_image_and_says_what_it_is(items):
    item = ReIDDataset(items, ToTensor())[4]
    assert item["images"].shape == (3, 4, 6) and item["images"].dtype == torch.float32
    assert (item["images"] == 80).all()
    assert {key: item[key] for key in ("targets", "camids", "indices")} == {"targets": 1, "camids": 0, "indices": 4}
    assert item["img_paths"] == items[4][0]


def test_training_items_are_numbered_as_in_fast_reid(items):
    ours, stock = ReIDDataset(items, ToTensor()), CommDataset(items, ToTensor(), relabel=True)
    for name in ("img_items", "pids", "cams", "num_classes", "num_cameras"):
        assert getattr(ours, name) == getattr(stock, name)
    for number in range(NUMBER):
        ours_item, stock_item = ours[number], stock[number]
        assert all(ours_item[key] == stock_item[key] for key in ("targets", "camids", "img_paths"))
        assert torch.equal(ours_item["images"], stock_item["images"])


def test_test_items_keep_their_numbers(items):
    tests = [(path, 40 + number, 7) for number, (path, _, _) in enumerate(items)]
    item = ReIDDataset(tests, ToTensor(), relabel=False)[2]
    assert (item["targets"], item["camids"]) == (42, 7)


def test_unlabelled_images_are_no_class(items):
    items[0] = (items[0][0], UNLABELLED, "wild_0")
    dataset = ReIDDataset(items, ToTensor())
    assert dataset.num_classes == 3 and dataset[0]["targets"] == -1
    assert dataset.targets.tolist() == [-1, 1, 2, 0, 1, 2, 0, 1, 2, 0]


def test_pseudo_labels_become_the_targets(items):
    labels = np.array([0, 0, 1, 1, -1, 2, 2, 2, -1, 0])
    dataset = ReIDDataset(items, ToTensor(), labels)
    assert [dataset[n]["targets"] for n in range(NUMBER)] == labels.tolist()
    assert dataset.num_classes == 3
    with pytest.raises(ValueError, match=r"expected 10 labels, one per image, got \(9,\)"):
        ReIDDataset(items, ToTensor(), labels[:9])


def test_a_batch_has_the_types_that_models_and_evaluators_need(items):
    batch = epoch(items)[0]
    assert batch["images"].shape == (4, 3, 4, 6) and batch["images"].dtype == torch.float32
    for key in ("targets", "camids", "indices"):
        assert batch[key].shape == (4,) and batch[key].dtype == torch.int64
    assert batch["img_paths"] == [items[index][0] for index in batch["indices"].tolist()]


def test_an_epoch_does_not_depend_on_the_number_of_workers(items):
    for one, other in zip(epoch(items, 0), epoch(items, 2), strict=True):
        assert equal(one, other)


def test_two_processes_see_the_batches_of_one(items):
    alone, first, second = epoch(items), epoch(items, rank=0, world_size=2), epoch(items, rank=1, world_size=2)
    for batch, left, right in zip(alone, first, second, strict=True):
        assert torch.equal(batch["images"], torch.cat([left["images"], right["images"]]))
        assert torch.equal(batch["indices"], torch.cat([left["indices"], right["indices"]]))
        assert batch["img_paths"] == left["img_paths"] + right["img_paths"]


def test_another_seed_augments_the_same_images_differently(items):
    one, other = epoch(items, seed=3)[0], epoch(items, seed=4)[0]
    assert torch.equal(one["indices"], other["indices"]) and not torch.equal(one["images"], other["images"])


def test_loading_leaves_the_random_states_alone(items):
    def draws():
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    def restart():
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(0)

    restart()
    expected = draws()
    restart()
    epoch(items)
    assert draws() == expected


def test_a_seed_is_undone_after_an_error_too():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    with pytest.raises(KeyError), seeded(5):
        raise KeyError
    assert torch.equal(torch.get_rng_state(), state)


def test_a_batch_counts_how_often_its_rows_repeat_over_all_ranks(items, monkeypatch):
    monkeypatch.setattr("fastreid_fancl.engine.loader.comm.get_rank", lambda: 1)
    monkeypatch.setattr("fastreid_fancl.engine.loader.comm.get_world_size", lambda: 2)
    cfg = SimpleNamespace(DATALOADER=SimpleNamespace(NUM_WORKERS=0), SEED=0)
    loader = EpochLoader(ReIDDataset(items, noisy), cfg)
    for _ in range(2):  # epochs
        loader.start(
            np.array([[0, 1, 2, 0], [1, 1, 1, 2]]), epoch=0, labels=np.array([5, 5, 4, *[0] * (len(items) - 3)])
        )
        first, second = loader
        # Clusters 5, 5, 4, 5 and 5, 5, 5, 4.
        assert first["target_repeats"] == [2, 1, 1] and first["index_repeats"] == [3, 1]
        assert second["target_repeats"] == [2, 1, 1] and second["index_repeats"] == [2, 1, 1]
        assert second["indices"].tolist() == [1, 2]


def test_the_shares_of_the_ranks_are_the_data_set_in_order(items):
    dataset = ReIDDataset(items, ToTensor())
    sizes, seen = [], []
    for rank in range(3):
        indices = [i for b in feature_loader(dataset, 2, rank=rank, world_size=3) for i in b["indices"].tolist()]
        sizes.append(len(indices))
        seen += indices
    assert seen == list(range(NUMBER)) and sizes == [3, 3, 4]


def test_more_ranks_than_images_leave_some_without_work(items):
    dataset = ReIDDataset(items[:2], ToTensor())
    shares = [len(list(feature_loader(dataset, 4, rank=rank, world_size=3))) for rank in range(3)]
    assert sorted(shares) == [0, 1, 1]


def test_an_unreadable_image_stops_the_loader_and_is_named(items):
    with open(items[0][0], "wb"):
        pass
    for workers in (0, 1):
        with pytest.raises(UnreadableImage, match=r"0\.png: the file is empty"):
            list(feature_loader(ReIDDataset(items, ToTensor()), 4, workers))


def test_workers_are_forked_on_linux_whatever_the_start_method(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    assert worker_context() == "fork"
    monkeypatch.setattr("sys.platform", "darwin")
    assert worker_context() is None


@pytest.mark.parametrize(("cameras", "usable"), [("ab", True), ("aa", False), (["a", "b_unknown"], False)])
def test_cameras_are_usable_if_all_are_known_and_there_are_several(cameras, usable):
    dataset = ReIDDataset([("x.png", "1", camera) for camera in cameras])
    assert dataset.has_usable_cameras is usable
    assert dataset.cameras.tolist() == [0, int(cameras[0] != cameras[1])]
