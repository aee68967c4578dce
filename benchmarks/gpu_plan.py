"""The items of benchmarks/gpu.py, most important first.

An item is a function of gpu_items.py, gpu_steps.py or gpu_runs.py, called with (report, setting, *arguments). Nothing
here imports PyTorch, because the process that starts the items works without it.
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
    """The conditions an item runs under.

    Attributes:
        rehearsal: use tiny sizes, on the CPU.
        gpus: number of GPUs it may use.
        seconds: time limit.
        scratch: folder of its own.
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
        name: in the table and for `--only`.
        function: "module.function".
        estimate, limit: seconds on an H200 that it should take, and after which it is killed.
        purpose: in a few words.
        arguments: of the function, after (report, setting).
        gpus: number of GPUs it needs, except in a rehearsal.
    """

    name: str
    function: str
    estimate: int
    limit: int
    purpose: str
    arguments: tuple = ()
    gpus: int = 0

    def run(self, setting: Setting, sending, log: str) -> None:
        """Run the function in this process, as the leader of a new process group, and append its output to a log."""
        os.setsid()
        threading.Thread(target=die_with, args=(multiprocessing.parent_process(),), daemon=True).start()
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
    """Sends a row to the table: what was measured, its value, its unit and a note."""

    def __init__(self, sending):
        self.sending = sending

    def __call__(self, measured: str, value: object = None, unit: str = "", note: str = "") -> None:
        self.sending.send({"measured": measured, "value": value, "unit": unit, "note": note})


def die_with(parent) -> None:
    """Kill this process's group when the parent has ended for any reason."""
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
        Item(f"clustering {rows} x {dim}", "gpu_items.clustering", estimate, limit, "features to labels", (rows, dim))
        for rows, dim, estimate, limit in sizes
    ]


def _features() -> list[Item]:
    return [
        Item(f"features {model}", "gpu_items.timm_features", 8, 30, "images/s of a timm model", (model,))
        for model in ("tf_efficientnet_lite0", "resnet50", "vit_small_patch14_dinov2")
    ]


PROBE = Item("machine", "gpu_items.machine", 10, 60, "hardware and versions")
PLAN = [
    Item("tests", "gpu_items.cuda_tests", 90, 180, "the tests that need CUDA", gpus=1),
    Item("data", "gpu_runs.data", 20, 60, "draws and decodes the photographs of later items"),
    *_steps(),
    Item("resume", "gpu_runs.resume", 25, 60, "weights of a resumed run and of one without a break"),
    *_clusterings(),
    Item("optimisations", "gpu_steps.optimisations", 40, 90, "the speed-up of each, and whether to keep it"),
    Item("plan fancl", "gpu_runs.plan_and_run", 35, 75, "memory and time of --plan and of the run", ("fancl",)),
    Item("plan cluster_contrast", "gpu_runs.plan_and_run", 25, 60, "likewise", ("cluster_contrast",)),
    Item("one rank", "gpu_runs.one_rank", 10, 40, "a torchrun job of one process, with NCCL"),
    Item("two ranks", "gpu_runs.two_ranks", 30, 60, "clustering shared by two processes", gpus=2),
    *_features(),
    Item("schedule fancl", "gpu_runs.schedule", 45, 300, "the paper's schedule, shortened", ("fancl", 0.4)),
    Item("schedule cluster_contrast", "gpu_runs.schedule", 45, 300, "likewise", ("cluster_contrast", 0.8)),
]
