import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from support import oracles

from fastreid_fancl.clustering import dbscan, grouping_scores, jaccard_distance, quality


def test_perfect_clusters_score_one_under_any_names():
    numbers = quality(np.array([1, 1, 0, 0, 2, 2]), np.array([7, 7, 3, 3, 0, 0]))
    assert numbers == {
        "clusters": 3,
        "left_out": 0,
        "mean_cluster_size": 2.0,
        "identities": 3,
        "ari": 1.0,
        "nmi": 1.0,
        "purity": 1.0,
        "ari_all": 1.0,
    }


def test_purity_is_the_share_of_the_commonest_identities():
    # cluster 0 holds identities 5, 5, 6 and cluster 1 holds 6, 7: commonest are 2 and 1 of 5 images
    numbers = quality(np.array([0, 0, 0, 1, 1]), np.array([5, 5, 6, 6, 7]))
    assert numbers["purity"] == pytest.approx(3 / 5)


def test_images_left_out_count_in_ari_all_only():
    labels, identities = np.array([0, 0, 1, 1, -1, -1]), np.array([4, 4, 5, 5, 5, 5])
    numbers = quality(labels, identities)
    assert (numbers["clusters"], numbers["left_out"], numbers["mean_cluster_size"]) == (2, 2, 2.0)
    assert numbers["ari"] == numbers["nmi"] == numbers["purity"] == 1
    assert numbers["ari_all"] == pytest.approx(adjusted_rand_score(identities, [0, 0, 1, 1, 2, 3]))
    assert numbers["ari_all"] < 1


def test_images_of_unknown_identity_are_ignored():
    known = quality(np.array([0, 0, 1, 1]), np.array([4, 4, 4, 5]))
    more = quality(np.array([0, 0, 1, 1, 0, 1, 1]), np.array([4, 4, 4, 5, -1, -1, -1]))
    for name in ("identities", "ari", "nmi", "purity", "ari_all"):
        assert more[name] == pytest.approx(known[name])
    assert more["mean_cluster_size"] == 3.5


def test_without_identities_only_the_clusters_are_described():
    numbers = quality(np.array([0, 0, -1]), np.array([-1, -1, -1]))
    assert numbers == {"clusters": 1, "left_out": 1, "mean_cluster_size": 2.0, "identities": 0}


def test_without_clusters_agreement_is_not_defined():
    numbers = quality(np.array([-1, -1, -1]), np.array([0, 0, 1]))
    assert numbers == {"clusters": 0, "left_out": 3, "mean_cluster_size": 0.0, "identities": 2, "ari_all": 0.0}


def test_better_features_score_better():
    scores = []
    for spread in (0.6, 1.0, 1.6):
        features, identities = oracles.hard_features(400, 64, spread=spread)
        scores.append(quality(dbscan(jaccard_distance(features, 20, 6), 0.5), identities)["ari_all"])
    assert scores == sorted(scores, reverse=True)


def test_labels_and_identities_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"one shape \(N,\), got \(3,\) and \(2,\)"):
        quality(np.zeros(3, dtype=int), np.zeros(2, dtype=int))


def test_groups_are_scored_with_each_image_left_out_a_group_of_its_own():
    # Animals A A A A B B, groups 0 0 0 - 1 1: as a partition {3, 1, 2} of {4, 2}, of 15 pairs.
    # Pairs together: in both 3 + 0 + 1 = 4, by group 3 + 0 + 1 = 4, by animal 6 + 1 = 7; expected 4 * 7 / 15 = 28 / 15.
    # ARI = (4 - 28 / 15) / ((4 + 7) / 2 - 28 / 15) = 64 / 109.
    numbers = grouping_scores(np.array([0, 0, 0, -1, 1, 1]), np.array([5, 5, 5, 5, 8, 8]))
    assert numbers["ARI"] == pytest.approx(64 / 109)
    assert (numbers["groups"], numbers["animals"], numbers["ungrouped"]) == (2, 2, 1)
    # No group mixes animals. Of the entropy of the groups (3/6, 1/6, 2/6), that inside animal A remains.
    entropy = -sum(p * np.log(p) for p in (3 / 6, 1 / 6, 2 / 6))
    inside = -4 / 6 * sum(p * np.log(p) for p in (3 / 4, 1 / 4))
    assert numbers["homogeneity"] == pytest.approx(1)
    assert numbers["completeness"] == pytest.approx(1 - inside / entropy)


def test_leaving_out_all_but_the_easy_images_scores_less():
    animals = np.repeat(np.arange(3), 6)
    whole, easy = animals.copy(), np.where(np.arange(18) % 6 < 2, animals, -1)
    scores = [grouping_scores(labels, animals) for labels in (whole, easy)]
    assert scores[0]["ARI"] == scores[0]["homogeneity"] == scores[0]["completeness"] == 1
    assert scores[1]["ARI"] < 0.2 and scores[1]["completeness"] < 0.6 and scores[1]["ungrouped"] == 12


def test_photographs_of_unknown_animals_are_grouped_and_not_scored():
    with_unknown = grouping_scores(np.array([0, 0, 1, 1, 1, -1]), np.array([4, 4, 5, 5, -1, -1]))
    assert with_unknown["ARI"] == 1 and (with_unknown["groups"], with_unknown["ungrouped"]) == (2, 1)
    with pytest.raises(ValueError, match="animal is known, got none"):
        grouping_scores(np.array([0, 0]), np.array([-1, -1]))
