"""The DenseNet-121 of the paper is timm's, from torchvision's weights."""

import re

import pytest
import torch
import torchvision
from fastreid.modeling import build_model
from fastreid.modeling.backbones import build_backbone
from fastreid.utils.checkpoint import Checkpointer
from torch import nn

from fastreid_fancl import load_config
from fastreid_fancl.engine.trainer import Trainer

NAMES = ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.BACKBONE.TIMM"]
SIZES = ["INPUT.SIZE_TRAIN", "[64,96]", "INPUT.SIZE_TEST", "[64,96]", "MODEL.DEVICE", "cpu"]


def configured(*options, model="densenet121.tv_in1k"):
    return load_config("", [*NAMES, model, *SIZES, "MODEL.PRECISION", "float32", *options])


def densenet(*options):
    return build_backbone(configured(*options))


def published(state: dict) -> dict:
    """A state dict under the names of torchvision's published files, norm.1 where its modules say norm1."""
    return {re.sub(r"(denselayer\d+\.(norm|conv))([12])", r"\1.\3", key): value for key, value in state.items()}


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    return torchvision.models.densenet121(num_classes=7).eval()


@pytest.fixture(params=[dict, published], ids=["names of today", "names of the published files"])
def weights(request, reference, tmp_path):
    path = tmp_path / "densenet121.pth"
    torch.save(request.param(reference.state_dict()), path)
    return str(path)


def start(path) -> list[str]:
    return ["MODEL.BACKBONE.PRETRAIN", "True", "MODEL.BACKBONE.PRETRAIN_PATH", path]


def test_the_published_names_are_not_those_of_the_modules(reference):
    assert "features.denseblock1.denselayer1.norm.1.weight" in published(reference.state_dict())


def test_a_feature_map_of_the_loaded_weights_is_torchvisions_before_its_pooling(reference, weights):
    backbone = densenet(*start(weights)).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = reference.features(images).relu()
        assert expected.shape == (2, 1024, 2, 3)
        assert torch.allclose(backbone(images), expected, atol=1e-6)
    assert not any(key.startswith("classifier") for key in backbone.state_dict())


def test_every_loaded_weight_is_the_files(reference, weights):
    state = densenet(*start(weights)).state_dict()
    assert len(state) == len(reference.state_dict()) - 2, "all but the classifier's weight and bias"
    assert all(torch.equal(value, reference.state_dict()[name]) for name, value in state.items())


def test_published_weights_start_a_whole_model_too(reference, weights):
    model = build_model(configured("MODEL.HEADS.NUM_CLASSES", "3"))
    Checkpointer(model).load(weights)
    state = model.backbone.state_dict()
    assert all(torch.equal(value, reference.state_dict()[name]) for name, value in state.items())


def test_frozen_norms_load_the_same_weights_and_stay_in_training(reference, tmp_path):
    torch.save(reference.state_dict(), tmp_path / "densenet121.pth")
    cfg = configured(*start(str(tmp_path / "densenet121.pth")), "MODEL.BACKBONE.BATCHNORM", "frozen")
    backbone = Trainer.build_model(cfg).train().backbone
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 121
    assert not any(weight.requires_grad for norm in norms for weight in norm.parameters())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(backbone(images), reference.features(images).relu(), rtol=1e-4, atol=1e-4)


def test_the_first_weights_get_a_gradient():
    backbone = densenet()
    backbone(torch.randn(2, 3, 32, 64)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in (backbone.features.conv0.weight, backbone.features.norm5.weight))


@pytest.mark.parametrize(("depth", "channels"), [(121, 1024), (161, 2208), (169, 1664), (201, 1920)])
def test_each_depth_is_torchvisions_and_has_a_known_feature_dimension(depth, channels):
    cfg = configured(model=f"densenet{depth}")
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in build_backbone(cfg).state_dict().items()}
        expected = getattr(torchvision.models, f"densenet{depth}")().state_dict()
    assert shapes == {name: value.shape for name, value in expected.items() if not name.startswith("classifier")}
    assert channels == cfg.MODEL.BACKBONE.FEAT_DIM


def test_weights_of_another_network_are_refused(tmp_path):
    resnet, other = str(tmp_path / "resnet.pth"), str(tmp_path / "161.pth")
    torch.save(torchvision.models.resnet18().state_dict(), resnet)
    with pytest.raises(ValueError, match="No weight of .* fits the backbone"):
        densenet(*start(resnet))
    torch.save({"features.conv0.weight": torch.zeros(96, 3, 7, 7)}, other)
    with pytest.raises(ValueError, match="another architecture: it lacks 119 layers"):
        densenet(*start(other))
