import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.cluster import DBSCAN
from sklearn.metrics import adjusted_rand_score
from support import oracles

from fastreid_fancl.clustering import dbscan, jaccard_distance, noise_as_singletons, reliable_labels, renumber
from fastreid_fancl.clustering.labels import dbscan_sweep


def pairs(number, near):
    """A symmetric sparse distance of `number` images from {(i, j): distance}, with a stored zero diagonal."""
    entries = {(i, i): 0.0 for i in range(number)} | near | {(j, i): value for (i, j), value in near.items()}
    rows, columns = zip(*entries, strict=True)
    return csr_matrix((np.float32(list(entries.values())), (rows, columns)), shape=(number, number))


def dense(distance):
    full = np.ones(distance.shape, dtype=distance.dtype)
    stored = distance.tocoo()
    full[stored.row, stored.col] = stored.data
    return full


@pytest.mark.parametrize("eps", [0.4, 0.5, 0.6, 0.7])
def test_labels_are_those_of_the_published_reference(golden, eps):
    reference = golden("jaccard")
    distance = jaccard_distance(reference["features"], 30, 6)
    assert (dbscan(distance, eps) == reference[f"dbscan_k1_30_k2_6_eps_{eps}"]).all()


@pytest.mark.parametrize("eps", [0.15, 0.4, 0.5, 0.6, 0.8])
@pytest.mark.parametrize("min_samples", [1, 2, 4, 9])
@pytest.mark.parametrize("seed", [0, 1])
def test_labels_are_those_of_scikit_learn_on_the_dense_matrix(eps, min_samples, seed):
    distance = jaccard_distance(oracles.hard_features(300, 32, seed=seed)[0], 15, 4)
    expected = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(dense(distance))
    assert (dbscan(distance, eps, min_samples) == expected).all()


@pytest.mark.parametrize("min_samples", [1, 2, 4, 7])
def test_a_sweep_has_the_labels_of_scikit_learn_on_graphs_without_structure(min_samples):
    # such graphs are full of images between clusters
    random, radii = np.random.default_rng(0), [0.02, 0.05, 0.07, 0.1, 0.3]
    for _ in range(50):
        full = random.uniform(size=(40, 40)).astype(np.float32)
        full = np.minimum(full, full.T)
        np.fill_diagonal(full, 0)
        drawn = random.random((40, 40)) < 0.7
        drawn &= drawn.T
        sparse = csr_matrix(full)
        labels = dbscan_sweep(sparse, radii, min_samples, kept=drawn[sparse.nonzero()])
        np.fill_diagonal(drawn, True)
        few = np.where(drawn, full, 1)
        for eps, own in zip(radii, labels, strict=True):
            expected = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(few)
            assert (own == expected).all()


def test_an_image_between_two_clusters_joins_the_lower_numbered():
    # 1..4 and 5..8 are all near each other; 0 has only two images near, one of each cluster, so it does not join them
    near = {(i, j): 0.1 for group in (range(1, 5), range(5, 9)) for i in group for j in group if i < j}
    distance = pairs(9, near | {(0, 5): 0.2, (0, 4): 0.3})
    assert dbscan(distance, 0.4, min_samples=4).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    # a core image does: it has three images within eps, itself included
    assert dbscan(distance, 0.4, min_samples=3).tolist() == [0] * 9


def test_a_distance_of_eps_is_within_eps_in_the_precision_of_the_distances():
    distance = pairs(2, {(0, 1): 0.6})  # 0.6 in float32 is 0.60000002
    assert dbscan(distance, 0.6, min_samples=2).tolist() == [0, 0]
    assert dbscan(distance, 0.5999, min_samples=2).tolist() == [-1, -1]


@pytest.mark.parametrize("eps", [0.3, 0.6, 0.9])
def test_farther_pairs_change_no_label(eps):
    features, _ = oracles.hard_features(300, 32)
    near, full = (jaccard_distance(features, 15, 4, limit) for limit in (0.95, 1.0))
    assert near.nnz < full.nnz
    assert (dbscan(near, eps) == dbscan(full, eps)).all()


def test_a_radius_beyond_the_stored_distances_is_refused():
    distance = jaccard_distance(oracles.hard_features(50, 32)[0], 15, 4, max_distance=0.6)
    dbscan(distance, 0.59)
    with pytest.raises(ValueError, match="Expected eps below 0.6, up to which distances are stored, got 0.6"):
        dbscan(distance, 0.6)


def test_an_image_is_near_itself_even_if_its_zero_is_not_stored():
    without_diagonal = csr_matrix(np.float32([[0, 0.1], [0.1, 0]]))
    assert without_diagonal.nnz == 2
    assert dbscan(without_diagonal, 0.5, min_samples=2).tolist() == [0, 0]


@pytest.mark.parametrize("images", [1, 2])
def test_too_few_images_for_a_cluster_are_noise(images):
    distance = jaccard_distance(np.ones((images, 4)) / 2, 30, 6)
    assert dbscan(distance, 0.5).tolist() == [-1] * images


def test_equal_images_are_one_cluster():
    distance = jaccard_distance(np.ones((12, 4)) / 2, 30, 6)
    assert dbscan(distance, 0.5).tolist() == [0] * 12


def test_a_larger_eps_only_joins():
    distance = jaccard_distance(oracles.hard_features(300, 32)[0], 15, 4)
    for eps in (0.3, 0.5, 0.7):
        tight, loose = dbscan(distance, eps, min_samples=1), dbscan(distance, eps + 0.1, min_samples=1)
        assert all(len(set(loose[tight == cluster])) == 1 for cluster in range(tight.max() + 1))


def test_another_order_of_images_gives_the_same_core_partition():
    distance = jaccard_distance(oracles.hard_features(300, 32)[0], 15, 4)
    order = np.random.default_rng(1).permutation(300)
    # with min_samples 1 all images are core images, none is between clusters
    shuffled = dbscan(distance[order][:, order], 0.5, min_samples=1)
    assert adjusted_rand_score(shuffled, dbscan(distance, 0.5, min_samples=1)[order]) == 1


@pytest.mark.parametrize(
    ("distance", "eps", "min_samples", "message"),
    [
        (np.zeros((3, 3)), 0.5, 4, r"square sparse distance, got ndarray of shape \(3, 3\)"),
        (csr_matrix((3, 4)), 0.5, 4, r"square sparse distance, got csr_matrix of shape \(3, 4\)"),
        (csr_matrix((3, 3)), 0, 4, "eps between 0 and 1"),
        (csr_matrix((3, 3)), 1, 4, "eps between 0 and 1"),
        (csr_matrix((3, 3)), np.nan, 4, "eps between 0 and 1"),
        (csr_matrix((3, 3)), 0.5, 0, "min_samples of at least 1"),
    ],
)
def test_wrong_arguments_are_refused(distance, eps, min_samples, message):
    with pytest.raises(ValueError, match=message):
        dbscan(distance, eps, min_samples)


@pytest.mark.parametrize("gap", [0.02, 0.1])
def test_reliable_labels_are_those_of_the_published_reference(golden, gap):
    reference = golden("spcl_refinement")
    distance = jaccard_distance(reference["features"], 30, 6)
    assert (
        noise_as_singletons(dbscan(distance, float(reference["eps"]))) == reference[f"labels_before_gap_{gap}"]
    ).all()
    labels, threshold = reliable_labels(distance, float(reference["eps"]), gap)
    assert adjusted_rand_score(noise_as_singletons(labels), reference[f"labels_after_gap_{gap}"]) == 1
    assert threshold == reference[f"threshold_gap_{gap}"]


@pytest.mark.parametrize("gap", [0.02, 0.05, 0.15])
@pytest.mark.parametrize("spread", [0.7, 1.0, 1.3])
@pytest.mark.parametrize("threshold", [None, 0.3])
def test_reliable_labels_are_those_of_dense_label_matrices(gap, spread, threshold):
    distance = jaccard_distance(oracles.hard_features(300, 32, spread=spread, seed=3)[0], 15, 4)
    three = (noise_as_singletons(dbscan(distance, radius)) for radius in (0.5, 0.5 - gap, 0.5 + gap))
    expected, expected_threshold = oracles.reliable_partition(*three, threshold)
    labels, used = reliable_labels(distance, 0.5, gap, threshold=threshold)
    assert adjusted_rand_score(noise_as_singletons(labels), expected) == 1
    assert used == expected_threshold


def test_reliable_clusters_are_parts_of_clusters_of_two_images_or_more():
    distance = jaccard_distance(oracles.hard_features(300, 32)[0], 15, 4)
    before, (after, _) = dbscan(distance, 0.5), reliable_labels(distance, 0.5, 0.1)
    assert (after[before < 0] == -1).all()
    assert np.bincount(after[after >= 0]).min() >= 2
    assert all(len(set(before[after == cluster])) == 1 for cluster in range(after.max() + 1))
    assert set(after) == set(range(-1, after.max() + 1))


def test_without_a_gap_every_cluster_is_reliable():
    distance = jaccard_distance(oracles.hard_features(300, 32)[0], 15, 4)
    labels, threshold = reliable_labels(distance, 0.5, 0)
    assert (labels == dbscan(distance, 0.5)).all()
    assert threshold == 0


def test_without_clusters_there_is_no_threshold():
    labels, threshold = reliable_labels(pairs(3, {(0, 1): 0.9}), 0.5, 0.02)
    assert labels.tolist() == [-1, -1, -1]
    assert threshold is None


def test_a_negative_gap_is_refused():
    with pytest.raises(ValueError, match="gap of at least 0"):
        reliable_labels(pairs(3, {}), 0.5, -0.1)


def test_noise_becomes_classes_after_the_clusters():
    assert noise_as_singletons(np.array([1, -1, 0, 1, -1])).tolist() == [1, 2, 0, 1, 3]
    assert noise_as_singletons(np.array([-1, -1])).tolist() == [0, 1]


def test_clusters_are_numbered_without_gaps_and_small_ones_left_out():
    assert renumber(np.array([5, 2, -1, 5, 2, 7])).tolist() == [1, 0, -1, 1, 0, 2]
    assert renumber(np.array([5, 2, -1, 5, 2, 7]), smallest=2).tolist() == [1, 0, -1, 1, 0, -1]
    assert renumber(np.array([-1, -1])).tolist() == [-1, -1]
