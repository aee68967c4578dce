"""The records of a run that comparisons read: its code, its machine, its memory, and a score for each query."""

import csv
import json
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import fastreid
import numpy as np
import torch
from fastreid.engine.hooks import HookBase
from fastreid.utils import comm

from ..files import replacing, write_text
from ..ranking import Ranking
from ..runs.read import read_starts
from ..version import __version__

PACKAGE = Path(__file__).parents[1]
QUIET = {"capture_output": True, "text": True}


class RunRecord(HookBase):
    """Adds an entry to `run.json` each time the run starts or resumes, and logs the peak memory of each epoch."""

    def __init__(self, output_dir: str, seen_whole: Collection[str] = ()):
        self.path, self.seen_whole = Path(output_dir, "run.json"), sorted(seen_whole)

    def before_train(self):
        trainer = self.trainer
        if not comm.is_main_process() or trainer.start_iter >= trainer.max_iter:
            return
        starts = read_starts(self.path.parent) if trainer.start_iter else []
        entry = {"iteration": trainer.start_iter, "seen_whole": self.seen_whole}
        entry |= setting(device_of(trainer.model))
        write_text(self.path, json.dumps([*starts, entry], indent=1))

    def after_epoch(self):
        memory = peak_memory(device_of(self.trainer.model))
        if memory is not None:
            self.trainer.storage.put_scalar("peak_memory_gib", memory, smoothing_hint=False)


def device_of(model: torch.nn.Module) -> torch.device:
    """The device of a model's weights."""
    return next(model.parameters()).device


def setting(device: torch.device | str = "cpu") -> dict:
    """The commit, the versions and the machine (the GPU's name if there is one) that a process runs with."""
    device = torch.device(device)
    return {
        "commit": commit(),
        "versions": {
            "fastreid_fancl": __version__,
            "fastreid": fastreid.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "processes": comm.get_world_size(),
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """The processor's name, or its architecture if the system is not Linux, and its number of cores."""
    info = Path("/proc/cpuinfo")
    name = re.search(r"^model name\s*: (.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return f"{name[1] if name else platform.machine()}, {os.cpu_count()} cores"


def commit(package: Path = PACKAGE) -> str | None:
    """The git commit of this package's source, with "-dirty" where it has changes; None outside a checkout."""
    try:
        # A package in the virtual environment of another repository is not part of that repository.
        subprocess.run(["git", "ls-files", "--error-unmatch", "__init__.py"], cwd=package, check=True, **QUIET)
        describe = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(describe, cwd=package, check=True, **QUIET).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def peak_memory(device: torch.device) -> float | None:
    """This process's peak GiB, of the GPU or resident on the CPU; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return peak_resident()


def peak_resident() -> float | None:
    """This process's peak of resident memory in GiB; None if unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return gib_of(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def gib_of(ru_maxrss: int) -> float:
    """GiB of a peak as the system gives it: in bytes on macOS, elsewhere in KiB."""
    return ru_maxrss / 2**30 if sys.platform == "darwin" else ru_maxrss / 2**20


def write_queries(path: str, queries: list[tuple], names: list[str], ranking: Ranking) -> None:
    """Write a table with a row for each query: path, identity, average precision in [0, 1], rank of the first match.

    The identity is ``names[pid]``, or the pid without names. Ranks count from 1. The last two columns are empty if the
    gallery has no match.
    """
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("path", "identity", "ap", "first_rank"))
        for (image, pid, *_), first, precision in zip(queries, ranking.first, ranking.precision, strict=True):
            scores = (f"{precision:.6f}", int(first)) if math.isfinite(first) else ("", "")
            table.writerow((image, names[pid] if names else pid, *scores))
