"""TEST.RUNTIME openvino: the features of PyTorch, from every place that takes the features of trained weights."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import REPO
from support.runs import arguments, configured
from torch import nn

from fastreid_fancl import load, openvino
from fastreid_fancl.engine import run, trained_model
from fastreid_fancl.engine.run import command_line
from fastreid_fancl.engine.trained_model import load_model, use_runtime
from fastreid_fancl.errors import UserError
from fastreid_fancl.individuals.command import command_line as individuals
from fastreid_fancl.individuals.grouping import command_line as group

sys.path.append(str(REPO / "benchmarks"))

import extraction  # noqa: E402

RUNTIME = {"TEST__RUNTIME": "openvino"}


@pytest.fixture
def installed():
    """Skip without OpenVINO; `importorskip` would import it with its telemetry."""
    if openvino.why_unusable("cpu"):
        pytest.skip(openvino.why_unusable("cpu"))


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
    model = use_runtime(load_model(cfg), cfg)
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


@pytest.fixture
def run_of_random_weights(tmp_path):
    """The folder of a run, which has its settings and a checkpoint."""
    output = tmp_path / "run"
    output.mkdir()
    cfg = configured("fancl", output)
    torch.manual_seed(0)
    torch.save({"model": load_model(cfg).state_dict()}, output / "model_final.pth")
    (output / "config.yaml").write_text(cfg.dump())
    (output / "last_checkpoint").write_text("model_final.pth")
    return output


@pytest.fixture
def compiled(monkeypatch):
    """The precisions that models are compiled for, as it happens."""
    precisions = []

    def compile_forward(model, size, precision):
        precisions.append(precision)
        openvino.compile_forward(model, size, precision)

    monkeypatch.setattr(trained_model, "compile_forward", compile_forward)
    return precisions


def test_an_evaluation_and_groups_are_those_of_pytorch(
    installed, run_of_random_weights, compiled, datasets, tmp_path, monkeypatch
):
    scores, evaluate = [], run.evaluate
    monkeypatch.setattr(run, "evaluate", lambda *args, **kwargs: scores.append(evaluate(*args, **kwargs)))
    for runtime, compilations in (("torch", 0), ("openvino", 2)):
        keys = {"MODEL__WEIGHTS": run_of_random_weights / "model_final.pth", "TEST__RUNTIME": runtime}
        command_line(arguments("fancl", tmp_path / runtime, "--eval-only", **keys))
        output = ["--output", os.fspath(tmp_path / f"{runtime}.csv")]
        group([*output, "--run", os.fspath(run_of_random_weights), "TEST.RUNTIME", runtime])
        assert len(compiled) == compilations
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)
    assert 0 < scores[0]["mAP"] <= 100
    assert (tmp_path / "openvino.csv").read_text() == (tmp_path / "torch.csv").read_text()


def test_discover_encodes_by_the_runtime_that_it_is_given(
    installed, run_of_random_weights, compiled, animals, tmp_path
):
    features = {}
    for runtime in ("torch", "openvino"):
        project = tmp_path / runtime
        photos = ["--photos", os.fspath(animals / "Stripes/images"), "--run", os.fspath(run_of_random_weights)]
        individuals(["discover", os.fspath(project), *photos, "--no-page", "--local", "0", "--runtime", runtime])
        with np.load(next((project / "features").glob("*.npz"))) as stored:
            features[runtime] = stored["values"].astype(np.float32)[np.argsort(stored["keys"])]
    assert compiled == ["float32"], "it compiles once, and only if it is asked to"
    assert features["torch"].shape == (54, 512)
    assert (features["torch"] * features["openvino"]).sum(1).min() > 0.999


def test_a_loaded_model_encodes_by_the_runtime_that_it_is_given(installed, run_of_random_weights, compiled, animals):
    photographs = sorted((animals / "Stripes/images").iterdir())[:3]
    by_torch, by_openvino = (
        load(run_of_random_weights, device="cpu", runtime=runtime).features(photographs, batch_size=2)
        for runtime in (None, "openvino")
    )
    assert compiled == ["float32"]
    assert (by_torch * by_openvino).sum(1).min() > 0.999


def test_training_in_discover_is_by_pytorch(tmp_path, capsys):
    with pytest.raises(SystemExit):
        individuals(["discover", os.fspath(tmp_path), "--train", "--runtime", "openvino"])
    assert "leave out --runtime openvino" in capsys.readouterr().err


def test_openvino_reports_nothing_over_the_network(installed):
    openvino.library()
    assert sys.modules["openvino_telemetry"] is None
    assert "openvino_telemetry.main" not in sys.modules


def test_without_openvino_the_cure_is_said(datasets, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    cure = r"TEST.RUNTIME openvino: OpenVINO is not installed; pip install 'fastreid_fancl\[openvino\]', or use torch"
    with pytest.raises(SystemExit, match=cure):
        command_line(arguments("fancl", tmp_path, "--eval-only", **RUNTIME))
    with pytest.raises(UserError, match=cure):
        use_runtime(nn.Identity(), configured("fancl", tmp_path, **RUNTIME))


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_is_refused(device):
    assert f"MODEL.DEVICE is {device}; use torch, or MODEL.DEVICE cpu" in openvino.why_unusable(device)


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
        # near 102 in the trace of two images and 81 for three: about 402 / 381
        (lambda images: images.mean((2, 3)) * (300 + float(images.mean())), r"differ by 5\.\d%"),
        (lambda images: images.mean((2, 3)).view(len(images), 3), "OpenVINO cannot run this Model"),  # 2 for ever
    ],
)
def test_a_model_that_openvino_would_compute_wrongly_is_refused(installed, function, reason):
    with pytest.raises(UserError, match=f"{reason}.*use TEST.RUNTIME torch"):
        openvino.compile_forward(Model(function).eval(), (8, 8), "float32")


TWO_MODELS = """
import gc, os, signal
import torch
from torch import nn
from fastreid_fancl import openvino

class Model(nn.Module):
    def forward(self, batch):
        return batch["images"].mean((2, 3))

models = [Model().eval(), Model().eval()]
for model in models:
    openvino.compile_forward(model, (8, 8), "float32")
del model, models
gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_is_handled_after_two_models_are_gone(installed):
    done = subprocess.run([sys.executable, "-c", TWO_MODELS], capture_output=True, text=True, cwd=REPO)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_photographs_per_second_of_each_runtime_are_a_table(tmp_path):
    keys = ["--encoders", "test_resnet", "--size", "32", "--batch", "2", "--turns", "1", "--threads", "1"]
    command = [sys.executable, os.fspath(REPO / "benchmarks/extraction.py"), *keys]
    done = subprocess.run([*command, "--output", os.fspath(tmp_path / "speed")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "speed.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["runtime"], row["precision"]) for row in rows] == extraction.ways()
    assert float(rows[0]["times_faster"]) == 1
    assert all(float(row["photographs_per_s"]) > 0 and float(row["least_cosine"]) > 0.999 for row in rows)
    assert f"| test_resnet | 1 | {rows[-1]['runtime']} |" in done.stdout
