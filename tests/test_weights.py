"""Starting weights: formats, containers, prefixes, what starts fresh, what is refused."""

import argparse
import gzip
import os
import pickle
import shlex
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from bag_of_tricks import stock_cfg
from fastreid.modeling import build_backbone, build_model
from fastreid.utils.checkpoint import Checkpointer
from safetensors.torch import save_file
from torch import nn

from fastreid_fancl import load_config, weights

RESNET = torchvision.models.resnet18().state_dict()
SMALL = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.zeros(2)}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def prefixed(prefix: str, state: dict = RESNET) -> dict:
    return {prefix + key: value for key, value in state.items()}


def backbone(**changes):
    return build_backbone(stock_cfg(**{f"MODEL__BACKBONE__{key}": value for key, value in changes.items()}))


def starts(found: nn.Module, content: dict = RESNET) -> bool:
    """Whether a backbone has all of torchvision's weights but the classifier's."""
    state = found.state_dict()
    return all(torch.equal(state[key], value) for key, value in content.items() if not key.startswith("fc."))


class Module(nn.Module):
    """A module that a pickle can name."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Linear(3, 2)


class Setting:
    """Anything that is not a tensor."""


# --- formats


@pytest.mark.parametrize("zipped", [True, False], ids=["today's", "legacy"])
def test_files_of_torch_save_old_and_new_are_read(tmp_path, zipped):
    torch.save(SMALL, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert same(weights.read(tmp_path / "w.pth"), SMALL)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"], ids=str)
def test_safetensors_are_read_whatever_their_name(tmp_path, name):
    save_file(SMALL, tmp_path / name)
    assert same(weights.read(tmp_path / name), SMALL)


def test_without_the_package_of_safetensors_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    save_file(SMALL, tmp_path / "w.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ValueError, match="w.safetensors is a safetensors file, .*: pip install safetensors"):
        weights.read(tmp_path / "w.safetensors")


@pytest.mark.parametrize("zipped", [True, False], ids=["today's", "legacy"])
def test_numbers_of_numpy_and_arguments_beside_the_weights_are_read(tmp_path, zipped):
    """As in checkpoints of cluster-contrast-reid (best_mAP), of stock fast-reid (metric) and of timm (args)."""
    content = {
        "state_dict": SMALL,
        "best_mAP": np.float64(0.25),
        "epoch": np.int64(7),
        "flag": np.bool_(True),
        "args": argparse.Namespace(lr=np.float32(0.5)),
    }
    torch.save(content, tmp_path / "w.pth.tar", _use_new_zipfile_serialization=zipped)
    found = weights.as_checkpoint(weights.read_file(tmp_path / "w.pth.tar"), "w")
    assert same(found.pop("model"), SMALL)
    assert (found["best_mAP"], found["epoch"], found["flag"], found["args"].lr) == (0.25, 7, True, 0.5)


def test_what_was_safe_to_load_for_others_is_as_before(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    torch.save(SMALL, tmp_path / "w.pth")
    weights.read(tmp_path / "w.pth")
    assert set(torch.serialization.get_safe_globals()) == before


def pickled_module() -> object:
    return Module()


def module_in_a_dict() -> object:
    return {"model": Module(), "epoch": 3, "setting": Setting()}


def tensors_beside_objects() -> object:
    return {"state_dict": Module().state_dict(), "setting": Setting(), "metric": np.ones(2)}


@pytest.mark.parametrize("make", [pickled_module, module_in_a_dict, tensors_beside_objects])
def test_the_printed_line_converts_what_only_code_could_restore(tmp_path, make):
    content, name = make(), "an animal's weights.pth"
    torch.save(content, tmp_path / name)
    convert(tmp_path / name)
    module = content if isinstance(content, Module) else content.get("model")
    expected = module.state_dict() if module is not None else content["state_dict"]
    assert same(weights.read((tmp_path / name).with_suffix(".weights.pth")), expected)


def test_the_printed_line_converts_a_plain_pickle_of_arrays(tmp_path):
    content = {"model": {key: value.numpy() for key, value in SMALL.items()}}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content))
    convert(tmp_path / "w.pkl", by_shell=True)
    assert same(weights.read(tmp_path / "w.weights.pth"), SMALL)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_printed_line_converts_torchscript(tmp_path):
    module = Module()
    torch.jit.save(torch.jit.trace(module.conv, torch.zeros(1, 3)), tmp_path / "w.pt")
    convert(tmp_path / "w.pt", "TorchScript archive")
    assert same(weights.read(tmp_path / "w.weights.pth"), module.conv.state_dict())


def convert(path: Path, what: str = "", by_shell: bool = False) -> None:
    """Run the line that the refusal of a file ends with, as a user does; without a shell in this process, at once."""
    with pytest.raises(ValueError, match=f"{what}.*Loading it could run code. If you trust its origin") as raised:
        weights.read(path)
    line = str(raised.value).splitlines()[-1]
    assert line.startswith("python -c ")
    if not by_shell:
        _, _, code, *arguments = shlex.split(line)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["-c", *arguments])
            exec(code, {"__name__": "__main__"})
        return
    places = {
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run(line, shell=True, check=True, env={**os.environ, **places}, timeout=120)


OTHERS = {
    "empty.pth": (b"", "is empty"),
    "lfs.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer.*git lfs pull"),
    "lfs.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    "page.pth": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
    "error.pth": (b'{"error": "not found"}', "is JSON text: .* its text says what went wrong"),
    "model.index.json": (b'{"weight_map": {"a": "m-1-of-2.safetensors"}}', "index of the weights in m-1-of-2.safetens"),
    "net.onnx": (b"\x08\x08\x12\x07pytorch\x1a\x05", "is an ONNX model.*from which it was exported"),
    "onnx.pth": (b"\x08\x08\x12\x07pytorch\x1a\x05", "is an ONNX model"),
    "keras.h5": (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
    "w.pth.gz": (gzip.compress(b"weights"), "is a gzip archive: unpack it"),
    "text.pth": (b"a text", "no PyTorch checkpoint: it begins with b'a text'"),
    "cut.safetensors": ((200).to_bytes(8, "little") + b'{"a":', "truncated or damaged safetensors file"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_format_is_called_what_it_is(tmp_path, name):
    content, said = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"(?s){name} .*{said}") as raised:
        weights.read(tmp_path / name)
    assert "emove" not in str(raised.value)


def test_a_zip_archive_of_weights_is_to_be_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.writestr("net/resnet.pth", b"1")
    with pytest.raises(ValueError, match=r"is a ZIP archive without .* \(net/resnet.pth\): unpack it"):
        weights.read(tmp_path / "w.zip")


def test_a_folder_names_the_weights_in_it(tmp_path):
    torch.save(SMALL, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"is a folder: name the file of weights in it \(pytorch_model.bin\)"):
        weights.read(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "w.pth")
    with pytest.raises(ValueError, match="is a pipe or a device"):
        weights.read(tmp_path / "w.pth")


@pytest.mark.parametrize("keep", [5, 100, 300, 0.5, 0.9])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_a_truncated_file_is_called_so(tmp_path, form, keep):
    path = tmp_path / "w.pth"
    if form == "safetensors":
        save_file(prefixed("", {"a": torch.zeros(500)}), path)
    else:
        torch.save({"a": torch.zeros(500)}, path, _use_new_zipfile_serialization=form == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match="w.pth is (a )?truncated"):
        weights.read(path)


# --- containers


@pytest.mark.parametrize("keys", ["model", "state_dict", "model_state", "state_dict_ema", "teacher", "net", "a.b.c"])
def test_weights_are_found_under_any_key(tmp_path, keys):
    content = SMALL
    for key in reversed(keys.split(".")):
        content = {key: content, "epoch": 3, "temperature": torch.tensor(1.0)}
    torch.save(content, tmp_path / "w.pth")
    assert same(weights.read(tmp_path / "w.pth"), SMALL)


@pytest.mark.parametrize(
    ("trained", "mean"),
    [("state_dict", "state_dict_ema"), ("student", "teacher"), ("model", "model_ema"), ("encoder_q", "encoder_k")],
)
def test_of_several_encoders_the_trained_one_is_used_and_it_is_said(caplog, trained, mean):
    other = {**{key: value + 1 for key, value in SMALL.items()}, "n_averaged": torch.tensor(1)}
    for content in ({trained: SMALL, mean: other}, {mean: other, trained: SMALL}):
        caplog.clear()
        with caplog.at_level("INFO"):
            assert same(weights.as_checkpoint(content, "w.pth")["model"], SMALL)
        assert f"under '{trained}' are used, not those under '{mean}'" in caplog.text


def test_a_few_weights_under_model_are_not_preferred_to_a_network(caplog):
    content = {"model": {"logit_scale": torch.ones(1)}, "backbone": RESNET}
    assert same(weights.as_checkpoint(content, "w.pth")["model"], RESNET)
    assert same(weights.as_checkpoint({"model": SMALL, "other": SMALL}, "w.pth")["model"], SMALL)


def test_the_state_of_an_optimiser_is_not_taken_for_weights():
    moments = {"state": {0: {"exp_avg": torch.zeros(9)}}, "param_groups": [{"lr": 1.0}]}
    assert same(weights.as_checkpoint({"optimizer": moments, "network": SMALL}, "w")["model"], SMALL)


# --- prefixes


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "backbone.", "module.backbone.", "module.encoder_q.", "model.backbone.", "teacher.", "base.net.x."],
)
def test_a_network_is_found_under_any_prefix(prefix):
    found = backbone()
    content = {**prefixed(prefix), "queue": torch.zeros(8, 9), "heads.weight": torch.zeros(3, 4)}
    weights.load_backbone(found, content, "w.pth")
    assert starts(found)


def test_what_is_not_used_is_named(caplog):
    with caplog.at_level("INFO"):
        weights.load_backbone(backbone(), {**prefixed("module."), "queue": torch.zeros(8, 9)}, "w.pth")
    assert "not used of it: fc.bias, fc.weight, queue" in caplog.text


@pytest.mark.parametrize(("trained", "mean"), [("encoder_q", "encoder_k"), ("student", "teacher"), ("net", "ema_net")])
def test_of_two_encoders_in_one_state_dict_the_trained_one_starts_the_backbone(trained, mean, caplog):
    other = {key: value + 1 for key, value in RESNET.items()}
    parts = [prefixed(f"module.{trained}."), prefixed(f"module.{mean}.", other)]
    for one, two in (parts, reversed(parts)):
        found = backbone()
        with caplog.at_level("INFO"):
            weights.load_backbone(found, {**one, **two}, "w.pth")
        assert starts(found)
    assert f"(module.{mean}. would fit as well" in caplog.text


def test_a_backbone_within_a_backbone_is_found():
    found = nn.Sequential(OrderedDict(wrapped=backbone()))
    weights.load_backbone(found, prefixed("module."), "w.pth")
    assert starts(found.wrapped)


def test_the_numbered_stages_of_cluster_contrast_reid_are_a_resnet():
    """Its ResNet is nn.Sequential(conv1, bn1, maxpool, layer1, ..., layer4) called base."""
    numbers = {"conv1": 0, "bn1": 1, "layer1": 3, "layer2": 4, "layer3": 5, "layer4": 6}
    state = {}
    for key, value in RESNET.items():
        stage, _, rest = key.partition(".")
        state["module." + (f"base.{numbers[stage]}.{rest}" if stage in numbers else key)] = value
    found = backbone()
    weights.load_backbone(found, {**state, "module.feat_bn.weight": torch.zeros(512)}, "w.pth")
    assert starts(found)


@pytest.mark.parametrize("method", ["FANCL", "ICE"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.backbone."])
def test_a_bare_network_starts_the_backbones_of_a_whole_method(tmp_path, caplog, method, prefix):
    torch.save(prefixed(prefix), tmp_path / "resnet18.pth")
    options = ["MODEL.META_ARCHITECTURE", method, "MODEL.BACKBONE.DEPTH", "18x", "MODEL.BACKBONE.FEAT_DIM", "512"]
    options += ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False", "MODEL.HEADS.NAME", "ClusterContrastHead"]
    model = build_model(load_config("", options))
    with caplog.at_level("INFO"):
        Checkpointer(model).load(os.fspath(tmp_path / "resnet18.pth"))
    assert starts(model.backbone)
    assert method != "ICE" or starts(model.teacher.backbone)
    assert "heads.bottleneck" in caplog.text, "what stays fresh is named"
    assert "fc" in caplog.text, "what is not used too"


# --- what a backbone adds on purpose


def test_what_a_backbone_adds_starts_fresh_and_is_named(caplog):
    found = backbone()
    found.layer4.append(nn.Conv2d(512, 512, 1))
    found.fresh_parts = ("layer4.2",)
    with caplog.at_level("INFO"):
        weights.load_backbone(found, RESNET, "w.pth")
    assert starts(found)
    assert "start fresh, as the backbone asks: layer4.2." in caplog.text


def test_without_fresh_parts_the_message_says_how_to_name_them():
    found = backbone()
    found.layer4.append(nn.Conv2d(512, 512, 1))
    with pytest.raises(ValueError, match="lacks 1 layers .* layer4.2.weight, .*attribute `fresh_parts`"):
        weights.load_backbone(found, RESNET, "w.pth")


def test_fresh_parts_that_the_file_has_in_part_are_needed_whole():
    found = backbone()
    found.layer4.append(nn.Sequential(nn.Conv2d(512, 8, 1), nn.Conv2d(8, 512, 1)))
    found.fresh_parts = ("layer4.2",)
    state = found.state_dict()
    del state["layer4.2.1.weight"]
    with pytest.raises(ValueError, match="lacks 1 layers .* layer4.2.1.weight"):
        weights.load_backbone(found, state, "w.pth")


JCL = {"NAME": "build_waveblock_resnet_backbone"}


def test_a_resnet_starts_jcls_and_its_own_weights_load_whole(tmp_path, caplog):
    torch.save(RESNET, tmp_path / "resnet18.pth")
    with caplog.at_level("INFO"):
        found = backbone(**JCL, PRETRAIN=True, PRETRAIN_PATH=str(tmp_path / "resnet18.pth"))
    assert starts(found)
    assert "start fresh, as the backbone asks: layer2.2., layer3.2." in caplog.text
    torch.save(prefixed("backbone.", found.state_dict()), tmp_path / "jcl.pth")
    again = backbone(**JCL, PRETRAIN=True, PRETRAIN_PATH=str(tmp_path / "jcl.pth"))
    assert same(again.state_dict(), found.state_dict())


def test_the_non_local_blocks_of_fast_reid_start_fresh(tmp_path, caplog):
    content = torchvision.models.resnet50().state_dict()
    torch.save(content, tmp_path / "resnet50.pth")
    options = {"DEPTH": "50x", "FEAT_DIM": 2048, "WITH_NL": True}
    with caplog.at_level("INFO"):
        found = backbone(**options, PRETRAIN=True, PRETRAIN_PATH=str(tmp_path / "resnet50.pth"))
    assert starts(found, content)
    assert "start fresh, as the backbone asks: NL_2., NL_3." in caplog.text


# --- what is refused


@pytest.mark.parametrize(("depth", "name"), [("34x", "ResNet-34"), ("50x", "ResNet-50")])
def test_weights_of_another_depth_are_called_by_their_network(depth, name):
    other = backbone(DEPTH=depth)
    with pytest.raises(ValueError, match=f"another architecture.* The file has a ResNet-18, the model a {name}"):
        weights.load_backbone(other, prefixed("module.encoder_q."), "w.pth")
    with pytest.raises(ValueError, match=f"another architecture.* The file has a {name}, the model a ResNet-18"):
        weights.load_backbone(backbone(), prefixed("module.encoder_q.", other.state_dict()), "w.pth")


def test_a_whole_model_refuses_weights_of_another_depth_too(tmp_path):
    torch.save(prefixed("module."), tmp_path / "w.pth")
    model = build_model(stock_cfg(MODEL__BACKBONE__DEPTH="34x", MODEL__HEADS__NUM_CLASSES=3))
    with pytest.raises(ValueError, match="another backbone: .* The file has a ResNet-18, the model a ResNet-34"):
        Checkpointer(model).load(str(tmp_path / "w.pth"))


def test_a_whole_model_refuses_a_deeper_network(tmp_path):
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "w.pth")
    model = build_model(stock_cfg(MODEL__HEADS__NUM_CLASSES=3))
    with pytest.raises(ValueError, match="another backbone.* The file has a ResNet-34, the model a ResNet-18"):
        Checkpointer(model).load(str(tmp_path / "w.pth"))


def test_weights_that_fit_in_part_are_refused():
    content = {key: value for key, value in RESNET.items() if not key.startswith("layer4.1.")}
    with pytest.raises(ValueError, match="lacks 2 layers of the backbone"):
        weights.load_backbone(backbone(), content, "w.pth")


@pytest.mark.parametrize("name", ["layer1.0.se.fc1.weight", "layer3.2.conv1.weight", "layer3.2.0.bias"])
def test_other_blocks_than_the_backbones_are_refused(name, tmp_path):
    content = {**RESNET, name: torch.zeros(4, 4)}
    with pytest.raises(ValueError, match=f"the backbone lacks 1 weights of the file's network.* {name}"):
        weights.load_backbone(backbone(), prefixed("module.", content), "w.pth")
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(
        ValueError, match=f"another backbone: the model lacks 1 weights of the file's network.*backbone.{name}"
    ):
        Checkpointer(build_model(stock_cfg(MODEL__HEADS__NUM_CLASSES=3))).load(str(tmp_path / "w.pth"))


@pytest.mark.parametrize(("name", "refused"), [("s1.b2.conv.conv.weight", True), ("head.fc2.weight", False)])
def test_named_blocks_are_no_layers(name, refused):
    """Blocks of RegNet and DenseNet have names with numbers; layers of a head do, too."""
    block = nn.ModuleDict({"conv": nn.ModuleDict({"conv": nn.Conv2d(3, 3, 1)})})
    found = nn.ModuleDict({"s1": nn.ModuleDict({"b1": block}), "head": nn.ModuleDict({"fc1": nn.Linear(3, 3)})})
    surplus = weights.surplus_layers({**found.state_dict(), name: torch.zeros(3, 3)}, found.state_dict())
    assert surplus == [name] * refused


@pytest.mark.parametrize(
    "name",
    [
        "head.0.weight",
        "encoder2.layer1.0.conv1.weight",
        "bn2.weight",
        "layer1.0.attn_mask",
        "layer2.2.attention.spatial.weight",
    ],
)
def test_heads_second_encoders_and_tables_may_be_surplus(name):
    found = backbone()
    weights.load_backbone(found, {**RESNET, name: torch.zeros(4, 4)}, "w.pth")
    assert starts(found)


def test_a_file_without_statistics_of_batchnorm_is_refused():
    """As model.named_parameters() gives one."""
    content = {key: value for key, value in RESNET.items() if "running_" not in key}
    with pytest.raises(ValueError, match="lacks 20 layers of the backbone, such as bn1.running_mean"):
        weights.load_backbone(backbone(), content, "w.pth")
    weights.load_backbone(backbone(), {k: v for k, v in RESNET.items() if "num_batches" not in k}, "w.pth")


def test_a_file_may_lack_an_instance_normalisation_and_a_norm_that_follows_the_pooling(caplog):
    found = backbone()
    found.layer1[0].IN, found.norm = nn.InstanceNorm2d(64, affine=True), nn.LayerNorm(512)
    with pytest.raises(ValueError, match="lacks 1 layers of the backbone, such as norm.weight"):
        weights.load_backbone(found, RESNET, "w.pth")
    weights.load_backbone(found, {**RESNET, "fc_norm.weight": torch.ones(512)}, "w.pth")
    assert "4 weights keep their random start" in caplog.text


def test_networks_of_other_kinds_are_refused_with_their_names():
    with pytest.raises(ValueError, match="No weight .*The file has a DenseNet-121, the model a ResNet-18"):
        weights.load_backbone(backbone(), torchvision.models.densenet121().state_dict(), "w.pth")


def test_register_tokens_that_a_backbone_lacks_or_has_alone_are_named():
    plain, registers = transformer((32, 32)), transformer((32, 32), reg_tokens=4)
    with pytest.raises(ValueError, match="the backbone lacks 1 weights of the file's network, such as reg_token"):
        weights.load_backbone(plain, registers.state_dict(), "w.pth", filter_of_timm)
    with pytest.raises(ValueError, match="it lacks 1 layers of the backbone, such as reg_token"):
        weights.load_backbone(registers, plain.state_dict(), "w.pth", filter_of_timm)


def test_one_weight_of_a_head_is_not_renamed_as_a_layer():
    with pytest.raises(ValueError, match=r"No weight of w.pth fits the backbone: the file has \['head.weight'\]"):
        weights.load_backbone(backbone(), {"head.weight": torch.zeros(10, 512)}, "w.pth")


def test_lacking_layers_are_named_before_shapes():
    found = backbone()
    found.layer4.append(nn.Conv2d(512, 512, 1))
    with pytest.raises(ValueError, match="lacks 1 layers of the backbone, such as layer4.2.weight"):
        weights.load_backbone(found, {**RESNET, "conv1.weight": torch.zeros(64, 1, 7, 7)}, "w.pth")


@pytest.mark.parametrize("name", ["swin_t", "convnext_tiny", "vit_b_16", "efficientnet_b0"])
def test_names_of_torchvision_that_nothing_converts_are_called_so(name):
    with torch.device("meta"):
        content = getattr(torchvision.models, name)().state_dict()
    with pytest.raises(ValueError, match="w.pth has the names of torchvision, such as .* give timm's weights"):
        weights.load_backbone(backbone(), prefixed("module.", content), "w.pth")


@pytest.mark.parametrize(("value", "said"), [(torch.nan, "finite"), (torch.inf, "finite"), (1, "floating-point")])
def test_weights_that_no_network_can_compute_with_are_refused(value, said, tmp_path):
    filters = torch.full_like(RESNET["layer1.0.conv1.weight"], value)
    content = {**RESNET, "layer1.0.conv1.weight": filters.to(torch.int8) if value == 1 else filters}
    message = f"Expected {said} weights, got .* in {{}}layer1.0.conv1.weight of .*w.pth"
    with pytest.raises(ValueError, match=message.format("")):
        weights.load_backbone(backbone(), prefixed("module.", content), "w.pth")
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message.format("backbone.")):
        Checkpointer(build_model(stock_cfg(MODEL__HEADS__NUM_CLASSES=3))).load(str(tmp_path / "w.pth"))


def test_what_is_not_used_may_hold_any_values():
    found = backbone()
    weights.load_backbone(found, {**RESNET, "fc.weight": torch.full((9, 512), torch.nan)}, "w.pth")
    assert starts(found)


# --- a filter of keys


def test_a_filter_renames_what_does_not_fit_below_its_prefix():
    old = {key.replace("layer", "stage"): value for key, value in RESNET.items()}

    def key_filter(state, model):
        assert "conv1.weight" in state, "the prefix is off"
        return {key.replace("stage", "layer"): value for key, value in state.items()}

    found = backbone()
    weights.load_backbone(found, {**prefixed("module.student.", old), "queue": torch.zeros(4, 4)}, "w.pth", key_filter)
    assert starts(found)


def test_a_filter_is_not_asked_where_all_fits():
    found = backbone()
    weights.load_backbone(found, prefixed("module."), "w.pth", key_filter=lambda *_: 1 / 0)
    assert starts(found)


def test_a_filter_that_does_not_know_the_keys_leaves_the_message_of_the_file():
    with pytest.raises(ValueError, match="lacks 2 layers of the backbone"):
        content = {key: value for key, value in RESNET.items() if not key.startswith("layer4.1.")}
        weights.load_backbone(backbone(), content, "w.pth", key_filter=lambda state, model: state["no such key"])


# --- patches and their grid


def transformer(size: tuple[int, int], **changes) -> nn.Module:
    """A vision transformer of timm with patches of 16 x 16 pixels, 12 wide, for images of this size."""
    timm = pytest.importorskip("timm")
    options = {"embed_dim": 12, "depth": 2, "num_heads": 2, "num_classes": 0, "patch_size": 16, **changes}
    return timm.models.VisionTransformer(img_size=size, **options)


def filter_of_timm(state: dict, model: nn.Module) -> dict:
    from timm.models.vision_transformer import checkpoint_filter_fn

    return checkpoint_filter_fn(state, model)


def with_rows(model: nn.Module, rows: int, columns: int) -> dict:
    """The weights of a model whose position embedding of a patch is the number of its row."""
    state = model.state_dict()
    numbers = torch.arange(float(rows)).repeat_interleave(columns)
    state["pos_embed"][0, 1:] = numbers[:, None]
    return state


def grid(model: nn.Module, rows: int, columns: int) -> torch.Tensor:
    return model.pos_embed[0, 1:, 0].detach().unflatten(0, (rows, columns))


def test_as_many_patches_on_another_grid_are_resampled(tmp_path, caplog):
    """The numbers 0 to 3 of 4 rows, of 4 patches each, become those of 2 rows of 8 patches."""
    content, found = with_rows(transformer((64, 64)), 4, 4), transformer((32, 128))
    with caplog.at_level("INFO"):
        weights.load_backbone(found, prefixed("module.", content), "w.pth", filter_of_timm)
    assert "resampled from 4 x 4 patches to 2 x 8" in caplog.text
    rows = grid(found, 2, 8)
    assert torch.allclose(rows, rows[:, :1].expand(2, 8), atol=1e-5)
    assert 0 < rows[0, 0] < 1 and 2 < rows[1, 0] < 3
    assert torch.equal(found.cls_token, content["cls_token"])


@pytest.mark.parametrize(("trained", "now"), [((2, 3), (3, 2)), ((2, 8), (4, 4)), ((2, 3), (4, 4)), ((2, 8), (2, 8))])
def test_the_grid_of_a_run_is_that_of_its_images(trained, now, tmp_path):
    """Also where its patches are no square, or as many as those of one."""
    torch.save(with_rows(transformer([16 * side for side in trained]), *trained), tmp_path / "w.pth")
    settings = f"MODEL: {{}}\nDATASETS: {{}}\nINPUT: {{SIZE_TRAIN: [{16 * trained[0]}, {16 * trained[1]}]}}\n"
    (tmp_path / "config.yaml").write_text(settings)
    found = transformer([16 * side for side in now])
    weights.load_backbone(found, weights.read(tmp_path / "w.pth"), str(tmp_path / "w.pth"), filter_of_timm)
    rows = grid(found, *now)
    assert torch.allclose(rows, rows[:, :1].expand(*now), atol=1e-5)
    assert (rows.diff(dim=0) > 0).all()


def test_a_whole_model_refuses_as_many_patches_on_another_grid(tmp_path):
    (tmp_path / "config.yaml").write_text("MODEL: {}\nDATASETS: {}\nINPUT: {SIZE_TRAIN: [32, 48]}\n")
    torch.save(prefixed("backbone.", transformer((32, 48)).state_dict()), tmp_path / "w.pth")
    same_size, transposed = (nn.ModuleDict({"backbone": transformer(size)}) for size in ((32, 48), (48, 32)))
    Checkpointer(same_size).load(str(tmp_path / "w.pth"))
    with pytest.raises(ValueError, match="w.pth has position embeddings of another image size: set INPUT.SIZE_TRAIN"):
        Checkpointer(transposed).load(str(tmp_path / "w.pth"))
    (tmp_path / "config.yaml").write_text("INPUT: 1\n")  # nothing is known
    Checkpointer(transposed).load(str(tmp_path / "w.pth"))


def test_resized_patches_are_a_warning(caplog):
    other = transformer((64, 64), patch_size=32)
    with caplog.at_level("INFO"):
        weights.load_backbone(transformer((32, 32)), other.state_dict(), "w.pth", filter_of_timm)
    assert "w.pth is of a network with patches of another size" in caplog.text
    assert "patch_embed.proj.weight is resized from (12, 3, 32, 32) to (12, 3, 16, 16)" in caplog.text


def test_the_filter_of_timm_resizes_position_embeddings(caplog):
    large, small = transformer((64, 64)), transformer((32, 32))
    with caplog.at_level("INFO"):
        weights.load_backbone(small, prefixed("module.teacher.backbone.", large.state_dict()), "w.pth", filter_of_timm)
    assert torch.equal(small.blocks[1].mlp.fc1.weight, large.blocks[1].mlp.fc1.weight)
    assert small.pos_embed.shape == (1, 5, 12)
    assert "Resized to the backbone's shapes, from w.pth: pos_embed" in caplog.text


def test_a_vision_transformer_of_fast_reid_is_started_at_another_size(tmp_path):
    options = {"NAME": "build_vit_backbone", "DEPTH": "small", "FEAT_DIM": 768}
    size = {"INPUT__SIZE_TRAIN": [64, 64]}
    large = build_backbone(stock_cfg(**size, **{f"MODEL__BACKBONE__{key}": value for key, value in options.items()}))
    save_file({key: value.contiguous() for key, value in large.state_dict().items()}, tmp_path / "vit.safetensors")
    small = backbone(**options, PRETRAIN=True, PRETRAIN_PATH=str(tmp_path / "vit.safetensors"))
    assert torch.equal(small.blocks[3].attn.qkv.weight, large.blocks[3].attn.qkv.weight)
    assert small.pos_embed.shape[1] == 1 + 2 * 1


def test_a_vision_transformer_of_fast_reid_takes_as_many_patches_on_another_grid(tmp_path):
    """4 x 4 patches become 2 x 8; DeiT's file has a second token, for distillation."""
    options = {
        "NAME": "build_vit_backbone",
        "DEPTH": "small",
        "FEAT_DIM": 768,
        "PRETRAIN_PATH": str(tmp_path / "w.pth"),
    }
    square = stock_cfg(
        INPUT__SIZE_TRAIN=[64, 64], **{f"MODEL__BACKBONE__{key}": value for key, value in options.items()}
    )
    content = with_rows(build_backbone(square), 4, 4)
    places = content["pos_embed"]
    distilled = {"pos_embed": torch.cat([places[:, :1], places], dim=1), "dist_token": torch.zeros(1, 1, 768)}
    wide = square.clone()
    wide.merge_from_list(["INPUT.SIZE_TRAIN", [32, 128], "MODEL.BACKBONE.PRETRAIN", True])
    for changes in ({}, distilled):
        torch.save({**content, **changes}, tmp_path / "w.pth")
        rows = grid(build_backbone(wide), 2, 8)
        assert torch.allclose(rows, rows[:, :1].expand(2, 8), atol=1e-5)
