import logging

import numpy as np
import oracles
import pytest
import torch

from fastreid_fancl.clustering import candidates, knn, neighbors
from fastreid_fancl.clustering.candidates import Candidates

K = 7


def on_device(features, k):
    """The search of other devices, run on the CPU."""
    return neighbors._search_on_device(neighbors.as_features(features), k)


def by_faiss(features, k):
    pytest.importorskip("faiss")
    return knn(features, k, backend="faiss")


def by_tiles(features, k):
    return knn(features, k, backend="torch")


every_search = pytest.mark.parametrize("search", [by_tiles, by_faiss, on_device])


def data_sets():
    random = np.random.default_rng(0)
    normalised, _ = oracles.hard_features(150, 32)
    with_zeros = normalised.copy()
    with_zeros[[3, 77, 149]] = 0
    duplicates = np.repeat(normalised[:10], 15, axis=0)
    return {
        "normalised": normalised,
        "of uneven norms": normalised * random.uniform(0.1, 30, size=(150, 1)).astype(np.float32),
        "with zero rows": with_zeros,
        "with duplicates": duplicates[random.permutation(150)],
        "in a narrow cone": 100 + normalised,
        "all equal": np.ones((150, 32), dtype=np.float32),
        "all equally far": np.eye(150, dtype=np.float32),
        "with one huge row": np.concatenate([normalised, 1000 * normalised[:1]]),
    }


@every_search
@pytest.mark.parametrize("features", data_sets().values(), ids=data_sets().keys())
def test_neighbours_are_those_of_all_pairwise_distances(search, features):
    distance, index = search(features, K)
    expected = np.take_along_axis(oracles.squared_distances(features), oracles.nearest(features, K), axis=1)
    assert distance.shape == index.shape == (len(features), K)
    np.testing.assert_allclose(distance, expected, rtol=1e-4, atol=1e-6)
    true = np.take_along_axis(oracles.squared_distances(features), index, axis=1)
    np.testing.assert_allclose(distance, true, rtol=1e-4, atol=1e-6)
    assert all(len(set(row)) == K for row in index)


@every_search
def test_each_row_is_first_in_its_own_list_and_equal_rows_follow_by_number(search):
    _, index = search(np.ones((60, 4), dtype=np.float32), 4)
    assert index[0].tolist() == [0, 1, 2, 3]
    assert index[2].tolist() == [2, 0, 1, 3]
    assert index[50].tolist() == [50, 0, 1, 2]


@every_search
def test_rows_at_equal_distances_follow_by_number(search):
    # unit vectors are at squared distance 2 from each other
    distance, index = search(np.eye(100, dtype=np.float32), 4)
    assert index[1].tolist() == [1, 0, 2, 3]
    assert index[99].tolist() == [99, 0, 1, 2]
    assert distance[99].tolist() == [0, 2, 2, 2]


@every_search
def test_zero_rows_are_ranked_by_distance_not_by_product(search):
    # from (3, 0): itself, (1, 0) at 4, the zero row at 9, (9, 0) at 36, whose product is the largest
    features = np.array([[3, 0], [9, 0], [0, 0], [1, 0]], dtype=np.float32)
    distance, index = search(features, 4)
    assert index[0].tolist() == [0, 3, 2, 1]
    assert distance[0].tolist() == [0, 4, 9, 36]


@every_search
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_more_neighbours_than_rows_are_as_many_as_rows(search, rows):
    features, _ = oracles.hard_features(rows, 8)
    distance, index = search(features, 30) if search is not on_device else search(features, rows)
    assert distance.shape == index.shape == (rows, rows)
    assert (np.sort(index, axis=1) == np.arange(rows)).all()


def test_tiles_of_any_size_find_the_same(monkeypatch):
    features, _ = oracles.hard_features(200, 32)
    whole = knn(features, K, backend="torch")
    monkeypatch.setattr(candidates, "TILE", (8, 24))
    tiled = knn(features, K, backend="torch")
    assert (whole[0] == tiled[0]).all() and (whole[1] == tiled[1]).all()


def test_device_blocks_of_any_size_find_the_same(monkeypatch):
    features, _ = oracles.hard_features(100, 32)
    whole = on_device(features, K)
    monkeypatch.setattr(candidates, "DEVICE_BLOCK_ELEMENTS", 1000)
    np.testing.assert_allclose(on_device(features, K)[0], whole[0], atol=1e-6)
    assert (on_device(features, K)[1] == whole[1]).all()


def test_backends_agree_to_the_bit_on_the_cpu():
    features, _ = oracles.hard_features(300, 64)
    by_torch = by_tiles(features, K)
    faiss = by_faiss(features, K)
    assert (by_torch[0] == faiss[0]).all() and (by_torch[1] == faiss[1]).all()


def test_candidates_without_proof_do_not_reach_the_result():
    features, _ = oracles.hard_features(80, 16)
    useless = Candidates(np.zeros((80, K + 1), dtype=np.int64), floor=np.zeros(80, dtype=np.float32))
    _, index = neighbors._refine(features, useless, K)
    assert (index == knn(features, K)[1]).all()


def test_candidates_within_their_floor_are_trusted():
    # each candidate list holds the nearest K by the oracle, and the floor is the distance of the next
    features, _ = oracles.hard_features(80, 16)
    ordered = oracles.nearest(features, K + 1)
    floor = np.take_along_axis(oracles.squared_distances(features), ordered[:, K:], axis=1)[:, 0].astype(np.float32)
    _, index = neighbors._refine(features, Candidates(ordered[:, K - 1 :: -1].copy(), floor), K)
    assert (index == ordered[:, :K]).all()


def test_another_order_of_rows_gives_the_same_neighbours():
    features, _ = oracles.hard_features(200, 32)
    order = np.random.default_rng(1).permutation(200)
    distance, index = knn(features, K)
    shuffled_distance, shuffled_index = knn(features[order], K)
    assert (shuffled_distance == distance[order]).all()
    assert (order[shuffled_index] == index[order]).all()


@pytest.mark.parametrize("kind", [torch.float16, torch.float64, torch.float32])
def test_tensors_of_any_float_type_are_accepted(kind):
    features = torch.from_numpy(oracles.hard_features(50, 16)[0]).to(kind).requires_grad_()
    distance, index = knn(features, K)
    assert distance.dtype == np.float32 and index.dtype == np.int64
    assert (index == knn(features.detach().float().numpy(), K)[1]).all()


def test_views_of_arrays_are_accepted():
    features, _ = oracles.hard_features(50, 16)
    view = np.asfortranarray(features.astype(np.float64))[::-1, ::2]
    assert (knn(view, K)[1] == knn(view.copy(), K)[1]).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e30])
def test_rows_that_are_not_finite_are_named_with_the_cure(wrong):
    features, _ = oracles.hard_features(20, 8)
    features[[4, 11], 3] = wrong
    with pytest.raises(ValueError, match=r"2 of 20 rows: 4, 11\..*learning rate"):
        knn(features, 3)


@pytest.mark.parametrize("shape", [(0, 8), (8,), (2, 3, 4), (5, 0)])
def test_features_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"Expected features of shape \(N, D\)"):
        knn(np.zeros(shape, dtype=np.float32), 3)


def test_no_neighbours_are_refused():
    with pytest.raises(ValueError, match="k of at least 1"):
        knn(np.eye(4), 0)


def test_an_unknown_backend_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="auto, torch, faiss"):
        knn(np.eye(4), 2, backend="annoy")


def test_a_missing_faiss_is_named_with_the_cure(monkeypatch):
    monkeypatch.setattr(neighbors, "_has_faiss", lambda: False)
    with pytest.raises(ValueError, match="install faiss-cpu"):
        knn(np.eye(4), 2, backend="faiss")


@pytest.mark.parametrize(
    ("dimensions", "installed", "chosen"), [(16, True, "faiss"), (16, False, "torch"), (512, True, "torch")]
)
def test_the_choice_of_the_backend_is_logged_once(monkeypatch, caplog, dimensions, installed, chosen):
    pytest.importorskip("faiss")
    monkeypatch.setattr(neighbors, "_has_faiss", lambda: installed)
    neighbors._log_choice.cache_clear()
    features, _ = oracles.hard_features(30, dimensions)
    with caplog.at_level(logging.DEBUG, logger="fastreid_fancl"):
        knn(features, 3)
        knn(features, 3)
    assert [record.getMessage() for record in caplog.records] == [f"Nearest neighbours by {chosen} on cpu"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_what_the_cpu_finds():
    features, _ = oracles.hard_features(2000, 256)
    distance, index = knn(torch.from_numpy(features).cuda(), 30)
    expected, expected_index = knn(features, 30)
    np.testing.assert_allclose(distance, expected, atol=1e-5)
    assert (index == expected_index).mean() > 0.999  # neighbours at nearly equal distances may change places
