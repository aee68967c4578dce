"""TEST.RUNTIME openvino: the features of PyTorch, from every place that takes the features of trained weights."""

import csv
import logging
import os
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import REPO
from support.runs import arguments, configured
from torch import nn

from fastreid_fancl import openvino
from fastreid_fancl.engine import run
from fastreid_fancl.engine.run import command_line
from fastreid_fancl.engine.trained_model import load_model
from fastreid_fancl.errors import UserError
from fastreid_fancl.individuals.command import command_line as individuals
from fastreid_fancl.individuals.grouping import command_line as group

sys.path.append(str(REPO / "benchmarks"))

import extraction  # noqa: E402

RUNTIME = {"TEST__RUNTIME": "openvino"}


@pytest.fixture
def installed():
    pytest.importorskip("openvino")


def timm(name: str, channels: int) -> dict:
    backbone = {"NAME": "build_timm_backbone", "TIMM": name, "FEAT_DIM": channels}
    return {f"MODEL__BACKBONE__{key}": value for key, value in backbone.items()}


def images(number: int, size: list[int]) -> torch.Tensor:
    """Noise of one brightness each, so that their features differ."""
    generator = torch.Generator().manual_seed(0)
    brightness = torch.linspace(10, 255, number).view(-1, 1, 1, 1)
    return torch.rand(number, 3, *size, generator=generator) * brightness


@pytest.mark.parametrize(
    ("method", "keys"),
    [
        ("fancl", {}),
        ("pcb", {}),  # parts
        ("resnet50", {}),  # a model of fast-reid
        ("cluster_contrast", {"MODEL__PRECISION": "bfloat16", **timm("test_efficientnet", 256)}),
        ("cluster_contrast", timm("test_efficientnet", 256)),
        ("cluster_contrast", timm("test_vit", 64)),
    ],
    ids=["FANCL", "PCB", "fast-reid", "bfloat16", "EfficientNet", "ViT"],
)
def test_every_feature_is_that_of_pytorch_in_order_for_any_size_of_batch(installed, tmp_path, method, keys):
    cfg = configured(method, tmp_path, **RUNTIME, **keys)
    model = load_model(cfg)
    batch = {"images": images(5, cfg.INPUT.SIZE_TEST)}
    with torch.no_grad():
        copy = {"images": batch["images"].clone()}  # fast-reid normalises in place
        expected = F.normalize(type(model).forward(model, copy), dim=1)
        whole = F.normalize(model(batch), dim=1)
        parts = [F.normalize(model({"images": part}), dim=1) for part in batch["images"].split(2)]  # 2, 2, 1
    assert whole.dtype == torch.float32
    similarity = whole @ expected.T
    assert similarity.diagonal().min() > 0.999
    assert similarity.argmax(1).tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(
        torch.cat(parts), whole, rtol=0, atol=1e-4 if keys.get("MODEL__PRECISION") is None else 0.05
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory, animals):
    """The folder of a finished run."""
    output = tmp_path_factory.mktemp("openvino") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", os.fspath(animals))
        command_line(arguments("fancl", output, SOLVER__MAX_EPOCH=1, TEST__EVAL_PERIOD=1))
    return output


def test_an_evaluation_and_groups_are_those_of_pytorch(installed, trained, datasets, tmp_path, monkeypatch, caplog):
    scores, evaluate = [], run.evaluate
    monkeypatch.setattr(run, "evaluate", lambda *args, **kwargs: scores.append(evaluate(*args, **kwargs)))
    caplog.set_level(logging.INFO, "fastreid_fancl.openvino")
    for runtime in ("torch", "openvino"):
        keys = {"MODEL__WEIGHTS": trained / "model_final.pth", "TEST__RUNTIME": runtime}
        command_line(arguments("fancl", tmp_path / runtime, "--eval-only", **keys))
        assert ("Features by OpenVINO" in caplog.text) == (runtime == "openvino")
        caplog.clear()
        output = ["--output", os.fspath(tmp_path / f"{runtime}.csv")]
        group([*output, "--run", os.fspath(trained), "TEST.RUNTIME", runtime])
        assert ("Features by OpenVINO" in caplog.text) == (runtime == "openvino")
        caplog.clear()
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)
    assert 0 < scores[0]["mAP"] <= 100
    assert (tmp_path / "openvino.csv").read_text() == (tmp_path / "torch.csv").read_text()


def test_discover_encodes_by_the_runtime_that_it_is_given(installed, trained, animals, tmp_path, caplog):
    caplog.set_level(logging.INFO, "fastreid_fancl.openvino")
    features = {}
    for runtime in ("torch", "openvino"):
        project = tmp_path / runtime
        photos = ["--photos", os.fspath(animals / "Stripes/images"), "--run", os.fspath(trained), "--no-page"]
        individuals(["discover", os.fspath(project), *photos, "--runtime", runtime])
        with np.load(next((project / "features").glob("*.npz"))) as stored:
            features[runtime] = stored["values"].astype(np.float32)[np.argsort(stored["keys"])]
    assert caplog.text.count("Features by OpenVINO") == 1, "it compiles once, and only if it is asked to"
    assert features["torch"].shape == (54, 512)
    assert (features["torch"] * features["openvino"]).sum(1).min() > 0.999


def test_training_in_discover_is_by_pytorch(tmp_path, capsys):
    with pytest.raises(SystemExit):
        individuals(["discover", os.fspath(tmp_path), "--train", "--runtime", "openvino"])
    assert "leave out --runtime openvino" in capsys.readouterr().err


def test_openvino_reports_nothing_over_the_network(installed):
    openvino.library()
    # Its modules for this are those of the stand-in.
    assert sys.modules["openvino_telemetry"] is None
    assert "openvino_telemetry.main" not in sys.modules


def test_without_openvino_the_cure_is_said(datasets, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    cure = r"TEST.RUNTIME openvino: OpenVINO is not installed; pip install 'fastreid_fancl\[openvino\]', or use torch"
    with pytest.raises(SystemExit, match=cure):
        command_line(arguments("fancl", tmp_path, "--eval-only", **RUNTIME))
    with pytest.raises(UserError, match=cure):
        load_model(configured("fancl", tmp_path, **RUNTIME))


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_is_refused(device):
    assert f"MODEL.DEVICE is {device}; use torch, or MODEL.DEVICE cpu" in openvino.obstacle(device)


class Model(nn.Module):
    """Features by a function of the images (B, 3, H, W)."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, batch):
        return self.function(batch["images"])


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda images: images.mean((2, 3)) * float(images.mean()), "differ by"),  # a number that the trace keeps
        (lambda images: images.mean((2, 3)).view(len(images), 3), "OpenVINO cannot run this Model"),  # 2 for ever
    ],
)
def test_a_model_that_openvino_would_compute_wrongly_is_refused(installed, function, reason):
    with pytest.raises(UserError, match=f"{reason}.*use TEST.RUNTIME torch"):
        openvino.compile_forward(Model(function).eval(), (8, 8), "float32")


def test_photographs_per_second_of_each_runtime_are_a_table(tmp_path, monkeypatch, capsys):
    keys = ["--encoders", "test_resnet", "--size", "32", "--batch", "2", "--turns", "1", "--threads", "1"]
    monkeypatch.setattr("sys.argv", ["extraction.py", *keys, "--output", os.fspath(tmp_path / "speed")])
    extraction.main()
    with (tmp_path / "speed.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["runtime"], row["precision"]) for row in rows] == extraction.ways()
    assert float(rows[0]["times_faster"]) == 1
    assert all(float(row["photographs_per_s"]) > 0 and float(row["least_cosine"]) > 0.999 for row in rows)
    assert f"| test_resnet | 1 | {rows[-1]['runtime']} |" in capsys.readouterr().out
