"""Other precisions, layouts and micro-batches: the same step, nearly."""

import copy
from pathlib import Path

import pytest
import torch
from fastreid.modeling import build_model
from fastreid.solver import build_optimizer
from support.runs import METHODS, UNSUPERVISED, arguments, by_name, same, weights
from torch import nn

from fastreid_fancl import load_config
from fastreid_fancl.batchnorm import virtual_groups
from fastreid_fancl.engine.run import command_line
from fastreid_fancl.engine.throughput import BackboneOptions, accelerate, backbones, fuse, lay_out, lay_out_state

KEYS = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.DEPTH", "18x", "MODEL.BACKBONE.FEAT_DIM", 512]
KEYS += ["MODEL.BACKBONE.PRETRAIN", False]
FROZEN = ["MODEL.BACKBONE.NORM", "FrozenBN"]
IMAGES = 8


def method(name: str, *keys) -> nn.Module:
    torch.manual_seed(0)
    return build_model(load_config(f"configs/RedPanda/{name}.yml", [*KEYS, *keys])).train()


def batch(seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    names = ("images", "images_teacher", "images_weak")
    views = {name: torch.rand(IMAGES, 3, 16, 32, generator=generator) * 255 for name in names}
    numbers = torch.arange(IMAGES)
    return {**views, "targets": numbers // 4, "indices": numbers, "camids": torch.zeros(IMAGES)}


def step(model: nn.Module) -> dict[str, torch.Tensor]:
    """Losses, gradients and everything that the model holds after one step's backward pass."""
    with torch.no_grad():
        features = model.eval().cluster_features(batch(1))
    model.train().start_epoch(features, batch()["targets"])
    losses = model(batch())
    sum(losses.values()).backward()
    gradients = {f"gradient of {name}": value.grad for name, value in model.named_parameters() if value.requires_grad}
    buffers = {f"buffer {name}": value for name, value in model.named_buffers()}
    return {**losses, **gradients, **buffers}


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Relative to the first one's length."""
    return ((one.float() - other.float()).norm() / one.float().norm().clamp(min=1e-6)).item()


@pytest.mark.parametrize("name", ["fancl", "cluster_contrast", "spcl", "ice", "pplr"])  # JCL draws a band for each part
def test_micro_batches_give_the_step_of_the_whole_batch(name):
    whole = step(method(name, *FROZEN))
    parts = step(accelerate(method(name, *FROZEN), BackboneOptions(channels_last=False, micro_batches=4)))
    assert whole.keys() == parts.keys()
    assert {key: distance(whole[key], parts[key]) for key in whole if distance(whole[key], parts[key]) > 1e-3} == {}


def test_micro_batches_of_one_group_each_are_batchnorm_groups():
    grouped = step(virtual_groups(method("fancl"), IMAGES // 2))
    options = BackboneOptions(micro_batches=2, channels_last=False)
    parts = step(accelerate(virtual_groups(method("fancl"), IMAGES // 2), options))
    trained = [key for key in grouped if "running" not in key and "num_batches" not in key]
    assert {key for key in trained if distance(grouped[key], parts[key]) > 1e-3} == set()


def test_running_statistics_move_once_for_each_part():
    model = accelerate(method("cluster_contrast"), BackboneOptions(micro_batches=4))
    step(model)
    assert model.backbone.bn1.num_batches_tracked == 4, "the backward pass encodes the parts again"
    assert model.heads.bottleneck[0].num_batches_tracked == 1


def test_channels_last_gives_the_same_step():
    plain, laid_out = step(method("fancl")), step(accelerate(method("fancl"), BackboneOptions(channels_last=True)))
    assert {key for key in plain if distance(plain[key], laid_out[key]) > 1e-3} == set()


def encoder_and_optimizer(channels_last: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Two convolutions with fast-reid's Adam, which has all weights in one vector."""
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 4, 2, bias=False)).double()
    for weight in model.parameters():
        weight.data = torch.linspace(-1, 1, weight.numel(), dtype=weight.dtype).view(weight.shape)
    optimizer, _ = build_optimizer(load_config("configs/RedPanda/fancl.yml", KEYS), model)
    lay_out(model, optimizer, channels_last)
    return model, optimizer


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    fuse(optimizer)
    images = torch.linspace(-1, 1, 2 * 2 * 5 * 5, dtype=torch.double).view(2, 2, 5, 5)
    for _ in range(steps):
        optimizer.zero_grad()
        model.backbone(images.contiguous(memory_format=torch.channels_last)).pow(2).sum().backward()
        optimizer.step()


def distances(one: nn.Module, other: nn.Module) -> list[float]:
    return [distance(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)]


def test_weights_with_channels_last_are_those_of_the_optimizer_and_train_alike():
    (plain, one), (laid_out, other) = (encoder_and_optimizer(order) for order in (False, True))
    weights = list(laid_out.backbone.parameters())
    assert not weights[0].is_contiguous() and weights[0].is_contiguous(memory_format=torch.channels_last)
    before = [weight.clone() for weight in weights]
    train(plain, one, 3)
    train(laid_out, other, 3)
    assert all(not torch.equal(a, b) for a, b in zip(before, weights, strict=True))
    assert max(distances(plain, laid_out)) < 1e-9


@pytest.mark.parametrize(("first", "marked"), [(False, True), (True, True), (False, False)])
def test_a_run_goes_on_in_the_other_order(first, marked):
    (model, optimizer), (other, resumed) = encoder_and_optimizer(first), encoder_and_optimizer(not first)
    train(model, optimizer, 2)
    checkpoint = copy.deepcopy([model.state_dict(), optimizer.state_dict()])
    if not marked:  # a checkpoint from before there was a choice has contiguous weights
        for group in checkpoint[1]["param_groups"]:
            del group["channels_last"]
    other.load_state_dict(checkpoint[0])
    resumed.load_state_dict(checkpoint[1])
    lay_out_state(other, resumed)
    assert other.backbone[0].weight.is_contiguous() == first
    train(model, optimizer, 2)
    train(other, resumed, 2)
    assert max(distances(model, other)) < 1e-9
    assert all(group["channels_last"] == (not first) for group in resumed.state_dict()["param_groups"])


def test_bfloat16_features_are_float32_and_near():
    plain = method("cluster_contrast").eval()
    model = accelerate(copy.deepcopy(plain), BackboneOptions("bfloat16"))
    with torch.no_grad():
        expected, found = (encoder.represent(batch()["images"]) for encoder in (plain, model))
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    assert (found * expected).sum(1).min() > 0.999


def test_a_copy_of_an_accelerated_model_runs_its_own_weights():
    model = accelerate(method("cluster_contrast").eval(), BackboneOptions())
    other = copy.deepcopy(model)
    with torch.no_grad():
        before = model.represent(batch()["images"])
        other.backbone.conv1.weight.zero_()
        assert torch.equal(model.represent(batch()["images"]), before)
        assert not torch.equal(other.represent(batch()["images"]), before)


def test_every_encoder_of_a_method_is_a_backbone():
    assert len(backbones(method("fancl"))) == 2
    assert len(backbones(method("ice"))) == 2
    assert len(backbones(method("spcl"))) == 1


@pytest.mark.parametrize("kind", ["Adam", "SGD"])
def test_a_fused_step_is_the_plain_one(kind):
    def trained(fused: bool) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 50))
        optimizer = getattr(torch.optim, kind)([{"params": [weight], "lr": 0.01, "weight_decay": 0.1}], lr=0.1)
        if fused:
            fuse(optimizer)
        for _ in range(5):
            optimizer.zero_grad()
            weight.pow(2).sum().backward()
            optimizer.step()
        return weight.detach()

    torch.testing.assert_close(trained(True), trained(False))


def test_a_fused_state_goes_on_fused_and_a_plain_one_plain():
    def optimizer(fused: bool) -> torch.optim.Optimizer:
        made = torch.optim.Adam([torch.nn.Parameter(torch.ones(3))])
        if fused:
            fuse(made)
        return made

    for first in (True, False):
        again = optimizer(not first)
        again.load_state_dict(optimizer(first).state_dict())
        assert bool(again.param_groups[0]["fused"]) == first


def test_a_run_in_bfloat16_and_micro_batches_learns_and_resumes_to_the_same_weights(datasets, tmp_path):
    keys = {"MODEL__PRECISION": "bfloat16", "SOLVER__MICRO_BATCHES": 2, "MODEL__BATCHNORM_GROUPS": 2}
    command_line(arguments("fancl", tmp_path / "whole", SOLVER__MAX_EPOCH=3, **keys))
    command_line(arguments("fancl", tmp_path / "parts", SOLVER__MAX_EPOCH=2, **keys))
    command_line(arguments("fancl", tmp_path / "parts", "--resume", SOLVER__MAX_EPOCH=3, **keys))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    losses = by_name(tmp_path / "whole")["total_loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", UNSUPERVISED)
def test_losses_of_a_float16_step_are_float32_and_near(name):
    plain = step(method(name))
    with torch.autocast("cpu", dtype=torch.float16):
        half = step(method(name))
    for key in (key for key in plain if key.startswith("loss_")):
        assert half[key].dtype == torch.float32
        assert half[key].item() == pytest.approx(plain[key].item(), rel=2e-3, abs=1e-3), key


@pytest.mark.cuda
@pytest.mark.parametrize("name", METHODS)
def test_a_float16_run_trains_evaluates_and_resumes_with_the_scale_of_its_loss(datasets, tmp_path, name):
    keys = {"MODEL__DEVICE": "cuda", "SOLVER__AMP__ENABLED": True, "SOLVER__ITERS_PER_EPOCH": 12}
    command_line(arguments(name, tmp_path, SOLVER__MAX_EPOCH=2, **keys))
    first, before = weights(tmp_path, "model_0000.pth"), scaler(tmp_path)
    command_line(arguments(name, tmp_path, "--resume", SOLVER__MAX_EPOCH=3, **keys))
    final, after = weights(tmp_path), scaler(tmp_path)
    assert all(value.isfinite().all() and value.dtype != torch.float16 for value in final.values())
    moved = [key for key in final if key.startswith("backbone.") and not torch.equal(first[key], final[key])]
    assert len(moved) > 20
    assert 0 < by_name(tmp_path)["mAP"][-1] <= 100
    # A scale that starts again is larger; if it falls to the same value, it has fewer steps behind it.
    assert after["scale"] < before["scale"] or after["_growth_tracker"] > before["_growth_tracker"]


def scaler(folder: Path) -> dict:
    """The state of the scale of the loss at the end of a run."""
    return torch.load(folder / "model_final.pth", weights_only=True)["grad_scaler"]
