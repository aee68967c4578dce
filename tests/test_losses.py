import math

import numpy as np
import pytest
import torch
from support.oracles import cluster_nce as cluster_nce_by_loop
from support.oracles import proxy_contrast as proxy_contrast_by_loop

from fastreid_fancl.losses import cluster_nce, cosine, cosine_matrix, proxy_contrast


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


def test_the_cosine_matrix_holds_the_cosine_of_every_pair():
    u, v = torch.randn(4, 5), torch.randn(3, 5)
    pairs = torch.stack([cosine(u, row.expand(4, 5)) for row in v], dim=1)
    torch.testing.assert_close(cosine_matrix(u, v), pairs)


def test_proxy_contrast_by_hand():
    # Positives 1 and 3, negatives 0, 2 and 5, of which the hardest two are 2 and 5; tau = 1. With
    # Z = e + e^3 + e^2 + e^5 the loss is -(log(e / Z) + log(e^3 / Z)) / 2 = log Z - 2.
    similarity = torch.tensor([[1.0, 3.0, 0.0, 2.0, 5.0]])
    positives = torch.tensor([[True, True, False, False, False]])
    total = math.exp(1) + math.exp(3) + math.exp(2) + math.exp(5)
    loss = proxy_contrast(similarity, positives, ~positives, temperature=1.0, hard=2)
    assert loss.item() == pytest.approx(math.log(total) - 2, abs=1e-6)


@pytest.mark.parametrize("hard", [0, 1, 5, 100])
def test_proxy_contrast_equals_the_loop_over_queries(hard):
    rng = np.random.default_rng(0)
    similarity = rng.uniform(-1, 1, size=(12, 20))
    clusters, targets = rng.integers(6, size=20), rng.integers(6, size=12)
    positives = (targets[:, None] == clusters) & (rng.random((12, 20)) < 0.7)
    negatives = targets[:, None] != clusters
    loss = proxy_contrast(*map(torch.tensor, (similarity, positives, negatives)), 0.07, hard)
    expected = proxy_contrast_by_loop(similarity, positives, negatives, 0.07, hard)
    assert not positives.any(1).all(), "no row without a positive was tried"
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-5)


def test_a_query_without_positives_has_no_loss_and_no_gradient():
    similarity = torch.randn(3, 4, requires_grad=True)
    none = torch.zeros(3, 4, dtype=torch.bool)
    negatives = torch.tensor([[True] * 4, [False] * 4, [True, False] * 2])
    loss = proxy_contrast(similarity, none, negatives, 0.07, 2)
    loss.sum().backward()
    assert torch.equal(loss, torch.zeros(3))
    assert torch.equal(similarity.grad, torch.zeros(3, 4))
