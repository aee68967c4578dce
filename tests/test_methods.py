import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import oracles
from support.models import BANK, COMMON, DIM, Backbone, batch, cluster_contrast, head, start

from fastreid_fancl.fana import FANA
from fastreid_fancl.heads import ClusterContrastHead
from fastreid_fancl.methods import FANCL
from fastreid_fancl.methods.fancl import BRANCHES, consistency_loss


def fancl(seed=0, instance=True, cluster=True):
    torch.manual_seed(seed)
    return FANCL(
        backbone=Backbone(), heads=head(), noised_backbone=Backbone(), noised_heads=head(), fana=FANA("conv1", 0.2),
        feat_dim=DIM, instance=instance, cluster=cluster, **BANK, **COMMON,
    )  # fmt: skip


def test_fancl_losses_are_equation_10_on_banks_of_equation_8():
    model, data = fancl(), batch()
    features = start(model, data)
    targets = data["targets"].numpy()
    means = {
        name: np.stack([values.numpy()[targets == c].mean(0) for c in range(3)]) for name, values in features.items()
    }
    with torch.no_grad():
        queries = {name: values.numpy() for name, values in model.encode_branches(data["images"]).items()}
        losses = {name: value.item() for name, value in model(data).items()}

    for name in BRANCHES:
        expected = oracles.cluster_nce(queries[name], means[name], targets, 0.05)
        assert losses.pop(f"loss_cluster_{name}") == pytest.approx(expected, rel=1e-4)
    expected = oracles.consistency(queries["original"], queries["noised"], means["noised"], targets)
    assert losses.pop("loss_consistency") == pytest.approx(expected, rel=1e-4)
    assert not losses


def test_fancl_moves_each_bank_by_its_own_branch():
    model, data = fancl(), batch()
    start(model, data)
    before = {name: model.memory[name].centroids.numpy().copy() for name in BRANCHES}
    with torch.no_grad():
        queries = {name: values.numpy() for name, values in model.encode_branches(data["images"]).items()}
        model(data)
    for name in BRANCHES:
        expected = oracles.mean_update(before[name], queries[name], data["targets"].numpy(), 0.1)
        np.testing.assert_allclose(model.memory[name].centroids, expected, atol=1e-5)


def test_every_weight_of_fancl_gets_a_gradient():
    model, data = fancl(), batch()
    start(model, data)
    sum(model(data).values()).backward()
    untouched = [name for name, p in model.named_parameters() if p.requires_grad and not p.grad.abs().sum() > 0]
    assert not untouched


@pytest.mark.parametrize(("instance", "cluster"), [(False, False), (True, False), (False, True), (True, True)])
def test_the_terms_of_equation_7_add_up_and_can_be_left_out(instance, cluster):
    rng = np.random.default_rng(0)
    original, noised, centroids = rng.normal(size=(5, 4)), rng.normal(size=(5, 4)), rng.normal(size=(3, 4))
    targets = np.array([0, 2, 1, 1, 0])
    tensors = [torch.tensor(values) for values in (original, noised, centroids, targets)]
    # With every centroid equal to -f~ or f~ one term is known from the other: here both come from the loop instead.
    both = oracles.consistency(original, noised, centroids, targets)
    only_cluster = consistency_loss(*tensors, instance=False).item()
    expected = {(0, 0): 0, (1, 1): both, (0, 1): only_cluster, (1, 0): both - only_cluster}[instance, cluster]
    assert consistency_loss(*tensors, instance=instance, cluster=cluster).item() == pytest.approx(expected, abs=1e-6)


def test_consistency_is_minus_one_a_term_for_equal_features():
    features = torch.randn(4, 3)
    assert consistency_loss(features, features, features, torch.arange(4)).item() == pytest.approx(-2, abs=1e-6)


def test_without_equation_7_its_loss_is_not_reported():
    model, data = fancl(instance=False, cluster=False), batch()
    start(model, data)
    assert set(model(data)) == {f"loss_cluster_{name}" for name in BRANCHES}


def test_a_checkpoint_of_one_encoder_starts_both_and_they_part_again():
    source, model, data = cluster_contrast(seed=7), fancl(), batch()
    model.load_state_dict(source.state_dict(), strict=False)
    own, noised = model.backbone.conv1.weight, model.noised_backbone.conv1.weight
    assert torch.equal(own, source.backbone.conv1.weight)
    assert torch.equal(noised, own)

    start(model, data)
    sum(model(data).values()).backward()
    with torch.no_grad():
        for weight in (own, noised):
            weight -= weight.grad
    assert not torch.equal(noised, own)


def test_a_whole_checkpoint_keeps_two_encoders():
    source, model = fancl(seed=3), fancl(seed=4)
    model.load_state_dict(source.state_dict())
    assert torch.equal(model.noised_backbone.conv1.weight, source.noised_backbone.conv1.weight)
    assert not torch.equal(model.noised_backbone.conv1.weight, model.backbone.conv1.weight)


@pytest.mark.parametrize("build", [fancl, cluster_contrast])
def test_the_test_feature_is_the_original_branch_at_unit_length(build):
    model, data = build().eval(), batch()
    before = data["images"].clone()
    with torch.no_grad():
        features = model(data)
        mean, std = torch.tensor(COMMON["pixel_mean"]).view(3, 1, 1), torch.tensor(COMMON["pixel_std"]).view(3, 1, 1)
        expected = model.heads(model.backbone((before - mean) / std))
    assert torch.allclose(features, expected, atol=1e-5)
    assert torch.allclose(features.norm(dim=1), torch.ones(len(features)))
    assert torch.equal(data["images"], before), "the caller's images were changed"


def test_cluster_contrast_loss_and_update_equal_the_loops():
    model, data = cluster_contrast(), batch()
    start(model, data)
    before, targets = model.memory.centroids.numpy().copy(), data["targets"].numpy()
    with torch.no_grad():
        queries = model.encode(data["images"]).numpy()
        loss = model(data)["loss_cluster"].item()
    assert loss == pytest.approx(oracles.cluster_nce(queries, before, targets, 0.05), rel=1e-4)
    np.testing.assert_allclose(model.memory.centroids, oracles.mean_update(before, queries, targets, 0.1), atol=1e-5)


def test_fused_features_have_unit_length():
    model = fancl()
    fused = model.fuse(F.normalize(torch.randn(4, DIM)), F.normalize(torch.randn(4, DIM)))
    assert torch.allclose(fused.norm(dim=1), torch.ones(4))


def test_an_unknown_pooling_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="POOL_LAYER.*GlobalAvgPool.*'Average'"):
        ClusterContrastHead(feat_dim=4, pool_type="Average", norm_type="BN")
