import numpy as np
import pytest
import torch
from support.models import COMMON, Backbone, batch, head

from fastreid_fancl.clustering import dbscan, jaccard_distance, reliable_labels
from fastreid_fancl.methods import SpCL


def spcl(seed=0):
    torch.manual_seed(seed)
    return SpCL(backbone=Backbone(), heads=head(), temperature=0.05, momentum=0.2, gap=0.02, **COMMON)


def start(model, data, labels, epoch=0):
    model.eval()
    model.epoch = epoch
    with torch.no_grad():
        features = model.stored_features() or model.cluster_features(data)
    model.start_epoch(features, torch.tensor(labels))
    model.train()
    return features["original"]


def test_outliers_are_classes_of_their_own():
    model, data = spcl(), batch(6)
    start(model, data, [1, -1, 0, 0, -1, 1])
    assert model.memory.labels.tolist() == [1, 2, 0, 0, 3, 1]


def test_later_epochs_cluster_what_the_memory_holds():
    model, data = spcl(), batch(6)
    first = start(model, data, [0, 0, 1, 1, -1, -1])
    model(data)
    kept = model.memory.features.clone()
    second = start(model, data, [0, 0, 0, 1, 1, 1], epoch=1)
    assert torch.equal(second, kept)
    assert not torch.allclose(second, first), "the batch has moved its images"
    assert torch.equal(model.memory.features, kept), "new labels, the same memory"


def test_a_checkpoint_brings_the_memory_but_not_into_a_first_epoch():
    source, data = spcl(), batch(6)
    start(source, data, [0, 0, 1, 1, -1, -1])
    source.threshold.fill_(0.25)
    model = spcl(seed=1)
    model.load_state_dict(source.state_dict(), strict=False)
    assert torch.equal(model.memory.features, source.memory.features)
    assert model.threshold.item() == 0.25
    assert model.stored_features() is None
    model.epoch = 3
    assert torch.equal(model.stored_features()["original"], source.memory.features)


def test_the_threshold_is_that_of_the_first_epoch():
    rng = np.random.default_rng(0)
    one, other = (
        jaccard_distance(
            (rng.normal(size=(12, 16))[np.repeat(range(12), 9)] + spread * rng.normal(size=(108, 16))), 9, 3
        )
        for spread in (0.9, 1.1)
    )
    model = spcl()
    labels, threshold = reliable_labels(one, 0.5, 0.02)
    assert model.refine_labels(dbscan(one, 0.5), one, 0.5, 4, None).tolist() == labels.tolist()
    assert model.threshold.item() == threshold
    model.epoch = 1
    expected, _ = reliable_labels(other, 0.5, 0.02, threshold=threshold)
    assert model.refine_labels(dbscan(other, 0.5), other, 0.5, 4, None).tolist() == expected.tolist()
    assert model.threshold.item() == threshold


def test_the_loss_contrasts_with_the_memory_and_then_moves_it():
    model, data = spcl(), batch(6)
    start(model, data, [0, 0, 1, 1, -1, -1])
    with torch.no_grad():
        queries = model.encode(data["images"])
        expected = model.memory(queries, data["indices"]).item()
    before = model.memory.features.clone()
    assert model(data)["loss_unified"].item() == pytest.approx(expected, rel=1e-5)
    assert not torch.equal(model.memory.features, before)
