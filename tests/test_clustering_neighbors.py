import logging

import numpy as np
import pytest
import torch
from support import oracles

from fastreid_fancl.clustering import knn
from fastreid_fancl.clustering.neighbors import cost, search
from fastreid_fancl.clustering.neighbors.candidates import Candidates, tile_candidates
from fastreid_fancl.clustering.neighbors.faiss import flat_candidates
from fastreid_fancl.clustering.neighbors.operands import float32_operand, int8_operand
from fastreid_fancl.logs import log_once

K = 7


def by_float32(features, k):
    return knn(features, k, backend="float32")


def by_int8(features, k):
    return knn(features, k, backend="int8")


def by_faiss(features, k):
    pytest.importorskip("faiss")
    return knn(features, k, backend="faiss")


def on_device(features, k):
    """The search of other devices, run on the CPU."""
    features = search.as_features(features)
    return search._search_on_device(features, min(k, len(features)), search.BLOCK_BYTES)


every_search = pytest.mark.parametrize("search", [by_float32, by_int8, by_faiss, on_device])


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
    distance, index = search(features, 30)
    assert distance.shape == index.shape == (rows, rows)
    assert (np.sort(index, axis=1) == np.arange(rows)).all()


@pytest.mark.parametrize("search", [by_float32, by_int8])
def test_blocks_of_any_size_find_the_same(search):
    features, _ = oracles.hard_features(200, 32)
    whole, blocks = search(features, K), knn(features, K, search.__name__.removeprefix("by_"), block_bytes=4 * 24 * 24)
    assert (whole[0] == blocks[0]).all() and (whole[1] == blocks[1]).all()


def test_blocks_of_any_size_find_the_same_on_a_device():
    features = search.as_features(oracles.hard_features(100, 32)[0])
    whole, blocks = on_device(features, K), search._search_on_device(features, K, 7 * 4 * 32 * 30)
    np.testing.assert_allclose(blocks[0], whole[0], atol=1e-6)
    assert (blocks[1] == whole[1]).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_backends_agree_to_the_bit_on_the_cpu_with_any_number_of_threads(threads):
    features, _ = oracles.hard_features(3000, 64, identities=150)
    expected, before = by_float32(features, K), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for search in (by_float32, by_int8, by_faiss):
            distance, index = search(features, K)
            assert (distance == expected[0]).all() and (index == expected[1]).all()
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("features", data_sets().values(), ids=data_sets().keys())
@pytest.mark.parametrize("dimensions", [32, 200])
@pytest.mark.parametrize(
    "search",
    [
        lambda features, origin: tile_candidates(int8_operand(features, origin), 20),
        lambda features, origin: tile_candidates(float32_operand(features, origin), 20),
        lambda features, origin: flat_candidates(float32_operand(features, origin), 20),
    ],
    ids=["int8 tiles", "float32 tiles", "faiss"],
)
def test_no_row_is_nearer_than_its_bound_and_none_left_out_nearer_than_the_last(search, features, dimensions):
    pytest.importorskip("faiss")
    features = np.concatenate([features] + [features[:, :1]] * (dimensions - 32), axis=1)
    tensor = torch.from_numpy(features)
    candidates = search(tensor, tensor.mean(dim=0))
    index, bound = (np.asarray(values) for values in candidates)
    true = oracles.squared_distances(features)
    assert (np.take_along_axis(true, index, axis=1) >= bound).all()
    np.put_along_axis(true, index, np.inf, axis=1)
    assert (true >= bound[:, -1:]).all()
    assert (np.diff(bound, axis=1) >= 0).all()
    assert all(len(set(row)) == 20 for row in index)


def test_most_rows_are_proven_by_eight_bits(caplog):
    features, _ = oracles.hard_features(3000, 256, identities=150)
    with caplog.at_level(logging.DEBUG, logger="fastreid_fancl"):
        by_int8(features, 30)
    searched_exactly = [int(record.args[0]) for record in caplog.records if "searched exactly" in record.msg]
    assert sum(searched_exactly) < 60


def test_candidates_without_proof_do_not_reach_the_result(monkeypatch):
    features, _ = oracles.hard_features(80, 16)
    expected = by_int8(features, K)
    own = np.arange(80)[:, None]
    useless = Candidates((own + np.arange(K + 1)) % 80, bound=np.zeros((80, K + 1), dtype=np.float32))
    monkeypatch.setattr(search, "tile_candidates", lambda *_: useless)
    for neighbours in (by_int8, by_float32):
        assert (neighbours(features, K)[1] == expected[1]).all()


def test_approximate_neighbours_say_their_recall(caplog):
    pytest.importorskip("faiss")
    features, _ = oracles.hard_features(3000, 16, identities=150)
    with caplog.at_level(logging.WARNING, logger="fastreid_fancl"):
        distance, index = knn(features, K, backend="faiss_ivf")
    recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(index, by_int8(features, K)[1], strict=True)])
    assert 0.5 < recall < 1
    said = float(caplog.messages[-1].split("recall ")[1].split(" ")[0])
    assert abs(said - recall) < 0.05
    np.testing.assert_allclose(distance, ((features[index] - features[:, None]) ** 2).sum(-1), atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 40])
def test_approximate_lists_are_full_even_of_few_rows(rows):
    pytest.importorskip("faiss")
    _, index = knn(oracles.hard_features(rows, 8)[0], 30, backend="faiss_ivf")
    assert all(len(set(row)) == min(rows, 30) for row in index.tolist())
    assert index.max() < rows


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
    with pytest.raises(ValueError, match="auto, float32, int8, faiss, faiss_ivf"):
        knn(np.eye(4), 2, backend="annoy")


def test_empty_blocks_are_refused():
    with pytest.raises(ValueError, match="block_bytes of at least 1"):
        knn(np.eye(4), 2, block_bytes=0)


@pytest.mark.parametrize("backend", ["faiss", "faiss_ivf"])
def test_a_missing_faiss_is_named_with_the_cure(monkeypatch, backend):
    monkeypatch.setattr(search, "has_faiss", lambda: False)
    with pytest.raises(ValueError, match="install faiss-cpu"):
        knn(np.eye(4), 2, backend=backend)


@pytest.mark.parametrize(("int8", "float32", "chosen"), [(1e-9, 4e-9, "int8"), (4e-9, 1e-9, "float32")])
def test_auto_takes_the_faster_products_and_says_so_once(monkeypatch, caplog, int8, float32, chosen):
    monkeypatch.setattr(cost, "seconds_per_pair", lambda backend, *_: {"int8": int8, "float32": float32}[backend])
    log_once.cache_clear()
    features, _ = oracles.hard_features(3000, 16)
    with caplog.at_level(logging.INFO, logger="fastreid_fancl"):
        knn(features, 3)
        knn(features, 3)
    (message,) = caplog.messages
    assert message.startswith(f"Nearest neighbours of 3000 x 16: by {chosen}, expected to take ")


def test_a_machine_without_eight_bit_products_takes_float32(monkeypatch):
    def missing(*_):
        raise RuntimeError("not implemented for 'Char'")

    monkeypatch.setattr(torch, "_int_mm", missing)
    cost.seconds_per_pair.cache_clear()
    assert cost.cheapest(3000, 64, 30, torch.device("cpu")).backend == "float32"
    cost.seconds_per_pair.cache_clear()


def test_ten_times_the_rows_are_expected_to_take_a_hundred_times_the_products():
    seconds = [cost.estimate("int8", rows, 2048, 30, torch.device("cpu")).seconds for rows in (10**5, 10**6)]
    assert 80 < seconds[1] / seconds[0] <= 100


@pytest.mark.cuda
def test_a_gpu_finds_what_the_cpu_finds():
    features, _ = oracles.hard_features(2000, 256)
    distance, index = knn(torch.from_numpy(features).cuda(), 30)
    expected, expected_index = knn(features, 30)
    np.testing.assert_allclose(distance, expected, atol=1e-5)
    assert (index == expected_index).mean() > 0.999  # neighbours at nearly equal distances may change places
