import re

import pytest
import torch
import torchvision
from bag_of_tricks import stock_cfg
from fastreid.layers.batch_norm import FrozenBatchNorm
from fastreid.modeling import build_model
from fastreid.modeling.backbones import build_backbone
from fastreid.utils.checkpoint import Checkpointer
from torch import nn

from fastreid_fancl.backbones.densenet import DenseNet, model_urls
from fastreid_fancl.compat import check_config

DENSENET = {
    "MODEL__BACKBONE__NAME": "build_densenet_backbone",
    "MODEL__BACKBONE__DEPTH": "121x",
    "MODEL__BACKBONE__FEAT_DIM": 1024,
}


def densenet(**changes):
    return build_backbone(stock_cfg(**DENSENET | {f"MODEL__BACKBONE__{key}": v for key, v in changes.items()}))


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


def test_the_published_names_are_not_those_of_the_modules(reference):
    assert "features.denseblock1.denselayer1.norm.1.weight" in published(reference.state_dict())


def test_a_feature_map_of_the_loaded_weights_is_torchvisions_before_its_pooling(reference, weights):
    backbone = densenet(LAST_STRIDE=2, PRETRAIN=True, PRETRAIN_PATH=weights).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = reference.features(images).relu()
        assert expected.shape == (2, 1024, 2, 3)
        assert torch.allclose(backbone(images), expected, atol=1e-6)
    assert not any(key.startswith("classifier") for key in backbone.state_dict())


def test_every_loaded_weight_is_the_files(reference, weights):
    state = densenet(PRETRAIN=True, PRETRAIN_PATH=weights).state_dict()
    assert len(state) == len(reference.state_dict()) - 2, "all but the classifier's weight and bias"
    assert all(torch.equal(value, reference.state_dict()[name]) for name, value in state.items())


def test_published_weights_start_a_whole_model_too(reference, weights):
    model = build_model(stock_cfg(**DENSENET, MODEL__HEADS__NUM_CLASSES=3))
    Checkpointer(model).load(weights)
    state = model.backbone.state_dict()
    assert all(torch.equal(value, reference.state_dict()[name]) for name, value in state.items())


def test_stride_1_doubles_the_map_and_keeps_the_weights(reference):
    backbone = densenet(LAST_STRIDE=1).eval()
    assert backbone.state_dict().keys() == densenet(LAST_STRIDE=2).state_dict().keys()
    with torch.no_grad():
        assert backbone(torch.randn(1, 3, 64, 96)).shape == (1, 1024, 4, 6)


def test_another_stride_is_refused():
    with pytest.raises(ValueError, match="LAST_STRIDE 1 or 2 .* got 4"):
        densenet(LAST_STRIDE=4)


def test_frozen_norms_load_the_same_weights_and_stay_in_training(reference, tmp_path):
    torch.save(reference.state_dict(), tmp_path / "densenet121.pth")
    path = str(tmp_path / "densenet121.pth")
    backbone = densenet(LAST_STRIDE=2, NORM="FrozenBN", PRETRAIN=True, PRETRAIN_PATH=path).train()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
    assert sum(isinstance(module, FrozenBatchNorm) for module in backbone.modules()) == 121
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(backbone(images), reference.features(images).relu(), rtol=1e-4, atol=1e-4)


def test_the_first_weights_get_a_gradient():
    backbone = densenet()
    backbone(torch.randn(2, 3, 32, 64)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in (backbone.features.conv0.weight, backbone.features.norm5.weight))


@pytest.mark.parametrize(("depth", "channels"), [("121x", 1024), ("161x", 2208), ("169x", 1664), ("201x", 1920)])
def test_each_depth_is_torchvisions_and_has_a_known_feature_dimension(depth, channels):
    with torch.device("meta"):
        backbone = DenseNet(depth)
        expected = getattr(torchvision.models, f"densenet{depth[:-1]}")().state_dict()
    shapes = {name: value.shape for name, value in backbone.state_dict().items()}
    assert shapes == {name: value.shape for name, value in expected.items() if not name.startswith("classifier")}
    assert shapes["features.norm5.weight"] == (channels,)
    with pytest.raises(ValueError, match=f"FEAT_DIM 5: build_densenet_backbone {depth} has {channels}"):
        check_config(stock_cfg(**DENSENET | {"MODEL__BACKBONE__DEPTH": depth, "MODEL__BACKBONE__FEAT_DIM": 5}))
    assert f"densenet{depth[:-1]}-" in model_urls[depth]


@pytest.mark.parametrize(("name", "value"), [("DEPTH", "120x"), ("NORM", "batch")])
def test_an_unknown_depth_or_norm_is_named(name, value):
    with pytest.raises(ValueError, match=f"MODEL.BACKBONE.{name} '{value}' is unknown to build_densenet_backbone"):
        densenet(**{name: value})


def test_weights_of_another_network_are_refused(tmp_path):
    resnet, other = str(tmp_path / "resnet.pth"), str(tmp_path / "161.pth")
    torch.save(torchvision.models.resnet18().state_dict(), resnet)
    with pytest.raises(ValueError, match="No weight of .* fits the backbone"):
        densenet(PRETRAIN=True, PRETRAIN_PATH=resnet)
    torch.save({"features.conv0.weight": torch.zeros(96, 3, 7, 7)}, other)
    with pytest.raises(ValueError, match="another architecture: features.conv0.weight has the shape"):
        densenet(PRETRAIN=True, PRETRAIN_PATH=other)


def test_imagenet_weights_are_looked_up_by_torchvisions_file_name(reference, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(published(reference.state_dict()), tmp_path / "checkpoints" / model_urls["121x"].rpartition("/")[2])
    backbone = densenet(PRETRAIN=True)
    assert torch.equal(backbone.features.conv0.weight, reference.features.conv0.weight)
