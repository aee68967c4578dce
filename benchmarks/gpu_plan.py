"""The items of benchmarks/gpu.py in order of worth. Nothing here imports PyTorch: what starts them does without.

An item is a function of gpu_items.py, gpu_steps.py or gpu_runs.py, called with (report, setting, *arguments).
"""

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """What an item runs in.

    Attributes:
        rehearsal: tiny sizes on the CPU.
        gpus: that it may use.
        seconds: after which it is ended.
        scratch: a folder of its own.
    """

    rehearsal: bool
    gpus: int
    seconds: float
    scratch: str

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"


@dataclass(frozen=True)
class Item:
    """One thing to check or measure.

    Attributes:
        name: for the table and `--only`.
        function: "module.function".
        estimate, limit: seconds on an H200: what it should take, and when it is ended.
        purpose: in a few words.
        arguments: of the function, after (report, setting).
        gpus: that it needs; without them it is only rehearsed.
    """

    name: str
    function: str
    estimate: int
    limit: int
    purpose: str
    arguments: tuple = ()
    gpus: int = 0

    def run(self, setting: Setting, sending, log: str) -> None:
        """Run the function in this process, which leads a group of its own; what it prints goes to the end of a log."""
        os.setsid()
        threading.Thread(target=end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
        os.chdir(setting.scratch)
        self._redirect(log)
        try:
            module, _, function = self.function.rpartition(".")
            getattr(importlib.import_module(module), function)(Report(sending), setting, *self.arguments)
        except Exception:
            traceback.print_exc()
            sys.exit(1)

    def _redirect(self, log: str) -> None:
        written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(written, f"\n== {self.name}\n".encode())
        for stream in (1, 2):
            os.dup2(written, stream)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)


class Report:
    """Called with what was measured, its value, its unit and a note: a row, sent at once."""

    def __init__(self, sending):
        self.sending = sending

    def __call__(self, measured: str, value: object = None, unit: str = "", note: str = "") -> None:
        self.sending.send({"measured": measured, "value": value, "unit": unit, "note": note})


def end_with(parent) -> None:
    """End this process's group when the parent is no more, however that ended."""
    parent.join()
    os.killpg(0, signal.SIGKILL)


def _steps() -> list[Item]:
    methods, purpose = ("fancl", "cluster_contrast"), "images/s, share of peak, idle"
    return [
        Item(f"step {method} {precision}", "gpu_steps.step", 15, 45, purpose, (method, precision))
        for precision in ("bfloat16", "float32")
        for method in methods
    ]


def _clusterings() -> list[Item]:
    sizes = [(32_621, 2048, 40, 90), (100_000, 2048, 40, 90), (1_000_000, 256, 80, 150)]
    return [
        Item(f"clustering {rows} x {dim}", "gpu_items.clustering", needed, limit, "features to labels", (rows, dim))
        for rows, dim, needed, limit in sizes
    ]


def _features() -> list[Item]:
    efficientnet, resnet, vit = "tf_efficientnet_lite0", "resnet50", "vit_small_patch14_dinov2"
    return [
        Item(f"features {model[0]}", "gpu_items.timm_features", 8, 30, "images/s of a timm model", model)
        for model in ((efficientnet, 1280, True), (resnet, 2048, False), (vit, 384, False))
    ]


PROBE = Item("machine", "gpu_items.machine", 10, 60, "what is here")
PLAN = [
    Item("tests", "gpu_items.suite", 90, 180, "the tests that need CUDA", gpus=1),
    Item("data", "gpu_runs.data", 20, 60, "draws and decodes the photographs of the next items"),
    *_steps(),
    Item("resume", "gpu_runs.resume", 25, 60, "2 epochs beside 1 and a resumed one"),
    *_clusterings(),
    Item("ways", "gpu_steps.ways", 40, 90, "two ways side by side, and which one goes"),
    Item("plan fancl", "gpu_runs.planned", 35, 75, "memory and time beside --plan's", ("fancl",)),
    Item("plan cluster_contrast", "gpu_runs.planned", 25, 60, "likewise", ("cluster_contrast",)),
    Item("one rank", "gpu_runs.one_rank", 10, 40, "the run of torchrun's one process, by NCCL"),
    Item("two ranks", "gpu_runs.two_ranks", 30, 60, "clustering shared by processes beside one alone", gpus=2),
    *_features(),
    Item("schedule fancl", "gpu_runs.schedule", 45, 300, "the paper's schedule, shortened", ("FANCL", 0.4)),
    Item("schedule cluster_contrast", "gpu_runs.schedule", 45, 300, "likewise", ("ClusterContrast", 0.8)),
]
