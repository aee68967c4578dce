"""Two gloo processes with a shard of the rows each, against one with all."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import on_two_ranks
from support import oracles

from fastreid_fancl.clustering import jaccard_distance, knn, ring_knn
from fastreid_fancl.clustering.jaccard import distance
from fastreid_fancl.clustering.jaccard.device import DeviceSteps
from fastreid_fancl.clustering.neighbors import ring
from fastreid_fancl.clustering.neighbors.cost import SearchCost
from fastreid_fancl.clustering.neighbors.device import update_nearest_on_device
from fastreid_fancl.engine.labels import distance_together
from fastreid_fancl.packages import has_faiss

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


def options(algorithm="dbscan", search="auto"):
    return SimpleNamespace(ALGORITHM=algorithm, K1=K, K2=3, EPS=0.5, BLOCK_GIB=1.0, LOCAL=0, NEIGHBOURS=search)


def parts(distance):
    return () if distance is None else (distance.indptr, distance.indices, distance.data)


def one_of_two(rank: int) -> dict[str, list[torch.Tensor]]:
    part = SHARDS[rank]
    found = {name: ring_knn(torch.from_numpy(features[part]), K) for name, features in data_sets().items()}
    whole = torch.from_numpy(data_sets()["features"])
    found["all"], found["self"] = (ring_knn(whole[part], k) for k in (500, 1))
    assert distance_together(whole, options("oracle")) is None
    found["of an epoch"] = parts(distance_together(whole, options()))
    for search in ("exact", "faiss") if has_faiss() else ("exact",):
        found[f"of an epoch by {search}"] = parts(distance_together(whole, options(search=search)))
    found["of two images"] = parts(distance_together(whole[:2], options()))
    broken = whole[part].clone()
    broken[3] += torch.nan if rank == 1 else 0
    with pytest.raises(ValueError, match=r"process 1: .*1 of 70 rows: 3"):
        ring_knn(broken, K)
    with pytest.raises(ValueError, match=r"shards of one D, got \[\[130, 48\], \[70, 47\]\]"):
        ring_knn(whole[part][:, : 48 - rank], K)
    ring.update_nearest, ring.cheapest = (
        update_nearest_on_device,
        lambda *_: SearchCost("float32", 0, 0),
    )  # what GPUs do
    found["on a device"] = ring_knn(whole[part], K)
    distance.CpuSteps = lambda: DeviceSteps(torch.device("cpu"), 2**14)
    found["of an epoch on devices"] = parts(distance_together(whole, options()))
    found["of two images on devices"] = parts(distance_together(whole[:2], options()))
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


@pytest.mark.parametrize(("name", "rows"), [("of an epoch", 200), ("of two images", 2)])
def test_two_processes_share_an_epochs_distance_and_the_main_one_gets_what_one_finds(ranks, name, rows):
    expected = jaccard_distance(data_sets()["features"][:rows], K, 3, 0.95)
    assert ranks[1][name] == ranks[1][f"{name} on devices"] == []
    for values, wanted in zip(ranks[0][name], parts(expected), strict=True):
        assert (values.numpy() == wanted).all()
    *places, distance = (values.numpy() for values in ranks[0][f"{name} on devices"])
    assert all((place == wanted).all() for place, wanted in zip(places, parts(expected), strict=False))
    np.testing.assert_allclose(distance, expected.data, atol=1e-5)


@pytest.mark.parametrize("search", ["exact", "faiss"])
def test_two_processes_get_the_same_distance_by_every_exact_search(ranks, search):
    if search == "faiss":
        pytest.importorskip("faiss")
    expected = parts(jaccard_distance(data_sets()["features"], K, 3, 0.95))
    assert ranks[1][f"of an epoch by {search}"] == []
    for values, wanted in zip(ranks[0][f"of an epoch by {search}"], expected, strict=True):
        assert (values.numpy() == wanted).all()


def test_one_process_computes_the_distance_alone():
    assert distance_together(torch.eye(5), options("oracle")) is None
    features = torch.from_numpy(data_sets()["features"])
    for values, wanted in zip(
        parts(distance_together(features, options())), parts(jaccard_distance(features, K, 3, 0.95)), strict=True
    ):
        assert (values == wanted).all()
