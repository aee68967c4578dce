import os
import re

import numpy as np
import pytest
import torch
from support import oracles
from support.runs import arguments, by_name, configured, same, weights
from torch import nn

from fastreid_fancl.engine.run import command_line
from fastreid_fancl.engine.trainer import Trainer
from fastreid_fancl.heads import ClusterContrastHead, PartHead, stripes
from fastreid_fancl.methods.pcb import PCB, part_cross_entropy, refined_parts

PARTS, DIM, CLASSES = 3, 5, 4
PIXELS = {"pixel_mean": [120.0, 110.0, 100.0], "pixel_std": [60.0, 55.0, 50.0]}


def pcb(axis="width", refined=False, num_classes=CLASSES, seed=0):
    torch.manual_seed(seed)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
    heads = PartHead(8, PARTS, axis, DIM)
    model = PCB(backbone=backbone, heads=heads, num_classes=num_classes, refined=refined, **PIXELS)
    nn.init.normal_(model.classifier.weight)
    return model


def batch(size=8):
    generator = torch.Generator().manual_seed(1)
    return {"images": torch.rand(size, 3, 6, 12, generator=generator) * 255, "targets": torch.arange(size) % CLASSES}


@pytest.mark.parametrize("refined", [False, True])
def test_the_loss_is_the_sum_over_the_parts_of_their_cross_entropies(refined):
    model, data = pcb(refined=refined), batch()
    nn.init.normal_(model.classifier.bias)
    with torch.no_grad():
        features = model.encode_parts(data["images"]).numpy()
        losses = model(data)
    classifier = {name: values.detach().numpy() for name, values in model.classifier.named_parameters()}
    expected = oracles.part_cross_entropy(features, classifier["weight"], classifier["bias"], data["targets"].numpy())
    assert losses.pop("loss_cls").item() == pytest.approx(expected, rel=1e-5)
    assert not losses


def test_a_classifier_that_knows_nothing_costs_log_c_a_part():
    # Two parts, three identities at 1/3 each: 2 ln 3.
    assert part_cross_entropy(torch.zeros(4, 2, 3), torch.tensor([0, 1, 2, 0])).item() == pytest.approx(2 * np.log(3))


@pytest.mark.parametrize("axis", ["height", "width"])
def test_a_part_sees_only_its_stripe_of_the_image(axis):
    model, images = pcb(axis).eval(), batch()["images"]
    changed = images.clone()
    rows, columns = (slice(4, 6), slice(None)) if axis == "height" else (slice(None), slice(8, 12))
    changed[:, :, rows, columns] = 0
    with torch.no_grad():
        before, after = model.encode_parts(images), model.encode_parts(changed)
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.isclose(before[:, 2], after[:, 2]).all(dim=1).any()


@pytest.mark.parametrize("refined", [False, True])
def test_the_test_feature_joins_parts_of_equal_length_to_one_of_length_1(refined):
    model, data = pcb(refined=refined).eval(), batch()
    before = data["images"].clone()
    with torch.no_grad():
        features, parts = model(data), model.encode_parts(data["images"])
    assert torch.equal(data["images"], before), "the caller's images were changed"
    assert features.shape == (8, PARTS * DIM)
    expected = parts / parts.norm(dim=2, keepdim=True) / PARTS**0.5
    assert torch.allclose(features, expected.flatten(1), atol=1e-6)
    assert torch.allclose(features.norm(dim=1), torch.ones(8))


def test_no_classes_are_needed_for_evaluation():
    trained, data = pcb().eval(), batch()
    model = pcb(num_classes=0, seed=1).eval()
    encoder = {name: value for name, value in trained.state_dict().items() if not name.startswith("classifier.")}
    model.load_state_dict(encoder, strict=False)
    assert torch.equal(model(data), trained(data))


@pytest.mark.parametrize("refined", [False, True])
def test_every_weight_gets_a_gradient(refined):
    model = pcb(refined=refined)
    sum(model(batch()).values()).backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and not p.grad.abs().sum() > 0]


def test_another_head_is_refused():
    with pytest.raises(ValueError, match="HEADS.NAME PartHead for PCB, got ClusterContrastHead"):
        head = ClusterContrastHead(feat_dim=8, pool_type="GlobalAvgPool", norm_type="BN")
        PCB(backbone=nn.Identity(), heads=head, num_classes=2, refined=False, **PIXELS)


def test_refined_parts_are_the_columns_weighted_by_the_probability_of_the_part():
    # Two columns f = 1 and f = 3; the first is in part 1 with probability 3/4, the second with 1/4.
    # g_1 = (3/4 * 1 + 1/4 * 3) / 1 = 1.5, g_2 = (1/4 * 1 + 3/4 * 3) / 1 = 2.5
    feature_map = torch.tensor([1.0, 3]).view(1, 1, 1, 2)
    part_logits = torch.tensor([[3.0, 1], [1, 3]]).log().view(1, 2, 1, 2)
    assert torch.allclose(refined_parts(feature_map, part_logits), torch.tensor([[[1.5], [2.5]]]))


def test_refined_parts_equal_the_loop():
    generator = torch.Generator().manual_seed(0)
    feature_map, part_logits = (torch.randn(3, c, 4, 5, generator=generator, dtype=torch.double) for c in (6, PARTS))
    expected = oracles.refined_parts(feature_map.numpy(), part_logits.numpy())
    np.testing.assert_allclose(refined_parts(feature_map, part_logits), expected, atol=1e-12)


@pytest.mark.parametrize("axis", ["height", "width"])
def test_a_part_classifier_that_is_certain_of_the_stripes_pools_them(axis):
    feature_map = torch.randn(2, 4, 6, 6)
    part = torch.arange(6).div(2, rounding_mode="floor").expand(6, 6)
    part = part.T if axis == "height" else part
    certain = 100 * nn.functional.one_hot(part, PARTS).permute(2, 0, 1).float().expand(2, -1, -1, -1)
    expected = stripes(feature_map, PARTS, axis)
    assert torch.allclose(refined_parts(feature_map, certain), expected, atol=1e-6)


def test_a_part_that_no_column_is_in_is_defined():
    part_logits = torch.tensor([0.0, -1e4]).view(1, 2, 1, 1).expand(1, 2, 2, 2).clone().requires_grad_()
    pooled = refined_parts(torch.arange(4.0).view(1, 1, 2, 2), part_logits)
    assert pooled[0, 1].item() == pytest.approx(1.5), "the mean of all"
    pooled.sum().backward()
    assert part_logits.grad.isfinite().all()


PARTS_OF_TWO = {"PARTS__NUMBER": 2, "PARTS__DIM": 8}
SHORT = {
    **PARTS_OF_TWO,
    "SOLVER__MAX_EPOCH": 3,
    "TEST__EVAL_PERIOD": 1,
    "SOLVER__CHECKPOINT_PERIOD": 1,
}


@pytest.fixture
def first_phase(datasets, tmp_path):
    command_line(arguments("pcb", tmp_path / "pcb", **{**SHORT, "SOLVER__MAX_EPOCH": 1}))
    return tmp_path / "pcb"


def refine(first_phase, output, *flags, **changes):
    """pcb_rpp.yml: three epochs of four iterations, two of the epochs frozen."""
    start = os.fspath(first_phase / "model_final.pth")
    changes = {**SHORT, "MODEL__WEIGHTS": start, "SOLVER__FREEZE_ITERS": 8, "SOLVER__BASE_LR": 0.001, **changes}
    command_line(arguments("pcb_rpp", output, *flags, **changes))


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_frozen_layers_stay_bit_for_bit_until_all_are_trained(first_phase, tmp_path, optimizer):
    refine(first_phase, tmp_path / "rpp", SOLVER__OPT=optimizer)
    start = weights(first_phase)
    first, frozen, final = (weights(tmp_path / "rpp", f"model_{name}.pth") for name in ("0000", "0001", "final"))

    # Also the statistics of BatchNorm, although the model was evaluated in between.
    assert any(name.endswith("num_batches_tracked") for name in start)
    assert same(start, {name: value for name, value in frozen.items() if name != "part_classifier.weight"})
    assert not torch.equal(first["part_classifier.weight"], frozen["part_classifier.weight"])

    fixed = {name for name in start if torch.equal(start[name], final[name])}
    assert fixed == {"heads.bottleneck.bias"}, "which no phase trains"
    assert not torch.equal(frozen["part_classifier.weight"], final["part_classifier.weight"])


@pytest.mark.parametrize("stopped", [1, 2], ids=["while frozen", "at the end of the freeze"])
def test_a_resumed_phase_ends_where_one_never_stopped_ends(first_phase, tmp_path, stopped):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    refine(first_phase, whole)
    refine(first_phase, parts, SOLVER__MAX_EPOCH=stopped)
    refine(first_phase, parts, "--resume")
    assert same(weights(whole), weights(parts))


@pytest.mark.parametrize(
    ("iterations", "warning"),
    [
        (3, r"FREEZE_ITERS 3 is shorter than an epoch \(4 iterations\): .* For two epochs set 8"),
        (4, None),
        (11, None),
        (12, "FREEZE_ITERS 12 keeps backbone, heads, classifier fixed in all 12 iterations of the training"),
    ],
)
def test_a_freeze_that_does_not_fit_the_photographs_is_warned_of(datasets, tmp_path, caplog, iterations, warning):
    """Three epochs of four iterations."""
    trainer = Trainer(configured("pcb_rpp", tmp_path, MODEL__WEIGHTS="", **SHORT, SOLVER__FREEZE_ITERS=iterations))
    trainer.resume_or_load(False)
    found = [message for message in caplog.messages if "FREEZE_ITERS" in message]
    assert len(found) == bool(warning)
    assert all(re.search(warning, message) for message in found)


def test_both_phases_can_be_evaluated_again(first_phase, tmp_path):
    refine(first_phase, tmp_path / "rpp")
    for method, folder in (("pcb", first_phase), ("pcb_rpp", tmp_path / "rpp")):
        final = os.fspath(folder / "model_final.pth")
        command_line(
            arguments(method, tmp_path / f"{method}_again", "--eval-only", MODEL__WEIGHTS=final, **PARTS_OF_TWO)
        )
        assert f"{by_name(folder)['mAP'][-1]:.2f}" in (tmp_path / f"{method}_again/log.txt").read_text()


def test_a_misspelt_frozen_layer_is_refused_with_the_known_ones(first_phase, tmp_path):
    known = "backbone, heads, classifier, part_classifier, or parts of these"
    with pytest.raises(SystemExit, match=f"FREEZE_LAYERS .*{known}; got head"):
        refine(first_phase, tmp_path / "rpp", MODEL__FREEZE_LAYERS="('backbone', 'head')")
