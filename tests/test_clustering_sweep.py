import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics import adjusted_rand_score
from support import oracles
from support.distances import groups

from fastreid_fancl.clustering import (
    choose_eps,
    dbscan,
    degenerate,
    guarded_labels,
    jaccard_distance,
    noise_as_singletons,
)
from fastreid_fancl.clustering.eps import _draws, modularities, rand_index
from fastreid_fancl.clustering.guard import CANDIDATES

SEEDS = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def agreements():
    """For each kind of hard data: ARI of every usable candidate, (seeds, candidates), and of the chosen, (seeds,)."""

    def of(options, seed):
        features, identities = oracles.hard_features(seed=seed, **options)
        distance = jaccard_distance(features, 20, 6)
        labels = [dbscan(distance, eps) for eps in CANDIDATES]
        fixed = [
            adjusted_rand_score(identities, noise_as_singletons(own)) if not degenerate(own) else 0 for own in labels
        ]
        return fixed, fixed[CANDIDATES.index(choose_eps(distance).eps)]

    results = {name: [of(options, seed) for seed in SEEDS] for name, options in oracles.HARD.items()}
    return {name: tuple(map(np.array, zip(*pairs, strict=True))) for name, pairs in results.items()}


def test_the_choice_is_near_the_best_of_the_sweep_on_hard_data(agreements):
    losses = np.array([fixed.max(axis=1) - chosen for fixed, chosen in agreements.values()])
    assert losses.mean() < 0.08
    assert np.median(losses) < 0.01


def test_the_sweep_holds_the_numbers_of_each_candidate():
    # Groups of 60 and 40 images, 0.5 from each other, and one image alone. Few of its pairs hold each group together.
    # Pairs of a group weigh 0.9 ** 3, others 0.5 ** 3: 1770 * 0.729 = 1290.33 and 780 * 0.729 = 568.62 within the
    # groups, 2400 * 0.125 = 300 between them, 2158.95 in all. From 0.2 to 0.4 modularity is
    # 1858.95 / 2158.95 - (2880.66 / 4317.9) ** 2 - (1437.24 / 4317.9) ** 2. With one cluster it is 0, with none it is
    # -(60 * (59 * 0.729 + 40 * 0.125) ** 2 + 40 * (39 * 0.729 + 60 * 0.125) ** 2) / 4317.9 ** 2.
    pair = groups([60, 40], between=0.5)
    distance = csr_matrix((pair.data, pair.indices, np.append(pair.indptr, pair.nnz)), shape=(101, 101))
    choice = choose_eps(distance, candidates=[0.6, 0.05, 0.2, 0.3, 0.4])
    assert [row.eps for row in choice.sweep] == [0.05, 0.2, 0.3, 0.4, 0.6]
    assert [row.clusters for row in choice.sweep] == [0, 2, 2, 2, 1]
    assert [row.left_out for row in choice.sweep] == pytest.approx([1, *[1 / 101] * 4])
    assert [row.largest for row in choice.sweep] == pytest.approx([0, 0.6, 0.6, 0.6, 1])
    assert [row.stability for row in choice.sweep] == pytest.approx([1] * 5)
    assert [row.modularity for row in choice.sweep] == pytest.approx([-0.01018785, *[0.30516950] * 3, 0], abs=1e-7)
    assert [row.score for row in choice.sweep] == pytest.approx([0, *[0.30516950] * 3, 0], abs=1e-7)
    assert choice.eps == 0.3


def test_modularity_is_what_pairs_of_a_cluster_weigh_more_than_by_chance():
    features, _ = oracles.hard_features(60, 16, identities=6, seed=0)
    distance = jaccard_distance(features, 10, 3)
    labels = np.stack([dbscan(distance, eps) for eps in (0.3, 0.5, 0.7)])
    weight = np.zeros((60, 60))
    weight[distance.tocoo().coords] = (1 - distance.data.astype(np.float64)) ** 3
    np.fill_diagonal(weight, 0)
    strength = weight.sum(axis=1)
    for found, own in zip(modularities(distance, labels), map(noise_as_singletons, labels), strict=True):
        above = weight - np.outer(strength, strength) / weight.sum()
        assert found == pytest.approx(above[own[:, None] == own].sum() / weight.sum())
    assert modularities(csr_matrix((3, 3), dtype=np.float32), np.array([[0, 0, 0], [-1, -1, -1]])).tolist() == [0, 0]


def test_identities_bridged_by_one_pair_are_kept_apart():
    # From 0.3 on a single pair makes one cluster of the first two of three groups, and few of the pairs often lack it.
    distance = groups([40, 40, 40]).tolil()
    distance[0, 40] = distance[40, 0] = 0.3
    choice = choose_eps(distance.tocsr(), candidates=[0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45])
    assert [row.clusters for row in choice.sweep] == [3, 3, 3, 2, 2, 2, 2]
    assert all((row.stability == 1) == (row.eps < 0.3) for row in choice.sweep)
    assert choice.eps == 0.2


def test_a_draw_keeps_both_entries_of_a_pair_or_none_and_distances_of_zero():
    distance = groups([20, 20], within=0.0, between=0.5)
    row, column = distance.tocoo().coords
    for kept in _draws(distance, seed=0):
        pairs = set(zip(row[kept], column[kept], strict=True))
        assert pairs == {(j, i) for i, j in pairs}
        assert 0.3 < kept.mean() < 0.5
        assert set(distance.data[kept]) == {np.float32(0), np.float32(0.5)}


@pytest.mark.parametrize("left_out", [0.0, 0.3, 1.0])
def test_agreement_is_the_adjusted_rand_index_with_each_image_left_out_alone(left_out):
    rng = np.random.default_rng(0)
    for clusters in (1, 3, 40):
        one = np.where(rng.random(200) < left_out, -1, rng.integers(clusters, size=200))
        other = np.where(rng.random(200) < 0.5, one, rng.integers(-1, 5, size=200))
        for pair in ((one, other), (other, one), (one, one)):
            assert rand_index(*pair) == adjusted_rand_score(*map(noise_as_singletons, pair))


def test_the_seed_decides_the_draws():
    features, _ = oracles.hard_features(200, 32, identities=10, seed=0)
    distance = jaccard_distance(features, 20, 6)
    first, again, other = (choose_eps(distance, seed=seed).sweep for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_a_single_candidate_is_chosen():
    assert choose_eps(groups([5, 5]), candidates=[0.35]).eps == 0.35


def test_clusterings_that_are_degenerate_are_not_chosen():
    # From 0.3 on the groups are one cluster.
    distance = groups([5, 5, 5], between=0.25)
    choice = choose_eps(distance, candidates=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert choice.eps in (0.1, 0.2)


def test_no_candidates_are_refused():
    with pytest.raises(ValueError, match="at least one candidate"):
        choose_eps(groups([5, 5]), candidates=[])


def labels_of(sizes, left_out=0):
    return np.concatenate([np.repeat(np.arange(len(sizes)), sizes), np.full(left_out, -1)]).astype(np.int64)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (labels_of([], 5), "0 clusters of 5 images, at least 2 are needed"),
        (labels_of([7], 2), "1 cluster of 9 images, at least 2 are needed"),
        (labels_of([4, 4], 92), "92.0% of 100 images are left out, more than 90%"),
        (labels_of([51, 10, 9, 10, 20]), "one of 5 clusters holds 51.0% of the clustered images, more than 50%"),
        (labels_of([81, 19]), "one of 2 clusters holds 81.0% of the clustered images, more than 80%"),
    ],
)
def test_a_degenerate_clustering_is_named_with_its_numbers(labels, reason):
    assert degenerate(labels) == reason


@pytest.mark.parametrize(
    "labels",
    [
        labels_of([6, 4]),
        labels_of([5, 3], 2),
        labels_of([8, 2]),
        labels_of([50, 20, 20, 10]),
        labels_of([5, 5], 90),
        labels_of([3] * 40, 100),
    ],
)
def test_a_clustering_of_few_or_uneven_images_may_be_trained_on(labels):
    assert degenerate(labels) is None


def test_the_limits_can_be_changed():
    labels = labels_of([6, 4], 10)
    assert degenerate(labels) is None
    assert "at least 3" in degenerate(labels, min_clusters=3)
    assert "more than 40%" in degenerate(labels, max_left_out=0.4)
    assert degenerate(labels_of([90, 5, 5]), max_share=0.95) is None


def test_a_usable_clustering_is_left_as_it_is():
    distance = groups([5, 5, 5], between=0.5)
    labels, eps, reason = guarded_labels(distance, 0.33)
    assert labels.tolist() == dbscan(distance, 0.33).tolist()
    assert (eps, reason) == (0.33, None)


def test_a_merged_clustering_moves_to_the_nearest_tighter_radius():
    labels, eps, reason = guarded_labels(groups([5, 5, 5], between=0.5), 0.6)
    assert eps == 0.475  # the candidate below 0.5, where all merge
    assert labels.max() + 1 == 3
    assert reason == "1 cluster of 15 images, at least 2 are needed"


def test_an_empty_clustering_moves_to_the_nearest_looser_radius():
    labels, eps, reason = guarded_labels(groups([5, 5, 5], within=0.5), 0.41)
    assert eps == 0.5
    assert labels.max() + 1 == 3
    assert reason == "0 clusters of 15 images, at least 2 are needed"


def test_radii_beyond_the_distances_that_are_stored_are_not_tried():
    distance = groups([5, 5, 5], between=0.3)
    distance.max_distance = 0.5
    assert guarded_labels(distance, 0.45)[1] == 0.275
    distance.max_distance = 0.15
    with pytest.raises(ValueError, match="none at eps 0.01"):
        guarded_labels(distance, 0.01)


@pytest.mark.parametrize("distance", [groups([1] * 9), groups([12]), groups([1])])
def test_without_a_usable_radius_the_run_stops_with_the_cure(distance):
    with pytest.raises(ValueError, match=r"none at eps 0\.5 .*pre-trained weights.*PSEUDO_LABELS.MIN_SAMPLES"):
        guarded_labels(distance, 0.5)


def test_ten_images_of_two_animals_are_clustered():
    features, identities = oracles.hard_features(10, 64, identities=2, spread=0.3, unevenness=0.1, cameras=1, seed=4)
    assert sorted(np.bincount(identities)) == [4, 6]
    distance = jaccard_distance(features, k1=4, k2=2)
    labels, _, reason = guarded_labels(distance, choose_eps(distance, min_samples=2).eps, min_samples=2)
    assert reason is None
    assert adjusted_rand_score(labels, identities) == 1
