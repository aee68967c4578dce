import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import oracles
from support.distances import unit

from fastreid_fancl.memory import HybridMemory, InstanceMemory


def test_memory_agrees_with_the_released_code(golden):
    reference = golden("hybrid_memory")
    memory = HybridMemory(
        torch.tensor(reference["memory_before"]), float(reference["temperature"]), float(reference["momentum"])
    )
    memory.labels = torch.tensor(reference["labels"])
    queries, indices = torch.tensor(reference["inputs"], requires_grad=True), torch.tensor(reference["indexes"])

    loss = memory(queries, indices)
    loss.backward()
    memory.update(queries, indices)

    assert loss.item() == pytest.approx(float(reference["loss"]), abs=1e-5)
    np.testing.assert_allclose(queries.grad, reference["grad"], atol=1e-5)
    np.testing.assert_allclose(memory.features, reference["memory_after"], atol=1e-5)


def test_the_loss_by_hand():
    # Class 0: images 0 and 1, (1, 0) and (0, 1), mean (0.5, 0.5), not of unit length; class 1: image 2, (1, 0).
    memory = HybridMemory(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), temperature=1.0)
    memory.labels = torch.tensor([0, 0, 1])
    # The query (1, 0) has similarities 0.5 and 1: -log(e^0.5 / (e^0.5 + e^1)) = log(1 + e^0.5).
    loss = memory(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert loss.item() == pytest.approx(np.log1p(np.exp(0.5)), abs=1e-5)


def test_loss_and_update_equal_the_loops():
    rng = np.random.default_rng(0)
    features, queries = unit(rng, 30, 8), unit(rng, 12, 8)
    labels, indices = rng.permutation(np.r_[np.repeat([0, 1, 2], 7), 3:12]), rng.integers(30, size=12)
    memory = HybridMemory(torch.tensor(features), temperature=0.5, momentum=0.3)
    memory.labels = torch.tensor(labels)
    loss = memory(torch.tensor(queries).float(), torch.tensor(indices))
    memory.update(torch.tensor(queries), torch.tensor(indices))
    assert loss.item() == pytest.approx(oracles.hybrid_nce(queries, features, labels, indices, 0.5), rel=1e-4)
    np.testing.assert_allclose(memory.features, oracles.mean_update(features, queries, indices, 0.3), atol=1e-6)


def test_alone_every_image_is_a_class():
    features = F.normalize(torch.randn(5, 4), dim=1)
    memory = HybridMemory(features)
    assert torch.allclose(memory.class_means(), features)


def test_labels_changed_in_place_are_counted_anew():
    memory = HybridMemory(torch.eye(4))
    memory.labels = torch.tensor([0, 0, 1, 1])
    assert memory.class_means()[0].tolist() == [0.5, 0.5, 0, 0]
    memory.labels[1] = 1
    assert memory.class_means()[0].tolist() == [1, 0, 0, 0]


@pytest.mark.cuda
def test_on_a_gpu_the_means_come_back_bit_for_bit():
    memory = HybridMemory(torch.randn(5000, 64).cuda())
    memory.labels = torch.arange(5000, device="cuda") % 7
    first = memory.class_means()
    assert all(torch.equal(first, memory.class_means()) for _ in range(20))


def test_a_query_far_from_its_class_pulls_less_than_by_the_softmax_alone():
    memory = HybridMemory(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), temperature=0.05)
    query = torch.tensor([[-1.0, 0.0]], requires_grad=True)
    memory(query, torch.tensor([0])).backward()  # probability e^-40, far below the floor
    assert query.grad.abs().max() < 1e-6


def test_checkpoints_hold_the_memory_of_spcl_and_not_that_of_an_epoch():
    assert set(HybridMemory(torch.eye(3)).state_dict()) == {"features", "labels"}
    assert not InstanceMemory(torch.eye(3), 0.2).state_dict()


def test_a_momentum_above_one_is_refused():
    with pytest.raises(ValueError, match=r"MEMORY.MOMENTUM in \[0, 1\], .* got 2"):
        HybridMemory(torch.eye(3), momentum=2)
