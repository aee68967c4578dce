"""Plans of batches: who is in them, how often, and the same for everybody."""

from collections import Counter

import numpy as np
import pytest

from fastreid_fancl.data.samplers import (
    GlobalBatchSampler,
    cluster_and_outlier_batches,
    cluster_batches,
    shuffled_batches,
)


def visits_of(batches, labels, num_instances):
    """(iterations, clusters a batch) cluster of each visit; fails if a visit mixes clusters."""
    groups = labels[batches].reshape(len(batches), -1, num_instances)
    assert (groups == groups[:, :, :1]).all()
    return groups[:, :, 0]


def test_every_batch_holds_p_different_clusters_of_k_different_images():
    labels = np.repeat(np.arange(7), 9)
    batches = cluster_batches(labels, batch_size=12, num_instances=4, iterations=50, seed=0)
    assert batches.shape == (50, 12) and batches.dtype == np.int64
    assert all(len(set(batch)) == 12 for batch in batches.tolist())
    assert all(len(set(visits)) == 3 for visits in visits_of(batches, labels, 4).tolist())


def test_clusters_and_their_images_are_visited_equally_often():
    labels = np.array([0] * 5 + [1] * 11 + [2] * 6 + [3] * 7 + [-1] * 4)
    batches = cluster_batches(labels, batch_size=8, num_instances=4, iterations=33, seed=1)
    visits = Counter(visits_of(batches, labels, 4).ravel().tolist())
    # 33 batches of 2 visits to 4 clusters: 66 / 4 = 16.5
    assert sorted(visits.values()) == [16, 16, 17, 17]
    for cluster in range(4):
        drawn = Counter(i for i in batches.ravel().tolist() if labels[i] == cluster)
        assert len(drawn) == (labels == cluster).sum()
        assert max(drawn.values()) - min(drawn.values()) <= 1


def test_images_left_out_of_all_clusters_are_never_drawn():
    labels = np.array([-1, 4, 4, -1, 9, 9, -1])
    drawn = cluster_batches(labels, batch_size=4, num_instances=2, iterations=20, seed=0)
    assert set(drawn.ravel().tolist()) == {1, 2, 4, 5}


def test_clusters_smaller_than_a_visit_repeat_all_their_images_evenly():
    labels = np.array([0, 0, 0, 1])
    batches = cluster_batches(labels, batch_size=16, num_instances=8, iterations=10, seed=0)
    for batch in batches.tolist():
        # 8 draws from 3 images: each at least twice; 8 from 1 image: 8 times
        counts = Counter(batch)
        assert sorted(counts[i] for i in range(3)) == [2, 3, 3] and counts[3] == 8


def test_fewer_clusters_than_a_batch_needs_are_all_in_every_batch():
    labels = np.repeat(np.arange(3), 20)
    batches = cluster_batches(labels, batch_size=16, num_instances=2, iterations=9, seed=0)
    visits = visits_of(batches, labels, 2)
    # 8 visits to 3 clusters: 2, 3 and 3 in every batch; 72 / 3 = 24 overall
    assert all(sorted(Counter(row).values()) == [2, 3, 3] for row in visits.tolist())
    assert set(Counter(visits.ravel().tolist()).values()) == {24}


def test_one_cluster_of_one_image_fills_every_batch():
    assert (cluster_batches(np.array([-1, 5]), 8, 4, 3, seed=0) == 1).all()


def test_the_plan_is_a_function_of_the_seed():
    labels = np.random.default_rng(0).integers(-1, 10, size=200)
    plan = [cluster_batches(labels, 16, 4, 20, seed) for seed in (3, 3, 4)]
    assert (plan[0] == plan[1]).all() and (plan[0] != plan[2]).any()


def test_the_plan_leaves_the_global_random_state_alone():
    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    cluster_batches(np.zeros(4, dtype=int), 4, 2, 2, seed=7)
    shuffled_batches(4, 2, 2, seed=7)
    assert np.random.rand() == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(4, dtype=int), 30, 4, 5, 0), "multiple of the images per cluster, got 30 and 4"),
        ((np.zeros(4, dtype=int), 4, 0, 5, 0), "got 4 and 0"),
        ((np.full(6, -1), 8, 4, 5, 0), "no cluster to sample from: all of the 6 labels are -1"),
        ((np.zeros(0, dtype=int), 8, 4, 5, 0), "all of the 0 labels"),
        ((np.zeros(4, dtype=int), 8, 4, 0, 0), "got 8 and 0"),
    ],
)
def test_sizes_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        cluster_batches(*arguments)


def test_plain_batches_show_every_image_before_any_again():
    batches = shuffled_batches(10, batch_size=4, iterations=5, seed=0)
    # 5 batches of 4 are two rounds of 10
    assert sorted(batches.ravel()[:10].tolist()) == list(range(10))
    assert set(Counter(batches.ravel().tolist()).values()) == {2}


def test_plain_batches_repeat_an_image_only_if_there_are_fewer_than_a_batch_needs():
    assert all(len(set(batch)) == 7 for batch in shuffled_batches(10, 7, 40, seed=0).tolist())
    # 7 draws of 3 images: 2, 2 and 3
    assert all(sorted(Counter(batch).values()) == [2, 2, 3] for batch in shuffled_batches(3, 7, 5, seed=0).tolist())
    with pytest.raises(ValueError, match="no training images"):
        shuffled_batches(0, 4, 2, seed=0)


def test_the_slices_of_the_ranks_make_up_the_global_batch_with_its_seeds():
    batches = shuffled_batches(30, batch_size=8, iterations=4, seed=0)
    alone = list(GlobalBatchSampler(batches, seed=5))
    ranks = [list(GlobalBatchSampler(batches, seed=5, rank=rank, world_size=4)) for rank in range(4)]
    assert [sum(parts, []) for parts in zip(*ranks, strict=True)] == alone
    assert [[index for index, _ in batch] for batch in alone] == batches.tolist()


def test_the_seed_of_an_item_depends_on_its_place_and_not_on_the_image():
    one = list(GlobalBatchSampler(np.arange(12).reshape(2, 6), seed=1))
    other = list(GlobalBatchSampler(np.zeros((2, 6), dtype=int), seed=1))
    seeds = [[seed for _, seed in batch] for batch in one]
    assert seeds == [[seed for _, seed in batch] for batch in other]
    assert len(set(sum(seeds, []))) == 12
    assert seeds != [[seed for _, seed in batch] for batch in GlobalBatchSampler(np.zeros((2, 6)), seed=2)]


def test_processes_that_cannot_share_a_batch_equally_are_refused():
    batches = np.zeros((3, 10), dtype=int)
    with pytest.raises(ValueError, match="10 images cannot be shared equally by 4 processes"):
        GlobalBatchSampler(batches, seed=0, rank=0, world_size=4)
    with pytest.raises(ValueError, match=r"rank must lie in 0\.\.1, got 2"):
        GlobalBatchSampler(batches, seed=0, rank=2, world_size=2)
    with pytest.raises(ValueError, match="shape"):
        GlobalBatchSampler(np.arange(4), seed=0)


def test_outliers_and_clusters_are_visited_equally_often():
    labels = np.array([0] * 6 + [1] * 5 + [-1] * 7)
    # A round is 2 clusters x 4 images + 7 outliers = 15 images; 20 batches of 6 are 8 rounds.
    batches = cluster_and_outlier_batches(labels, batch_size=6, num_instances=4, iterations=20, seed=0)
    assert batches.shape == (20, 6)
    counts = Counter(batches.ravel().tolist())
    assert all(counts[outlier] == 8 for outlier in range(11, 18))
    assert sum(counts[image] for image in range(6)) == sum(counts[image] for image in range(6, 11)) == 8 * 4


def test_a_round_of_clusters_and_outliers_is_shuffled_by_the_seed():
    labels = np.array([0, 0, 0, 0, -1, -1, -1, -1])
    plans = [cluster_and_outlier_batches(labels, 4, 2, 3, seed) for seed in (0, 0, 1)]
    assert np.array_equal(plans[0], plans[1])
    assert not np.array_equal(plans[0], plans[2])


def test_outliers_alone_make_batches_too():
    batches = cluster_and_outlier_batches(np.full(5, -1), batch_size=5, num_instances=4, iterations=2, seed=0)
    assert [sorted(batch) for batch in batches.tolist()] == [[0, 1, 2, 3, 4]] * 2
    with pytest.raises(ValueError, match="no training images"):
        cluster_and_outlier_batches(np.array([], dtype=int), 4, 2, 1, 0)
