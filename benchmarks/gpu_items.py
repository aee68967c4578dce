"""Items of benchmarks/gpu.py: the machine, the tests, clusterings, features of timm models; and what all items share.

Each reports rows; those of a rehearsal are as many, with tiny sizes, on the CPU.
"""

import importlib.metadata
import platform
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import fastreid_fancl  # noqa: F401 (mends fast-reid before it is imported)

# isort: split
import numpy as np
import torch
from clusterers import FaissFlat, Package
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from gpu_plan import Report, Setting
from oracles import hard_features
from torch import nn

from fastreid_fancl import load_config
from fastreid_fancl.engine.plan import wait
from fastreid_fancl.engine.record import processor
from fastreid_fancl.engine.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torchvision", "timm", "numpy", "scipy", "scikit-learn", "numba", "opencv-python-headless", "faiss-gpu")
LEAST = 1.03  # times as fast: a way of doing things that gains less goes
MILLION_GOAL = 60  # seconds of a million rows
TINY = {
    **{"MODEL.BACKBONE.NAME": "build_two_layers", "MODEL.BACKBONE.DEPTH": "", "INPUT.SIZE_TRAIN": "[16,32]"},
    **{"MODEL.BACKBONE.FEAT_DIM": 32},
    **{"INPUT.SIZE_TEST": "[16,32]", "INPUT.PADDING.SIZE": 2, "DATASETS.NAMES": "('SyntheticTiny',)"},
    **{"DATASETS.TESTS": "('SyntheticTiny',)", "DATALOADER.NUM_WORKERS": 0, "PSEUDO_LABELS.K1": 6},
    **{"PSEUDO_LABELS.K2": 2, "SOLVER.IMS_PER_BATCH": 8, "TEST.IMS_PER_BATCH": 16},
}
FULL = {"DATALOADER.NUM_WORKERS": 8, "DATASETS.NAMES": "('SyntheticPandas',)", "DATASETS.TESTS": "('SyntheticPandas',)"}


@BACKBONE_REGISTRY.register()
def build_two_layers(cfg) -> nn.Module:
    """The encoder of a rehearsal, (B, 3, H, W) -> (B, D, H / 4, W / 4)."""
    layers = {"conv1": nn.Conv2d(3, 8, 4, 4, bias=False), "bn1": nn.BatchNorm2d(8), "relu": nn.ReLU()}
    layers |= {"conv2": nn.Conv2d(8, cfg.MODEL.BACKBONE.FEAT_DIM, 3, padding=1)}
    return nn.Sequential(OrderedDict(layers))


def keys_of(setting: Setting, **changes: object) -> dict[str, object]:
    """Keys of a configuration that starts from random weights; in `changes` a dot is written __."""
    common = {"MODEL.WEIGHTS": "", "MODEL.BACKBONE.PRETRAIN": False, "MODEL.DEVICE": setting.device}
    size = TINY if setting.rehearsal else FULL
    return {**common, **size, "OUTPUT_DIR": setting.scratch, **{k.replace("__", "."): v for k, v in changes.items()}}


def words(keys: dict[str, object]) -> list[str]:
    """KEY VALUE ... of the command line."""
    return [str(word) for pair in keys.items() for word in pair]


def configuration(file: str, keys: dict[str, object]):
    """A file under configs/ with these keys."""
    return load_config(str(ROOT / "configs" / file), words(keys))


def timed(function: Callable, device: torch.device) -> tuple[float, object]:
    """Seconds of a call, the device's work included, and what it returns."""
    wait(device)
    began = time.perf_counter()
    result = function()
    wait(device)
    return time.perf_counter() - began, result


def machine(report: Report, setting: Setting) -> None:
    """The GPU, and the versions of what its numbers depend on.

    Raises:
        RuntimeError: if CUDA cannot begin in a process that starts like this one.
    """
    if torch.cuda._is_in_bad_fork():
        raise RuntimeError("CUDA has begun in the process that this one is a fork of")
    gpus = torch.cuda.device_count()
    if gpus:
        torch.zeros(1, device="cuda")
        _, memory = torch.cuda.mem_get_info()
        report("GPU memory", memory / 2**30)
    report("machine", torch.cuda.get_device_name() if gpus else processor())
    report("processor", processor())
    report("gpus", gpus)
    report("threads", torch.get_num_threads())
    report("versions", f"Python {platform.python_version()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    for name in PACKAGES:
        try:
            report(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            report(name, "missing")


def suite(report: Report, setting: Setting) -> None:
    """The tests with the mark `cuda`; every failed one has a row.

    Raises:
        RuntimeError: if one fails, or none passes.
    """
    import pytest

    class Outcomes:
        passed = failed = skipped = 0

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            self.passed += report.when == "call" and report.passed
            self.skipped += report.skipped
            self.failed += report.failed
            if report.failed:
                lines = str(report.longrepr).splitlines()
                told("failed", report.nodeid, note=next((line for line in lines if line.startswith("E ")), lines[-1]))

    told, outcomes = report, Outcomes()
    files = [str(path) for path in sorted((ROOT / "tests").glob("test_*.py")) if "mark.cuda" in path.read_text()]
    options = ["-m", "cuda", "-rf", "--tb=short", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    pytest.main([*options, *files], [outcomes])
    report("passed", outcomes.passed, "tests", "" if setting.gpus else "needs CUDA")
    report("failed", outcomes.failed, "tests")
    report("skipped", outcomes.skipped, "tests")
    if outcomes.failed or not (outcomes.passed or setting.rehearsal):
        raise RuntimeError(f"{outcomes.failed} tests failed, {outcomes.passed} passed")


def clustering(report: Report, setting: Setting, rows: int, dimensions: int) -> None:
    """Neighbours, Jaccard distance and DBSCAN on the device; beside faiss on it, and the CPU for the smallest size."""
    device, on_cpu, million = torch.device(setting.device), rows < 50_000, rows >= 1e6
    rows, dimensions = (300, 32) if setting.rehearsal else (rows, dimensions)
    features, _ = hard_features(rows, dimensions, max(2, rows // 17))
    found = [phases(report, torch.from_numpy(features).to(device), turn, device) for turn in range(1 + on_cpu)]
    whole, labels = found[-1]
    if len(found) > 1:
        report("labels of two turns", float((found[0][1] == labels).mean()), "share equal")
    goal = f"goal: below {MILLION_GOAL} s, {'reached' if whole < MILLION_GOAL else 'missed'}"
    report("all", whole, "s", goal if million and setting.gpus else "")
    search_by_faiss(report, features, device)
    if on_cpu:
        seconds, there = phases(report, torch.from_numpy(features), "CPU", torch.device("cpu"))
        report("labels of the CPU", float((there == labels).mean()), "share equal")
        verdict(report, setting, "clustering on the GPU", whole, seconds)


def phases(report: Report, features: torch.Tensor, turn: object, device: torch.device) -> tuple[float, np.ndarray]:
    """Seconds of one turn, each phase reported, and its labels."""
    system = Package(features, 30, 6)
    seconds, neighbors = timed(lambda: system.search(features), device)
    more, distance = timed(lambda: system.distances(features, neighbors), device)
    last, labels = timed(lambda: system.cluster(distance, 0.6), device)
    for phase, taken in (("search", seconds), ("distances", more), ("DBSCAN", last)):
        report(phase, taken, "s", f"turn {turn}")
    if device.type == "cuda":
        report("GPU memory", torch.cuda.max_memory_allocated(device) / 2**30, "GiB", f"turn {turn}")
    report("clusters", int(labels.max() + 1), "", f"turn {turn}")
    return seconds + more + last, labels


def search_by_faiss(report: Report, features: np.ndarray, device: torch.device) -> None:
    """Seconds of faiss's flat index, on the GPU where it has one."""
    try:
        import faiss
    except ImportError:
        report("search by faiss", note="faiss is not installed")
        return
    if device.type == "cuda" and not faiss.get_num_gpus():
        report("search by faiss", note="this faiss knows no GPU")
        return
    if device.type == "cpu":
        system = FaissFlat(features, 30, 6)
        report("search by faiss", timed(lambda: system.search(features), device)[0], "s")
        return
    table = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, faiss.IndexFlatL2(features.shape[1]))
    table.add(features)
    report("search by faiss", timed(lambda: table.search(features, 30), device)[0], "s", "on the GPU")


def verdict(report: Report, setting: Setting, what: str, seconds: float, without: float) -> None:
    """How many times as fast a way is as to do without it, and by LEAST whether it stays; on a CPU it is not judged."""
    times = without / seconds
    judged = "needs CUDA" if not setting.gpus else "it stays" if times >= LEAST else f"below {LEAST}: it goes"
    report(what, times, "times as fast", f"{1000 * seconds:.4g} ms, without {1000 * without:.4g} ms: {judged}")


def timm_features(report: Report, setting: Setting, name: str, dimensions: int, pretrained: bool) -> None:
    """Images/s of a timm model's features, from pixels that are on the GPU already."""
    keys = keys_of(setting, MODEL__BACKBONE__NAME="build_timm_backbone", MODEL__BACKBONE__TIMM=name)
    keys |= {"MODEL.BACKBONE.FEAT_DIM": dimensions, "MODEL.BACKBONE.PRETRAIN": pretrained}
    cfg = configuration("Synthetic/cluster_contrast.yml", keys)
    model, batch = Trainer.build_model(cfg).eval(), cfg.TEST.IMS_PER_BATCH
    images = 255 * torch.rand(batch, 3, *cfg.INPUT.SIZE_TEST, device=setting.device)
    runs = 2 if setting.rehearsal else 20

    @torch.no_grad()
    def run() -> None:
        for _ in range(runs):
            model({"images": images})

    run()
    seconds, _ = timed(run, images.device)
    report("features", runs * batch / seconds, "images/s", f"{cfg.MODEL.PRECISION}, {batch} at once")
