"""Virtual groups of a batch against real processes, one group in each."""

import copy

import pytest
import torch
from conftest import on_two_ranks
from fastreid.layers import get_norm
from support.runs import TINY, arguments, configured, weights
from timm.layers import BatchNormAct2d
from torch import nn

from fastreid_fancl.batchnorm import average_statistics, rows_checked, set_batchnorm_mode, virtual_groups
from fastreid_fancl.engine.run import command_line
from fastreid_fancl.engine.trainer import Trainer

PROCESSES, SHARE, CHANNELS, STEPS = 2, 3, 4, 3


def network() -> nn.Module:
    """BatchNorm of maps, trainable and with frozen bias, and of vectors."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, CHANNELS, 3), get_norm("BN", CHANNELS), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, get_norm("BN", CHANNELS, bias_freeze=True), nn.Flatten(), nn.BatchNorm1d(CHANNELS))


def images() -> torch.Tensor:
    """(steps, batch of all processes, 3, H, W), with another mean in each image."""
    generator = torch.Generator().manual_seed(1)
    shape = (STEPS, PROCESSES * SHARE, 3, 6, 5)
    return torch.randn(shape, generator=generator) + torch.randn(*shape[:3], 1, 1, generator=generator)


def train(model: nn.Module, part: slice) -> dict[str, torch.Tensor]:
    """Outputs and summed gradients of a few steps without an optimiser, and the state that they leave."""
    outputs = []
    for batch in images():
        outputs.append(model(batch[part]))
        outputs[-1].pow(3).sum().backward()
    gradients = {f"gradient of {name}": value.grad for name, value in model.named_parameters() if value.requires_grad}
    return {"outputs": torch.stack(outputs).detach(), **gradients, **model.state_dict()}


def one_process(rank: int) -> dict[str, torch.Tensor]:
    model = network()
    found = train(model, slice(rank * SHARE, (rank + 1) * SHARE))
    own = model[1].running_mean.clone()
    average_statistics(model)
    return {**found, **model.state_dict(), "own mean": own}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return on_two_ranks(one_process, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def grouped():
    return train(virtual_groups(network(), SHARE), slice(None))


def test_groups_of_one_process_put_out_what_the_processes_do(ranks, grouped):
    torch.testing.assert_close(grouped["outputs"], torch.cat([rank["outputs"] for rank in ranks], dim=1))


def test_their_gradients_are_the_sum_of_the_processes(ranks, grouped):
    names = [name for name in grouped if name.startswith("gradient")]
    assert len(names) == 7
    for name in names:
        torch.testing.assert_close(grouped[name], sum(rank[name] for rank in ranks))


def test_running_statistics_are_the_mean_of_the_processes(ranks, grouped):
    assert not torch.equal(ranks[0]["own mean"], ranks[1]["own mean"])
    for name in network().state_dict():
        assert torch.equal(ranks[0][name], ranks[1][name])
        torch.testing.assert_close(grouped[name], ranks[0][name])


def test_evaluation_and_a_batch_of_one_group_are_those_of_plain_layers():
    plain, model = network(), virtual_groups(network(), SHARE)
    batch = images()[0]
    assert torch.equal(model(batch[:SHARE]), plain(batch[:SHARE]))
    assert torch.equal(model.eval()(batch), plain.eval()(batch))
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_frozen_layers_stay_frozen():
    model = virtual_groups(nn.Sequential(get_norm("FrozenBN", 3)), 2)
    batch = images()[0]
    torch.testing.assert_close(model(batch), batch)


def test_a_run_with_groups_ends_where_that_of_as_many_processes_does(datasets, tmp_path):
    # One step per epoch, each after a clustering: BatchNorm over so few pixels multiplies rounding from step to step.
    keys = {"SOLVER__OPT": "SGD", "SOLVER__BASE_LR": 0.01, "SOLVER__ITERS_PER_EPOCH": 1}
    command_line(arguments("fancl", tmp_path / "groups", MODEL__BATCHNORM_GROUPS=2, **keys))
    command_line(arguments("fancl", tmp_path / "plain", **keys))
    command_line(arguments("fancl", tmp_path / "processes", "--num-gpus", "2", **keys))
    groups, plain, processes = (
        torch.cat([value.flatten().float() for value in weights(tmp_path / run).values()])
        for run in ("groups", "plain", "processes")
    )
    assert (groups - processes).norm() < 0.01 * (groups - plain).norm()
    statistic = "backbone.layer4.1.bn2.running_var"
    torch.testing.assert_close(weights(tmp_path / "groups")[statistic], weights(tmp_path / "processes")[statistic])


def test_groups_that_do_not_divide_the_batch_are_refused(datasets, tmp_path):
    with pytest.raises(SystemExit, match="MODEL.BATCHNORM_GROUPS 3 to divide the 8 images"):
        command_line(arguments("fancl", tmp_path, MODEL__BATCHNORM_GROUPS=3))


class OfTokens(nn.Module):
    """BatchNorm of the tokens of all images, as LeViT has it."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, images):
        tokens = images.flatten(2).transpose(1, 2)
        return self.norm(tokens.flatten(0, 1)).reshape_as(tokens)


def test_groups_of_tokens_are_refused_as_they_are_no_groups_of_images():
    tokens, maps, batch = OfTokens(), network(), images()[0][:2]
    refused = pytest.raises(ValueError, match="BATCHNORM_GROUPS groups rows, but norm of .* gets 60 for 2 images: set")
    with refused, rows_checked(tokens, 2):
        tokens(batch)
    with rows_checked(maps, 2):
        maps(batch)
    tokens(batch)  # which is not checked any more


def test_a_run_with_groups_refuses_a_backbone_with_batchnorm_of_tokens(datasets, tmp_path):
    keys = {"MODEL__BACKBONE__TIMM": "levit_128s", "INPUT__SIZE_TRAIN": "[224,224]", "INPUT__SIZE_TEST": "[224,224]"}
    with pytest.raises(SystemExit, match="gets 392 for 2 images: set MODEL.BATCHNORM_GROUPS 1"):
        command_line(arguments("cluster_contrast", tmp_path, MODEL__BATCHNORM_GROUPS=2, **{**TINY, **keys}))
    assert not (tmp_path / "config.yaml").exists()


@pytest.mark.parametrize("mode", ["eval", "frozen"])
def test_held_statistics_stay_while_the_backbone_trains(mode):
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    set_batchnorm_mode(backbone, mode)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    copied = copy.deepcopy(backbone)  # as a teacher does
    optimizer = torch.optim.SGD([weight for weight in backbone.parameters() if weight.requires_grad], lr=0.1)
    for module in (backbone, copied):
        module.train()(torch.randn(8, 3, 5, 5)).square().mean().backward()
        assert torch.equal(module[1].running_mean, before["1.running_mean"])
        assert module.training
        assert not module[1].training
    optimizer.step()
    assert not torch.equal(backbone[0].weight, before["0.weight"])
    assert torch.equal(backbone[1].weight, before["1.weight"]) == (mode == "frozen")


@pytest.mark.parametrize("mode", ["eval", "frozen"])
def test_a_non_local_block_beside_held_statistics_leaves_its_start(mode):
    """Its last scale starts at 0, so a block whose scale never trains puts out 0 for ever."""
    keys = {"MODEL__BACKBONE__BATCHNORM": mode, "MODEL__BACKBONE__WITH_NL": True, "MODEL__BACKBONE__DEPTH": "50x"}
    model = Trainer.build_model(configured("cluster_contrast", **keys, MODEL__BACKBONE__FEAT_DIM=2048)).train()
    norm = model.backbone.NL_2[0].W[1]
    assert not norm.weight.any() and norm.weight.requires_grad and norm.training
    model.backbone(torch.randn(4, 3, 64, 32)).square().mean().backward()
    assert norm.weight.grad.any() and norm.running_mean.any()
    held = model.backbone.bn1
    assert not held.training and held.weight.requires_grad == (mode == "eval")


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("method", ["fancl", "ice"])
def test_the_statistics_of_every_encoder_are_held(datasets, tmp_path, method, processes):
    """FANCL's noised encoder and ICE's teacher, too: all keep the 0 and 1 of a random start, and learn their scale."""
    keys = {"MODEL__BACKBONE__BATCHNORM": "eval", "MODEL__BACKBONE__NORM": "BN", "SOLVER__ITERS_PER_EPOCH": 1}
    command_line(arguments(method, tmp_path, "--num-gpus", str(processes), **keys))
    found = {name: value for name, value in weights(tmp_path).items() if "backbone" in name}
    assert sum(name.endswith("backbone.bn1.running_mean") for name in found) == 2, "two encoders"
    for name, value in found.items():
        if "running" in name:
            assert (value == float(name.endswith("var"))).all(), name
    assert not any((value == 1).all() for name, value in found.items() if name.endswith("backbone.bn1.weight"))


def test_held_statistics_do_not_depend_on_the_batch():
    """In evaluation mode an image's output is its own, whatever is beside it in the batch and however it is grouped."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    set_batchnorm_mode(backbone, "eval")
    virtual_groups(backbone, 2)
    images = torch.randn(6, 3, 5, 5)
    assert torch.allclose(backbone.train()(images)[:1], backbone(images[:1]))


def test_groups_activate_as_the_layers_of_timm_do():
    """One group is the whole batch: the same output and statistics as without groups."""
    torch.manual_seed(0)
    plain = BatchNormAct2d(4)
    grouped = copy.deepcopy(plain)
    virtual_groups(grouped, 3)
    images = torch.randn(6, 4, 5, 5)
    expected = torch.cat([copy.deepcopy(plain).train()(part) for part in images.split(3)])
    assert torch.allclose(grouped.train()(images), expected)
    assert expected.min() == 0  # ReLU
