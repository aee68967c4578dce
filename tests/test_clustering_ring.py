"""Two gloo processes with a shard of the rows each, against one with all."""

from types import SimpleNamespace

import numpy as np
import oracles
import pytest
import torch
from conftest import on_two_ranks

from fastreid_fancl.clustering import knn, ring, ring_knn
from fastreid_fancl.clustering.device import improve_on_device
from fastreid_fancl.clustering.plan import Plan
from fastreid_fancl.engine.labels import search_together

SHARDS = slice(0, 130), slice(130, 200)
K = 7


def data_sets():
    features, _ = oracles.hard_features(200, 48)
    with_zeros = features.copy()
    with_zeros[::9] = 0
    return {
        "features": features,
        "features with zero rows": with_zeros,
        "copies of ten rows": np.repeat(features[:10], 20, axis=0)[np.random.default_rng(0).permutation(200)],
        "rows equally far": np.eye(200, dtype=np.float32),
    }


def options(algorithm="dbscan"):
    return SimpleNamespace(ALGORITHM=algorithm, K1=K)


def one_of_two(rank: int) -> dict[str, list[torch.Tensor]]:
    part = SHARDS[rank]
    found = {name: ring_knn(torch.from_numpy(features[part]), K) for name, features in data_sets().items()}
    whole = torch.from_numpy(data_sets()["features"])
    found["all"], found["self"] = (ring_knn(whole[part], k) for k in (500, 1))
    found["of an epoch"] = search_together(whole, options()) or ()
    assert search_together(whole, options("oracle")) is None
    broken = whole[part].clone()
    broken[3] += torch.nan if rank == 1 else 0
    with pytest.raises(ValueError, match=r"process 1: .*1 of 70 rows: 3"):
        ring_knn(broken, K)
    with pytest.raises(ValueError, match=r"shards of one D, got \[\[130, 48\], \[70, 47\]\]"):
        ring_knn(whole[part][:, : 48 - rank], K)
    ring.improve, ring.choose = improve_on_device, lambda *_: Plan("float32", 0, 0)  # what GPUs do
    found["on a device"] = ring_knn(whole[part], K)
    return {name: list(map(torch.from_numpy, lists)) for name, lists in found.items()}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return on_two_ranks(one_of_two, tmp_path_factory.mktemp("ranks"))


def together(ranks, name):
    """Distances and indices of all rows, those of the two processes one after the other."""
    return [torch.cat(pair).numpy() for pair in zip(*(rank[name] for rank in ranks), strict=True)]


@pytest.mark.parametrize("name", data_sets())
def test_two_processes_find_what_one_finds_to_the_bit(ranks, name):
    for values, expected in zip(together(ranks, name), knn(data_sets()[name], K), strict=True):
        assert (values == expected).all()


@pytest.mark.parametrize(("name", "k"), [("all", 500), ("self", 1)])
def test_as_many_neighbours_as_there_are_rows_and_none_but_the_row_itself(ranks, name, k):
    for values, expected in zip(together(ranks, name), knn(data_sets()["features"], k), strict=True):
        assert values.shape == expected.shape
        assert (values == expected).all()


def test_processes_with_devices_find_what_one_process_finds(ranks):
    distance, index = together(ranks, "on a device")
    expected, expected_index = knn(data_sets()["features"], K)
    assert (index == expected_index).all()
    np.testing.assert_allclose(distance, expected, atol=1e-6)


def test_before_an_epoch_the_main_process_gets_the_lists_of_all_images_and_no_other_does(ranks):
    assert ranks[1]["of an epoch"] == []
    for values, expected in zip(ranks[0]["of an epoch"], knn(data_sets()["features"], K), strict=True):
        assert (values.numpy() == expected).all()


def test_one_process_searches_alone():
    assert search_together(torch.eye(5), options()) is None
