import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import on_two_ranks
from fastreid.solver import build as solver_build
from support import oracles
from support.models import COMMON, DIM, Backbone, batch, head

from fastreid_fancl.config.load import load_config
from fastreid_fancl.heads import PartHead
from fastreid_fancl.methods import PPLR
from fastreid_fancl.methods.pplr import (
    agreement_aware_label_smoothing,
    cross_agreement,
    gather_with_gradients,
    part_guided_label_refinement,
    soft_triplet,
)

PARTS, CLUSTERS = 3, 4
SETTINGS = {"k": 3, "beta": 0.5, "aals_epoch": 1, "label_smoothing": 0.1, "max_clusters": 5}
SETTINGS |= {"camera_weight": 0.5, "camera_temperature": 0.07, "camera_negatives": 2}


def pplr(parts=PARTS, reduced_dim=0, **changes):
    torch.manual_seed(0)
    part_head = PartHead(DIM, parts, "width", reduced_dim)
    return PPLR(backbone=Backbone(), heads=head(), part_head=part_head, **{**SETTINGS, **changes}, **COMMON)


def data():
    return {**batch(size=16, clusters=CLUSTERS), "camids": torch.arange(16) // 4 % 3}


def start(model, batch, cameras=None):
    model.eval()
    with torch.no_grad():
        features = model.cluster_features(batch)
    model.start_epoch(features, batch["targets"], cameras)
    model.train()
    return features


def predictions(rng=None, queries=6, clusters=5):
    """Logits of the global feature and the parts, targets and agreement."""
    rng = rng or np.random.default_rng(0)
    own, parts = rng.normal(size=(queries, clusters)), rng.normal(size=(queries, PARTS, clusters))
    return [torch.tensor(x) for x in (own, parts, rng.integers(clusters, size=queries), rng.random((queries, PARTS)))]


def test_cross_agreement_by_hand():
    # The two nearest others of the four images at 0, 1, 3, 7 on a line are 12, 02, 10, 21; at 0, 9, 1, 8 they are 23,
    # 32, 03, 12: three times one of three in common, once both. A second part like the whole shares all.
    line, part = torch.tensor([[0.0], [1], [3], [7]]), torch.tensor([[0.0], [9], [1], [8]])
    agreement = cross_agreement(line, torch.stack([part, line], dim=1), 2)
    torch.testing.assert_close(agreement, torch.tensor([[1 / 3, 1], [1 / 3, 1], [1 / 3, 1], [1, 1]]))


def test_cross_agreement_equals_the_loop_over_sets():
    rng = np.random.default_rng(0)
    own, parts = rng.normal(size=(40, 5)).astype(np.float32), rng.normal(size=(40, PARTS, 5)).astype(np.float32)
    found = cross_agreement(torch.from_numpy(own), torch.from_numpy(parts), 7)
    np.testing.assert_allclose(found, oracles.cross_agreement(own, parts, 7), rtol=1e-6)


@pytest.mark.parametrize("k", [1, 5, 40])
def test_spaces_that_are_equal_agree_fully(k):
    features = torch.randn(12, 4)
    assert (cross_agreement(features, features[:, None].expand(-1, 2, -1), k) == 1).all()


def test_refinement_and_smoothing_equal_the_loops():
    values = predictions()
    expected = oracles.part_guided_label_refinement(*(value.numpy() for value in values), 0.3)
    assert part_guided_label_refinement(*values, 0.3).item() == pytest.approx(expected)
    expected = oracles.agreement_aware_label_smoothing(*(value.numpy() for value in values[1:]))
    assert agreement_aware_label_smoothing(*values[1:]).item() == pytest.approx(expected)


def test_beta_of_one_leaves_the_pseudo_labels_as_they_are():
    own, parts, targets, agreement = predictions()
    loss = part_guided_label_refinement(own, parts, targets, agreement, 1.0)
    torch.testing.assert_close(loss, F.cross_entropy(own, targets))


def test_refined_labels_send_no_gradient_to_the_parts():
    own, parts, targets, agreement = predictions()
    own.requires_grad_(), parts.requires_grad_()
    part_guided_label_refinement(own, parts, targets, agreement, 0.5).backward()
    assert own.grad.abs().sum() > 0
    assert parts.grad is None


def test_full_agreement_makes_smoothing_the_plain_cross_entropy():
    _, parts, targets, agreement = predictions()
    loss = agreement_aware_label_smoothing(parts, targets, torch.ones_like(agreement))
    torch.testing.assert_close(loss, F.cross_entropy(parts.flatten(0, 1), targets.repeat_interleave(PARTS)))


def test_without_agreement_the_uniform_prediction_is_the_best():
    _, parts, targets, agreement = predictions()
    nowhere = torch.zeros_like(agreement)
    assert agreement_aware_label_smoothing(torch.zeros_like(parts), targets, nowhere).item() == pytest.approx(0)
    assert agreement_aware_label_smoothing(parts, targets, nowhere) > 0.1


def test_soft_triplet_by_hand():
    # From 0: positive 3, negative 5, log(1 + e^-2). From 3: positive 3, negative 2, log(1 + e^1). From 5: positive 0,
    # itself, negative 2, log(1 + e^-2).
    points, targets = torch.tensor([[0.0], [3], [5]]), torch.tensor([0, 0, 1])
    expected = np.mean([np.log1p(np.exp(-2)), np.log1p(np.exp(1)), np.log1p(np.exp(-2))])
    assert soft_triplet(points, targets, points, targets).item() == pytest.approx(expected)


def test_soft_triplet_and_its_gradient_equal_the_loop():
    rng = np.random.default_rng(0)
    points, targets = rng.normal(size=(9, 4)), rng.integers(3, size=9)
    queries, labels = torch.tensor(points, requires_grad=True), torch.tensor(targets)
    loss = soft_triplet(queries, labels, queries, labels)
    assert loss.item() == pytest.approx(oracles.soft_triplet(points, targets))
    loss.backward()
    step = 1e-6 * rng.normal(size=points.shape)
    slope = oracles.soft_triplet(points + step, targets) - oracles.soft_triplet(points - step, targets)
    assert (queries.grad.numpy() * step).sum() * 2 == pytest.approx(slope, rel=1e-4)


def test_a_batch_of_one_cluster_has_no_triplets():
    queries, targets = torch.randn(4, 3, requires_grad=True), torch.zeros(4, dtype=torch.long)
    loss = soft_triplet(queries, targets, queries, targets)
    loss.backward()
    assert loss.item() == 0
    assert (queries.grad == 0).all()


def test_the_losses_are_those_of_the_released_code(golden):
    saved = {name: torch.from_numpy(np.asarray(value)) for name, value in golden("pplr").items()}
    own, targets, agreement = saved["logits_global"], saved["targets"], saved["agreement"]
    parts, embeddings = saved["logits_parts"].transpose(1, 2), saved["embeddings"]
    loss = part_guided_label_refinement(own, parts, targets, agreement, 0.5)
    assert loss.item() == pytest.approx(saved["loss_pglr_beta_0.5"].item(), abs=1e-5)
    each = [agreement_aware_label_smoothing(parts[:, [p]], targets, agreement[:, [p]]).item() for p in range(PARTS)]
    assert each == pytest.approx(saved["loss_aals_per_part"].tolist(), abs=1e-5)
    loss = soft_triplet(embeddings, targets, embeddings, targets)
    assert loss.item() == pytest.approx(saved["loss_soft_triplet_margin_0"].item(), abs=1e-5)


def test_the_cross_agreement_is_that_of_the_released_code(golden):
    saved = {name: torch.from_numpy(np.asarray(value)) for name, value in golden("pplr").items()}
    found = cross_agreement(saved["features_global"], saved["features_parts"].transpose(1, 2), 20)
    torch.testing.assert_close(found, saved["cross_agreement_k_20"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("epoch", [0, 1])
def test_the_losses_of_a_batch_equal_the_loops(epoch):
    model, batch = pplr(), data()
    features = start(model, batch, batch["camids"])
    model.epoch = epoch
    with torch.no_grad():
        spaces = model.embed(batch["images"]).numpy()
        found = {name: loss.item() for name, loss in model(batch).items()}
    targets, cameras = batch["targets"].numpy(), batch["camids"].numpy()
    units = np.stack([features[name].numpy() for name in ("original", "part_0", "part_1", "part_2")], axis=1)
    agreement = oracles.cross_agreement(units[:, 0], units[:, 1:], 3)
    logits = np.stack([spaces[:, s] @ centroids(units[:, s], targets).T for s in range(PARTS + 1)], axis=1)

    expected = oracles.part_guided_label_refinement(logits[:, 0], logits[:, 1:], targets, agreement, 0.5)
    assert found.pop("loss_global") == pytest.approx(expected, rel=1e-4)
    assert found.pop("loss_triplet") == pytest.approx(oracles.soft_triplet(spaces[:, 0], targets), rel=1e-4)
    if epoch:
        expected = oracles.agreement_aware_label_smoothing(logits[:, 1:], targets, agreement)
    else:
        log_q = np.log([[oracles.softmax(row) for row in rows] for rows in logits[:, 1:]])
        expected = -np.mean([0.9 * q[:, t] + 0.1 * q.mean(1) for q, t in zip(log_q, targets, strict=True)])
    assert found.pop("loss_parts") == pytest.approx(expected, rel=1e-4)
    each = [camera_loss(spaces[:, s], units[:, s], targets, cameras) for s in range(PARTS + 1)]
    assert found.pop("loss_camera") == pytest.approx(0.5 * (each[0] + np.mean(each[1:])), rel=1e-4)
    assert not found


def centroids(features, labels):
    means = np.stack([features[labels == c].mean(0) for c in np.unique(labels)])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def camera_loss(queries, features, targets, cameras):
    pairs = sorted(set(zip(targets.tolist(), cameras.tolist(), strict=True)))
    proxies = np.stack([features[(targets == t) & (cameras == c)].mean(0) for t, c in pairs])
    proxies /= np.linalg.norm(proxies, axis=1, keepdims=True)
    similarity = queries / np.linalg.norm(queries, axis=1, keepdims=True) @ proxies.T
    own = np.array([[t == proxy for proxy, _ in pairs] for t in targets])
    elsewhere = np.array([[c != camera for _, camera in pairs] for c in cameras])
    return oracles.proxy_contrast(similarity, own & elsewhere, ~own, 0.07, 2).mean()


@pytest.mark.parametrize(("cameras", "weight"), [(None, 0.5), (data()["camids"], 0.0)])
def test_without_cameras_or_their_weight_there_is_no_contrast_between_them(cameras, weight):
    model, batch = pplr(camera_weight=weight), data()
    start(model, batch, data()["camids"])
    start(model, batch, cameras)
    assert set(model(batch)) == {"loss_global", "loss_parts", "loss_triplet"}


def test_each_epoch_fills_the_classifiers_anew_with_a_row_for_each_of_its_clusters():
    model, batch = pplr(), data()
    start(model, batch)
    later = {name: torch.randn(16, DIM) for name in model.spaces}
    labels = torch.where(batch["targets"] == 3, -1, batch["targets"])
    model.start_epoch(later, labels)
    kept = labels >= 0
    for classifier, features in zip(model.classifiers.detach(), later.values(), strict=True):
        expected = centroids(features[kept].numpy(), labels[kept].numpy())
        np.testing.assert_allclose(classifier[:3], expected, atol=1e-6)


def test_rows_without_a_cluster_take_no_part():
    model, batch = pplr(), data()
    start(model, batch)
    before = model(batch)
    with torch.no_grad():
        model.classifiers[:, CLUSTERS:] = 9
    assert model(batch) == before


def test_more_clusters_than_rows_are_refused_with_the_cure():
    with pytest.raises(ValueError, match="at most 3 clusters, got 4: raise PPLR.MAX_CLUSTERS"):
        start(pplr(max_clusters=3), data())


def test_the_optimiser_trains_the_classifiers_that_an_epoch_fills():
    model, batch = pplr(), data()
    optimizer, params = solver_build.build_optimizer(load_config(), model)
    start(model, batch)
    filled = model.classifiers.detach().clone()
    sum(model(batch).values()).backward()
    optimizer.step()
    params.assert_buffer_is_valid()
    moved = (model.classifiers != filled).any(dim=2)
    assert moved[:, :CLUSTERS].all()
    assert not moved[:, CLUSTERS:].any()


def test_losses_in_autocast_are_the_float32_losses_of_the_same_features(monkeypatch):
    model, batch = pplr(), data()
    start(model, batch, batch["camids"])
    features = model.embed(batch["images"])
    monkeypatch.setattr(model, "embed", lambda images: features)
    expected = model(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(batch) == expected


def test_every_weight_gets_a_gradient():
    model, batch = pplr(), data()
    start(model, batch, batch["camids"])
    sum(model(batch).values()).backward()
    untouched = [name for name, p in model.named_parameters() if p.requires_grad and not p.grad.abs().sum() > 0]
    assert not untouched


def test_what_is_clustered_is_what_is_tested():
    model, batch = pplr().eval(), data()
    with torch.no_grad():
        features = model.cluster_features(batch)
        torch.testing.assert_close(features["original"], model(batch))
    assert list(features) == ["original", "part_0", "part_1", "part_2"]
    for values in features.values():
        torch.testing.assert_close(values.norm(dim=1), torch.ones(len(values)))


def test_reduced_stripes_are_refused():
    with pytest.raises(ValueError, match=r"PARTS.DIM 0.*got 2"):
        pplr(reduced_dim=2)


def gradient(part: slice) -> torch.Tensor:
    """The gradient of one process's soft triplets with respect to a weight that makes the embeddings."""
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(8, 5, generator=generator), torch.arange(8) % 3
    weight = torch.eye(5, requires_grad=True)
    queries = inputs[part] @ weight
    soft_triplet(queries, targets[part], gather_with_gradients(queries), targets).backward()
    return weight.grad


def one_of_two(rank: int) -> torch.Tensor:
    return gradient(slice(4 * rank, 4 * rank + 4))


def test_the_mean_gradient_of_two_processes_is_that_of_the_global_batch(tmp_path):
    first, second = on_two_ranks(one_of_two, tmp_path)
    torch.testing.assert_close((first + second) / 2, gradient(slice(None)))
