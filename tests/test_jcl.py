import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import oracles
from support.models import BANK, COMMON, Backbone, batch, head, start

from fastreid_fancl.methods import JCL
from fastreid_fancl.methods.jcl import drop_single_camera_clusters, hard_instances


def jcl():
    torch.manual_seed(0)
    return JCL(backbone=Backbone(), heads=head(), weight=0.5, negatives=3, **BANK, **COMMON)


def test_the_instance_loss_by_hand():
    # The query (1, 0) of cluster 0 has positives (1, 0) and (0, 1), the harder one at similarity 0; the last image is
    # left out, so the negatives are at 1 and -1: -log(1 / (1 + e + 1/e)).
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    labels = torch.tensor([0, 0, 1, 1, -1])
    loss = hard_instances(torch.tensor([[1.0, 0.0]]), features, labels, torch.tensor([0]), 1.0, 2)
    assert loss.item() == pytest.approx(np.log(1 + np.e + 1 / np.e))


@pytest.mark.parametrize("negatives", [1, 5, 100])
def test_the_instance_loss_equals_the_loop(negatives):
    rng = np.random.default_rng(negatives)
    features, queries = (F.normalize(torch.tensor(rng.normal(size=(n, 6))), dim=1).float() for n in (40, 8))
    labels, targets = torch.tensor(rng.integers(-1, 5, size=40)), torch.tensor(rng.integers(5, size=8))
    loss = hard_instances(queries, features, labels, targets, 0.05, negatives).item()
    expected = oracles.hard_instances(*(x.numpy() for x in (queries, features, labels, targets)), 0.05, negatives)
    assert loss == pytest.approx(expected, rel=1e-4)


def test_clusters_of_one_camera_are_left_out():
    # Cluster 0 was seen by cameras 0 and 1, cluster 1 by camera 2 only, cluster 2 by 0 and 2.
    labels, cameras = np.array([0, 1, 2, 0, 1, 2, -1]), np.array([0, 2, 0, 1, 2, 2, 1])
    assert drop_single_camera_clusters(labels, cameras).tolist() == [0, -1, 1, 0, -1, 1, -1]


def test_cameras_filter_clusters_only_where_they_are_known_and_leave_two(caplog):
    model, labels = jcl(), np.array([0, 0, 1, 1, 2, 2])
    assert model.refine_labels(labels, None, 0.5, 4, None) is labels
    assert model.refine_labels(labels, None, 0.5, 4, np.array([0, 1, 0, 1, 0, 0])).tolist() == [0, 0, 1, 1, -1, -1]
    assert model.refine_labels(labels, None, 0.5, 4, np.array([0, 1, 0, 0, 0, 0])) is labels
    assert "camera filter is skipped" in caplog.text


def test_the_camera_filter_does_not_leave_what_may_not_be_trained_on():
    # Two of 50 clusters of ten images each were seen by two cameras: 96% of the images would be left out.
    labels = np.repeat(np.arange(50), 10)
    cameras = np.where((labels < 2) & (np.arange(500) % 2 == 0), 1, 0)
    assert jcl().refine_labels(labels, None, 0.5, 4, cameras) is labels


def test_both_losses_and_both_updates():
    model, data = jcl(), batch()
    start(model, data)
    with torch.no_grad():
        queries = model.encode(data["images"])
        clusters = model.memory(queries, data["targets"]).item()
        images = hard_instances(queries, model.instances.features, data["targets"], data["targets"], 0.05, 3).item()
    before = model.memory.centroids.clone(), model.instances.features.clone()
    losses = model(data)
    assert losses["loss_cluster"].item() == pytest.approx(clusters, rel=1e-5)
    assert losses["loss_instance"].item() == pytest.approx(0.5 * images, rel=1e-5)
    assert not torch.equal(model.memory.centroids, before[0])
    assert not torch.equal(model.instances.features, before[1])
