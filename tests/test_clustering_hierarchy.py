import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.cluster import HDBSCAN
from sklearn.metrics import adjusted_rand_score
from support import oracles
from support.distances import groups

from fastreid_fancl.clustering import hdbscan, jaccard_distance, noise_as_singletons


def dense(distance: csr_matrix) -> np.ndarray:
    full, stored = np.ones(distance.shape), distance.tocoo()  # its zeros are stored, and are no missing pairs
    full[stored.row, stored.col] = stored.data
    return full


def partition(labels: np.ndarray) -> list[int]:
    """Labels with the clusters numbered by their first image."""
    numbers = {-1: -1}
    return [numbers.setdefault(label, len(numbers) - 1) for label in labels.tolist()]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("min_samples", "least"), [(2, 1), (4, 0.97), (8, 0.97)])
def test_the_labels_are_those_of_the_dense_matrix(min_samples, least, seed):
    # Core distances make ties, which scikit-learn breaks by the order of the images: permuted, it agrees with itself by
    # 0.98 (adjusted Rand index) from min_samples 4 on.
    features, _ = oracles.hard_features(rows=300, identities=12, seed=seed)
    distance = jaccard_distance(features, 20, 6)
    model = HDBSCAN(min_cluster_size=min_samples, min_samples=min_samples, metric="precomputed", copy=True)
    expected, found = model.fit(dense(distance)).labels_, hdbscan(distance, min_samples)
    assert adjusted_rand_score(noise_as_singletons(found), noise_as_singletons(expected)) >= least


def test_groups_of_two_densities_that_no_radius_separates():
    # Two tight groups 0.3 apart, and loose ones with 0.6 within: below 0.6 these fall apart, from 0.3 on those are one.
    tight, loose = dense(groups([6, 6], within=0.1, between=0.3)), dense(groups([6, 6], within=0.6))
    full = np.ones((24, 24), dtype=np.float32)
    full[:12, :12], full[12:, 12:] = tight, loose
    distance = csr_matrix(np.where(full < 1, full + 1e-9, 0))
    assert partition(hdbscan(distance)) == [0] * 6 + [1] * 6 + [2] * 6 + [3] * 6


def test_copies_of_an_image_are_near_and_images_without_neighbours_are_noise():
    # Groups of 5 copies at distance 0, and two images that share no neighbour with any other.
    distance = groups([5, 5, 1, 1], within=0.0)
    assert partition(hdbscan(distance)) == [0] * 5 + [1] * 5 + [-1, -1]


def test_fewer_images_than_a_cluster_needs_are_noise():
    assert hdbscan(groups([3]), 4).tolist() == [-1] * 3


def test_a_dense_distance_and_a_single_sample_are_refused():
    with pytest.raises(ValueError, match="square sparse distance"):
        hdbscan(np.zeros((4, 4)))
    with pytest.raises(ValueError, match="at least 2 for HDBSCAN, got 1"):
        hdbscan(groups([5, 5]), 1)
