import logging

import numpy as np
import pytest
import torch
from support import oracles

from fastreid_fancl.clustering import jaccard_distance, knn
from fastreid_fancl.clustering.jaccard import distance as distance_module
from fastreid_fancl.clustering.jaccard.device import DeviceSteps
from fastreid_fancl.logs import log_once


def dense(distance):
    """The full matrix, with 1 where nothing is stored."""
    full = np.ones(distance.shape, dtype=distance.dtype)
    stored = distance.tocoo()
    full[stored.row, stored.col] = stored.data
    return full


@pytest.mark.parametrize(("k1", "k2"), [(30, 6), (20, 6), (20, 1), (15, 3)])
def test_distances_are_those_of_the_published_reference(golden, k1, k2):
    reference = golden("jaccard")
    distance = jaccard_distance(reference["features"], k1, k2)
    expected = reference[f"distance_k1_{k1}_k2_{k2}"]
    np.testing.assert_allclose(dense(distance), expected, atol=1e-5)
    assert distance.nnz == (expected < 1).sum()


# 5 / 2 = 2.5 is rounded to 2 and 7 / 2 = 3.5 to 4: half to even
@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (2, 1), (5, 2), (7, 3), (12, 12), (12, 40), (25, 6)])
@pytest.mark.parametrize("spread", [0.6, 1.2])
def test_distances_are_those_of_dense_loops(k1, k2, spread):
    features, _ = oracles.hard_features(120, 32, identities=8, spread=spread)
    distance = jaccard_distance(features, k1, k2)
    np.testing.assert_allclose(dense(distance), oracles.dense_jaccard(features, k1, k2), atol=1e-5)


def odd_data_sets():
    features, _ = oracles.hard_features(60, 16, identities=4)
    with_zeros = features.copy()
    with_zeros[::7] = 0
    return {
        "one row": features[:1],
        "two rows": features[:2],
        "fewer rows than k1": features[:9],
        "all equal": np.repeat(features[:1], 40, axis=0),
        "all zero": np.zeros((40, 16), dtype=np.float32),
        "duplicates": np.repeat(features[:6], 10, axis=0),
        "zero rows": with_zeros,
        "orthogonal": np.eye(40, dtype=np.float32),
    }


@pytest.mark.parametrize("features", odd_data_sets().values(), ids=odd_data_sets().keys())
@pytest.mark.parametrize("k1", [10, 20])
def test_odd_data_give_the_distances_of_dense_loops(features, k1):
    # on the same neighbours, as rounding orders the equal distances of zero rows
    distance = jaccard_distance(features, k1, 3)
    expected = oracles.dense_jaccard(features, k1, 3, neighbors=knn(features, k1)[1])
    np.testing.assert_allclose(dense(distance), expected, atol=1e-5)


@pytest.fixture(params=[2**10, 2**30], ids=["a row at once", "all at once"])
def as_on_devices(request, monkeypatch):
    """The steps of other devices, run on the CPU."""
    monkeypatch.setattr(distance_module, "CpuSteps", lambda: DeviceSteps(torch.device("cpu"), request.param))


@pytest.mark.parametrize("features", odd_data_sets().values(), ids=odd_data_sets().keys())
@pytest.mark.parametrize(("k1", "k2", "max_distance"), [(10, 3, 1), (20, 1, 0.9)])
def test_devices_give_the_distances_of_dense_loops(as_on_devices, features, k1, k2, max_distance):
    distance = jaccard_distance(features, k1, k2, max_distance)
    expected = oracles.dense_jaccard(features, k1, k2, neighbors=knn(features, k1)[1])
    np.testing.assert_allclose(dense(distance), np.where(expected < max_distance, expected, 1), atol=1e-5)
    assert distance.nnz == (expected < max_distance).sum()


def test_devices_give_the_distances_of_the_published_reference(golden, as_on_devices):
    reference = golden("jaccard")
    distance = jaccard_distance(reference["features"], 30, 6)
    np.testing.assert_allclose(dense(distance), reference["distance_k1_30_k2_6"], atol=1e-5)


@pytest.mark.cuda
def test_a_gpu_gives_the_distances_of_the_cpu():
    features = torch.from_numpy(oracles.hard_features(3000, 64, identities=150)[0])
    expected, found = jaccard_distance(features), jaccard_distance(features.cuda())
    np.testing.assert_allclose(dense(found), dense(expected), atol=1e-5)


def test_equal_rows_are_at_stored_distances_of_zero():
    distance = jaccard_distance(np.tile([[0.6, 0.8]], (12, 1)), k1=20, k2=3)
    assert distance.nnz == 12 * 12
    assert (distance.data == 0).all()


def test_the_matrix_is_symmetric_with_a_stored_zero_diagonal_and_sorted_columns():
    features, _ = oracles.hard_features(150, 32)
    distance = jaccard_distance(features, 15, 4)
    full = dense(distance)
    assert (full == full.T).all()
    for i in range(150):
        columns = distance.indices[distance.indptr[i] : distance.indptr[i + 1]]
        assert (np.diff(columns) > 0).all()
        assert i in columns
    assert (distance.diagonal() == 0).all()
    assert distance.dtype == np.float32


@pytest.mark.parametrize("limit", [0.3, 0.6, 0.9])
def test_what_is_stored_is_what_is_nearer_than_the_limit(limit):
    features, _ = oracles.hard_features(150, 32)
    full = dense(jaccard_distance(features, 15, 4))
    near = jaccard_distance(features, 15, 4, max_distance=limit)
    assert near.nnz == (full < limit).sum()
    assert (dense(near)[full < limit] == full[full < limit]).all()


def test_another_order_of_images_gives_the_same_distances():
    features, _ = oracles.hard_features(150, 32)
    order = np.random.default_rng(1).permutation(150)
    full, shuffled = dense(jaccard_distance(features, 15, 4)), dense(jaccard_distance(features[order], 15, 4))
    np.testing.assert_allclose(shuffled, full[np.ix_(order, order)], atol=2e-6)


def test_common_distances_do_not_depend_on_the_order_of_summation():
    # images that share 4 of k2 = 6 neighbours and nothing else: s = 4 / 6, 1 - s / (2 - s) = 1 / 2
    features, _ = oracles.hard_features(1500, 256, identities=88)
    order = np.random.default_rng(1).permutation(1500)
    full, shuffled = dense(jaccard_distance(features, 30, 6)), dense(jaccard_distance(features[order], 30, 6))
    halves = full == 0.5
    assert halves.sum() > 10
    assert (abs(full - 0.5) < 1e-5).sum() == halves.sum()
    assert ((shuffled == 0.5) == halves[np.ix_(order, order)]).all()


def test_the_number_of_threads_changes_nothing():
    features, _ = oracles.hard_features(200, 32)
    threads = torch.get_num_threads()
    try:
        results = []
        for number in (1, 3):
            torch.set_num_threads(number)
            results.append(jaccard_distance(features, 15, 4))
    finally:
        torch.set_num_threads(threads)
    for name in ("indptr", "indices", "data"):
        assert (getattr(results[0], name) == getattr(results[1], name)).all()


def test_a_tensor_gives_what_its_array_gives():
    features, _ = oracles.hard_features(100, 32)
    distance = jaccard_distance(torch.from_numpy(features).requires_grad_(), 15, 4)
    assert (dense(distance) == dense(jaccard_distance(features, 15, 4))).all()


def test_neighbours_that_are_known_are_not_searched():
    features, _ = oracles.hard_features(100, 32)
    known = knn(features, 15)
    assert (jaccard_distance(features, 15, 4, neighbors=known) != jaccard_distance(features, 15, 4)).nnz == 0
    others = known[0], known[1][:, ::-1].copy()
    assert (jaccard_distance(features, 15, 4, neighbors=others) != jaccard_distance(features, 15, 4)).nnz > 0
    with pytest.raises(ValueError, match=r"Expected 14 neighbors of 100 rows, got shape \(100, 15\)"):
        jaccard_distance(features, 14, 4, neighbors=known)


def test_lists_as_long_as_the_data_set_are_warned_about(caplog):
    log_once.cache_clear()
    features, _ = oracles.hard_features(20, 16)
    with caplog.at_level(logging.WARNING):
        jaccard_distance(features, 30, 6)
    assert "k1 = 30 makes all 20 images neighbours" in caplog.text


def test_features_that_are_not_normalised_are_warned_about(caplog):
    features, _ = oracles.hard_features(50, 16)
    features[3] = 0
    with caplog.at_level(logging.WARNING):
        jaccard_distance(features, 10, 3)
    assert not caplog.text
    with caplog.at_level(logging.WARNING):
        jaccard_distance(5 * features, 10, 3)
    assert "norms from 5 to 5 in 49 of 50 rows" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k1": 0}, "Expected k1 of at least 1"),
        ({"k2": 0}, "Expected k2 of at least 1"),
        ({"max_distance": 0}, r"max_distance in \(0, 1\]"),
        ({"max_distance": 1.5}, r"max_distance in \(0, 1\]"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        jaccard_distance(np.eye(5), **options)


def test_features_that_are_not_finite_are_refused():
    features, _ = oracles.hard_features(20, 8)
    features[7] = np.nan
    with pytest.raises(ValueError, match="1 of 20 rows: 7"):
        jaccard_distance(features, 5, 2)


def test_neighbours_whose_weight_underflows_are_no_neighbours():
    """Far rows: e^-d^2 is 0 in float32, and those of row and column that are 0 add nothing."""
    features = 3 * np.random.default_rng(0).standard_normal((60, 16)).astype(np.float32)
    found = dense(jaccard_distance(features, 60, 1))
    np.testing.assert_allclose(found, oracles.dense_jaccard(features.astype(np.float64), 60, 1), atol=1e-5)
