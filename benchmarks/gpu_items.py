"""Items of benchmarks/gpu.py: the machine, the tests, clusterings, features of timm models; and what all items share.

A rehearsal reports the same rows, measured with tiny sizes on the CPU.
"""

import importlib.metadata
import platform
from collections import OrderedDict
from pathlib import Path

import fastreid_fancl  # noqa: F401 (fixes fast-reid before it is imported)

# isort: split
import numpy as np
import torch
from clocks import timed
from clusterers import Package
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from gpu_plan import Report, Setting
from support.oracles import hard_features
from torch import nn

from fastreid_fancl import load_config
from fastreid_fancl.engine.record import processor
from fastreid_fancl.engine.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torchvision", "timm", "numpy", "scipy", "scikit-learn", "numba", "opencv-python-headless", "faiss-gpu")
LEAST = 1.03  # speed-up below which the faster way is not worth its code
MILLION_GOAL = 60  # seconds to cluster a million rows
FULL = {"DATALOADER.NUM_WORKERS": 8, "DATASETS.NAMES": "('SyntheticPandas',)", "DATASETS.TESTS": "('SyntheticPandas',)"}
TINY = {
    **{"DATASETS.NAMES": "('SyntheticTiny',)", "DATASETS.TESTS": "('SyntheticTiny',)", "DATALOADER.NUM_WORKERS": 0},
    **{"INPUT.SIZE_TRAIN": "[16,32]", "INPUT.SIZE_TEST": "[16,32]", "INPUT.PADDING.SIZE": 2},
    **{"PSEUDO_LABELS.K1": 6, "PSEUDO_LABELS.K2": 2, "SOLVER.IMS_PER_BATCH": 8, "TEST.IMS_PER_BATCH": 16},
}
TWO_LAYERS = {"MODEL.BACKBONE.NAME": "build_two_layers", "MODEL.BACKBONE.DEPTH": "", "MODEL.BACKBONE.FEAT_DIM": 32}


@BACKBONE_REGISTRY.register()
def build_two_layers(cfg) -> nn.Module:
    """The encoder of most rehearsals, (B, 3, H, W) -> (B, D, H / 4, W / 4)."""
    layers = {"conv1": nn.Conv2d(3, 8, 4, 4, bias=False), "bn1": nn.BatchNorm2d(8), "relu": nn.ReLU()}
    layers |= {"conv2": nn.Conv2d(8, cfg.MODEL.BACKBONE.FEAT_DIM, 3, padding=1)}
    return nn.Sequential(OrderedDict(layers))


def keys_of(setting: Setting, tiny_encoder: bool = True, **changes: object) -> dict[str, object]:
    """Configuration keys of an item, whose model starts from random weights.

    Args:
        setting: of the item.
        tiny_encoder: replace the file's encoder in a rehearsal.
        changes: further keys, with __ for each dot.
    """
    keys = {"MODEL.WEIGHTS": "", "MODEL.BACKBONE.PRETRAIN": False, "MODEL.DEVICE": setting.device}
    keys |= TINY if setting.rehearsal else FULL
    keys |= TWO_LAYERS if setting.rehearsal and tiny_encoder else {}
    return {**keys, "OUTPUT_DIR": setting.scratch, **{key.replace("__", "."): v for key, v in changes.items()}}


def opts(keys: dict[str, object]) -> list[str]:
    """The arguments KEY VALUE ... of the command line."""
    return [str(word) for pair in keys.items() for word in pair]


def configuration(file: str, keys: dict[str, object]):
    """Load a file of configs/ with these keys."""
    return load_config(str(ROOT / "configs" / file), opts(keys))


def machine(report: Report, setting: Setting) -> None:
    """Report the hardware and the versions of the packages.

    Raises:
        RuntimeError: if CUDA cannot be initialised in processes that start like this one.
    """
    if torch.cuda._is_in_bad_fork():
        raise RuntimeError("Expected a process in which CUDA can start, but its parent has initialised CUDA already.")
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


class Outcomes:
    """A pytest plug-in that counts outcomes and reports each failure as a row."""

    def __init__(self, report: Report):
        self.report = report
        self.passed = self.failed = self.skipped = 0

    def pytest_runtest_logreport(self, report) -> None:
        self.passed += report.when == "call" and report.passed
        self.skipped += report.skipped
        self.failed += report.failed
        if report.failed:
            lines = str(report.longrepr).splitlines()
            error = next((line for line in lines if line.startswith("E ")), lines[-1])
            self.report("failed", report.nodeid, note=error)


def cuda_tests(report: Report, setting: Setting) -> None:
    """Run the tests with the mark `cuda`.

    Raises:
        RuntimeError: if one fails, or none passes on a GPU.
    """
    import pytest

    outcomes = Outcomes(report)
    files = [str(path) for path in sorted((ROOT / "tests").glob("test_*.py")) if "mark.cuda" in path.read_text()]
    options = ["-m", "cuda", "-rf", "--tb=short", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    pytest.main([*options, *files], [outcomes])
    report("passed", outcomes.passed, "tests", "" if setting.gpus else "needs CUDA")
    report("failed", outcomes.failed, "tests")
    report("skipped", outcomes.skipped, "tests")
    if outcomes.failed or not (outcomes.passed or setting.rehearsal):
        raise RuntimeError(f"{outcomes.failed} tests failed, {outcomes.passed} passed")


def clustering(report: Report, setting: Setting, rows: int, dimensions: int) -> None:
    """Time neighbour search, Jaccard distance and DBSCAN on the device, and faiss's search.

    The smallest size runs twice, to see whether the labels repeat, and once on the CPU, to compare with it.
    """
    device, on_cpu, million = torch.device(setting.device), rows < 50_000, rows >= 1e6
    rows, dimensions = (300, 32) if setting.rehearsal else (rows, dimensions)
    features, _ = hard_features(rows, dimensions, max(2, rows // 17))
    turns = [phases(report, torch.from_numpy(features).to(device), f"turn {1 + n}", device) for n in range(1 + on_cpu)]
    seconds, labels = turns[-1]
    goal = f"goal: below {MILLION_GOAL} s, {'reached' if seconds < MILLION_GOAL else 'missed'}"
    report("all", seconds, "s", goal if million and setting.gpus else "")
    search_by_faiss(report, features, device)
    if on_cpu:
        report("labels of two turns", float((turns[0][1] == labels).mean()), "share equal")
        cpu_seconds, cpu_labels = phases(report, torch.from_numpy(features), "CPU", torch.device("cpu"))
        report("labels of the CPU", float((cpu_labels == labels).mean()), "share equal")
        speed_up(report, setting, "clustering on the GPU", seconds, cpu_seconds)


def phases(report: Report, features: torch.Tensor, turn: str, device: torch.device) -> tuple[float, np.ndarray]:
    """Cluster once and report each phase; return the seconds of all phases, and the labels."""
    system = Package(features, 30, 6)
    seconds = {}
    seconds["search"], neighbors = timed(lambda: system.search(features), device)
    seconds["distances"], distance = timed(lambda: system.distances(features, neighbors), device)
    seconds["DBSCAN"], labels = timed(lambda: system.cluster(distance, 0.6), device)
    for phase, taken in seconds.items():
        report(phase, taken, "s", turn)
    if device.type == "cuda":
        report("GPU memory", torch.cuda.max_memory_allocated(device) / 2**30, "GiB", turn)
    report("clusters", int(labels.max() + 1), "", turn)
    return sum(seconds.values()), labels


def search_by_faiss(report: Report, features: np.ndarray, device: torch.device) -> None:
    """Report the seconds of faiss's exact search on the device."""
    try:
        import faiss
    except ImportError:
        report("search by faiss", note="faiss is not installed")
        return
    if device.type == "cuda" and not faiss.get_num_gpus():
        report("search by faiss", note="the installed faiss has no GPU support")
        return
    index = faiss.IndexFlatL2(features.shape[1])
    if device.type == "cuda":
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    index.add(features)
    report("search by faiss", timed(lambda: index.search(features, 30), device)[0], "s")


def speed_up(report: Report, setting: Setting, what: str, seconds: float, without: float) -> None:
    """Report the speed-up that a way of doing things brings, and by LEAST whether to keep or remove it.

    A CPU does not decide that.
    """
    times = without / seconds
    decision = "needs CUDA" if not setting.gpus else "keep it" if times >= LEAST else f"below {LEAST}: remove it"
    report(what, times, "times as fast", f"{1000 * seconds:.4g} ms, without {1000 * without:.4g} ms: {decision}")


def timm_features(report: Report, setting: Setting, name: str) -> None:
    """Report the images/s of a timm model's features for photographs of 224 x 224 that are on the device already."""
    keys = keys_of(setting, tiny_encoder=False, MODEL__BACKBONE__TIMM=name)
    keys |= {} if setting.rehearsal else {"TEST.IMS_PER_BATCH": 128}
    cfg = configuration("Photographs/cluster_contrast.yml", keys)
    model, batch = Trainer.build_model(cfg).eval(), cfg.TEST.IMS_PER_BATCH
    images = 255 * torch.rand(batch, 3, *cfg.INPUT.SIZE_TEST, device=setting.device)
    runs = 2 if setting.rehearsal else 20

    @torch.no_grad()
    def run() -> None:
        for _ in range(runs):
            model({"images": images})

    run()
    seconds, _ = timed(run, images.device)
    size = " x ".join(map(str, cfg.INPUT.SIZE_TEST))
    note = f"random weights, {cfg.MODEL.PRECISION}, batches of {batch}, {size} pixels"
    report("features", runs * batch / seconds, "images/s", note)
