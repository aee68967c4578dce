import math

import numpy as np
import pytest
import torch
from oracles import cluster_nce as cluster_nce_by_loop

from fastreid_fancl.losses import cluster_nce, cosine


def test_cluster_nce_by_hand():
    # sim = (1, 0); with tau = 1 the loss is -log(e / (e + 1)) = log(1 + 1/e).
    queries, centroids = torch.tensor([[3.0, 0.0]]), torch.eye(2)
    loss = cluster_nce(queries, centroids, torch.tensor([0]), temperature=1.0)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)


def test_cluster_nce_equals_the_loop_over_queries_and_clusters():
    rng = np.random.default_rng(0)
    queries, centroids = rng.normal(size=(12, 7)), rng.normal(size=(5, 7))
    targets = rng.integers(5, size=12)
    loss = cluster_nce(torch.tensor(queries), torch.tensor(centroids), torch.tensor(targets), 0.05)
    assert loss.item() == pytest.approx(cluster_nce_by_loop(queries, centroids, targets, 0.05), rel=1e-5)


def test_cluster_nce_does_not_see_lengths():
    queries, centroids, targets = torch.randn(6, 4), torch.randn(3, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    assert torch.allclose(
        cluster_nce(queries, centroids, targets, 0.05),
        cluster_nce(9 * queries, centroids / 7, targets, 0.05),
        rtol=1e-4,
    )


def test_with_one_cluster_there_is_nothing_to_tell_apart():
    assert cluster_nce(torch.randn(4, 3), torch.randn(1, 3), torch.zeros(4, dtype=torch.long), 0.05).item() == 0


def test_a_loss_in_autocast_is_the_float32_loss_of_the_same_features():
    queries, centroids, targets = torch.randn(8, 16), torch.randn(4, 16), torch.arange(8) % 4
    outside = cluster_nce(queries, centroids, targets, 0.05), cosine(queries, centroids[targets])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = cluster_nce(queries, centroids, targets, 0.05), cosine(queries, centroids[targets])
    for out, within in zip(outside, inside, strict=True):
        assert within.dtype == torch.float32
        assert torch.equal(out, within)


def test_cosine_by_hand():
    # (3, 4).(4, 3) / (5 * 5) = 24 / 25, and opposite vectors give -1.
    u, v = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[4.0, 3.0], [-2.0, 0.0]])
    assert torch.allclose(cosine(u, v), torch.tensor([0.96, -1.0]))
