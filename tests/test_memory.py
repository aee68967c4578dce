import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.distances import unit
from support.oracles import hard_update, mean_update

from fastreid_fancl.memory import ClusterMemory, InstanceMemory, camera_proxies, cluster_centroids, repeat_counts

ORACLES = {"mean": mean_update, "hard": hard_update}


@pytest.mark.parametrize("update", ["mean", "hard"])
@pytest.mark.parametrize("momentum", [0.1, 0.2])
def test_memory_agrees_with_the_released_code(golden, update, momentum):
    reference = golden("cluster_memory")
    case = f"momentum_{momentum}_{update}"
    memory = ClusterMemory(torch.tensor(reference["memory_before"]), float(reference["temperature"]), momentum, update)
    queries, targets = torch.tensor(reference["inputs"], requires_grad=True), torch.tensor(reference["targets"])

    loss = memory(queries, targets)
    loss.backward()
    memory.update(queries, targets)

    assert loss.item() == pytest.approx(float(reference[f"loss_{case}"]), abs=1e-5)
    np.testing.assert_allclose(queries.grad, reference[f"grad_{case}"], atol=1e-5)
    np.testing.assert_allclose(memory.centroids, reference[f"memory_after_{case}"], atol=1e-5)


def test_centroids_are_cluster_means_without_the_images_left_out():
    # Cluster 0: rows 0 and 3, mean (2, 0); cluster 1: row 2; row 1 is left out.
    features = torch.tensor([[1.0, 0.0], [9.0, 9.0], [0.0, 5.0], [3.0, 0.0]])
    means = cluster_centroids(features, torch.tensor([0, -1, 1, 0]))
    assert means.tolist() == [[2.0, 0.0], [0.0, 5.0]]


def test_mean_update_by_hand():
    # alpha 0.5 from (1, 0) towards (0, 1) gives (1, 1) / 2, of unit length (1, 1) / sqrt 2.
    memory = ClusterMemory(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), momentum=0.5)
    memory.update(torch.tensor([[0.0, 2.0]]), torch.tensor([0]))
    assert torch.allclose(memory.centroids, torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, 1.0]]))


@pytest.mark.parametrize("update", ["mean", "hard"])
@pytest.mark.parametrize("clusters", [1, 3, 40])
def test_update_equals_the_loop_over_queries(update, clusters):
    rng = np.random.default_rng(clusters)
    centroids, queries = unit(rng, clusters, 6), rng.normal(size=(32, 6))
    targets = rng.integers(clusters, size=32)
    memory = ClusterMemory(torch.tensor(centroids), momentum=0.2, update=update)
    memory.update(torch.tensor(queries), torch.tensor(targets))
    np.testing.assert_allclose(memory.centroids, ORACLES[update](centroids, queries, targets, 0.2), atol=1e-5)


def test_repeat_counts_by_hand():
    # 7 comes three times, 3 twice, 5 once: three rows have a first turn, two a second, one a third.
    assert repeat_counts(np.array([7, 3, 7, 5, 7, 3])) == [3, 2, 1]


@pytest.mark.parametrize("update", ["mean", "hard"])
def test_repeat_counts_that_are_given_change_nothing(update):
    queries, targets = torch.randn(32, 6), torch.randint(5, (32,))
    banks = [ClusterMemory(torch.eye(5, 6), update=update), InstanceMemory(torch.eye(5, 6), momentum=0.3)]
    for bank, values in zip(banks, ("centroids", "features"), strict=True):
        counted = copy.deepcopy(bank)
        counted.update(queries, targets)
        bank.update(queries, targets, repeat_counts(targets.numpy()))
        assert torch.equal(getattr(bank, values), getattr(counted, values))
        with pytest.raises(ValueError, match="repeat counts of 32 rows, got those of 2"):
            bank.update(queries, targets, [1, 1])


def test_momentum_one_keeps_the_bank_and_zero_replaces_it():
    centroids, queries = F.normalize(torch.randn(3, 4), dim=1), torch.randn(3, 4)
    for momentum, expected in ((1.0, centroids), (0.0, F.normalize(queries, dim=1))):
        memory = ClusterMemory(centroids, momentum=momentum)
        memory.update(queries, torch.arange(3))
        assert torch.allclose(memory.centroids, expected, atol=1e-6)


def test_of_equally_hard_queries_the_first_moves_the_centroid():
    memory = ClusterMemory(torch.tensor([[1.0, 0.0, 0.0]]), momentum=0.0, update="hard")
    memory.update(torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), torch.tensor([0, 0]))
    assert memory.centroids.tolist() == [[0.0, 1.0, 0.0]]


def test_the_loss_leaves_the_bank_alone_and_the_update_the_gradient():
    memory = ClusterMemory(torch.randn(3, 4))
    before = memory.centroids.clone()
    queries = torch.randn(6, 4, requires_grad=True)
    loss = memory(queries, torch.arange(6) % 3)
    assert torch.equal(memory.centroids, before)
    memory.update(queries, torch.arange(6) % 3)
    loss.backward()
    assert queries.grad.abs().sum() > 0
    assert not memory.centroids.requires_grad


def test_the_bank_moves_with_the_model_but_stays_out_of_checkpoints():
    memory = ClusterMemory(torch.randn(3, 4))
    assert [name for name, _ in memory.named_buffers()] == ["centroids"]
    assert not memory.state_dict()


@pytest.mark.parametrize(
    ("arguments", "named"), [({"update": "soft"}, "MEMORY.UPDATE"), ({"momentum": 2}, "MEMORY.MOMENTUM")]
)
def test_wrong_settings_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        ClusterMemory(torch.randn(2, 3), **arguments)


def test_camera_proxies_are_the_mean_directions_of_each_cluster_in_each_camera_that_saw_it():
    # Cluster 0: (3, 0) and (0, 3) in camera 0, mean (1.5, 1.5); (0, 2) in camera 2. Cluster 1: (4, 3) in camera 0.
    features = torch.tensor([[0.0, 2], [3, 0], [4, 3], [9, 9], [0, 3]])
    labels, cameras = torch.tensor([0, 0, 1, -1, 0]), torch.tensor([2, 0, 0, 1, 0])
    proxies, clusters, seen = camera_proxies(features, labels, cameras)
    assert torch.allclose(proxies, torch.tensor([[0.5**0.5, 0.5**0.5], [0, 1], [0.8, 0.6]]))
    assert clusters.tolist() == [0, 0, 1]
    assert seen.tolist() == [0, 2, 0]
