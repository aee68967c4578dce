"""Two gloo processes with a shard of the rows each, against one with all."""

import os

import numpy as np
import oracles
import pytest
import torch
from fastreid.engine import launch
from fastreid.utils import comm

from fastreid_fancl import compat
from fastreid_fancl.clustering import knn, ring, ring_knn
from fastreid_fancl.clustering.device import improve_on_device
from fastreid_fancl.clustering.plan import Plan

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


def one_of_two(folder: str) -> None:
    part, found = SHARDS[comm.get_rank()], {}
    for name, features in data_sets().items():
        found[name] = ring_knn(torch.from_numpy(features[part]), K)
    features = torch.from_numpy(data_sets()["features"])
    found["all"], found["self"] = (ring_knn(features[part], k) for k in (500, 1))
    broken = features[part].clone()
    broken[3] += torch.nan if comm.get_rank() == 1 else 0
    with pytest.raises(ValueError, match=r"process 1: .*1 of 70 rows: 3"):
        ring_knn(broken, K)
    with pytest.raises(ValueError, match=r"shards of one D, got \[\[130, 48\], \[70, 47\]\]"):
        ring_knn(features[part][:, : 48 - comm.get_rank()], K)
    ring.improve, ring.choose = improve_on_device, lambda *_: Plan("float32", 0, 0)  # what GPUs do
    found["on a device"] = ring_knn(features[part], K)
    torch.save(found, os.path.join(folder, f"{comm.get_rank()}.pt"))


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Lists of all rows by name of the data set, those of both processes one after the other."""
    folder = tmp_path_factory.mktemp("ranks")
    compat.choose_backend("cpu")
    launch(one_of_two, num_gpus_per_machine=2, dist_url="auto", args=(os.fspath(folder),))
    ranks = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]
    return {name: list(map(np.concatenate, zip(*(rank[name] for rank in ranks), strict=True))) for name in ranks[0]}


@pytest.mark.parametrize("name", data_sets())
def test_two_processes_find_what_one_finds_to_the_bit(together, name):
    distance, index = knn(data_sets()[name], K)
    assert (together[name][0] == distance).all() and (together[name][1] == index).all()


@pytest.mark.parametrize(("name", "k"), [("all", 500), ("self", 1)])
def test_as_many_neighbours_as_there_are_rows_and_none_but_the_row_itself(together, name, k):
    distance, index = knn(data_sets()["features"], k)
    assert (together[name][0] == distance).all() and (together[name][1] == index).all()


def test_processes_with_devices_find_what_one_process_finds(together):
    distance, index = knn(data_sets()["features"], K)
    assert (together["on a device"][1] == index).all()
    np.testing.assert_allclose(together["on a device"][0], distance, atol=1e-6)
