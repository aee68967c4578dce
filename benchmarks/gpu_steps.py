"""Items of benchmarks/gpu.py about training steps: their speed, and what each optimisation adds to it."""

import time
from itertools import cycle
from statistics import median
from unittest.mock import patch

import hardware
import numpy as np
import torch
from clocks import timed
from gpu_items import configuration, keys_of, speed_up
from gpu_plan import Report, Setting
from training import Own, steady_step, waiting

from fastreid_fancl.data.loaders import feature_loader
from fastreid_fancl.data.samplers import cluster_batches
from fastreid_fancl.engine import features as extraction
from fastreid_fancl.engine.estimate import PER_CLUSTER, clustered
from fastreid_fancl.engine.throughput import PRECISIONS
from fastreid_fancl.engine.timing import AHEAD, batches_of, wait

AT_HAND = 4  # batches
WITHOUT = {  # optimisations of the package, and the keys that switch them off
    "channels_last": {"MODEL.CHANNELS_LAST": False},
    "fused optimiser": {"SOLVER.FUSED": False},
    "bfloat16 instead of float32": {"MODEL.PRECISION": "float32"},
}
FLOAT16 = {"MODEL.PRECISION": "float32", "SOLVER.AMP.ENABLED": True}


class System(Own):
    """A method of this package with made-up clusters, ready for training steps."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self.workers, images = cfg.DATALOADER.NUM_WORKERS, len(self.dataset)
        targets = np.arange(images) // PER_CLUSTER
        sizes = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE
        self.planned = cluster_batches(targets, *sizes, batches_of(self.workers), 0)
        features = clustered(images, cfg.MODEL.BACKBONE.FEAT_DIM, 0)
        self.start(dict.fromkeys(("original", "noised", "fused"), features), targets)

    def seconds(self) -> float:
        """Return the seconds of a step in the middle of an epoch, where workers load the batches."""
        return steady_step(self, self.planned, self.workers, time.perf_counter)

    def seconds_at_hand(self, steps: int) -> float:
        """Return the seconds of a step whose batch is in the host's memory already."""
        self.load(self.planned[:AT_HAND])
        loaded = cycle([next(self.batches) for _ in self.planned[:AT_HAND]])
        self.batches = self.trainer._trainer._data_loader_iter = (dict(batch) for batch in loaded)
        self._run(2)
        return timed(lambda: self._run(steps), self.device)[0] / steps

    def idle(self, steps: int) -> float:
        """Return the device's idle share in the middle of an epoch, with workers ahead as in `seconds_each`."""
        self.load(self.planned)
        self._run(1)
        for _ in range(AHEAD * self.workers):
            next(self.batches)
        self._run(max(1, self.workers))
        return hardware.idle_share(self.step, steps, self.device)

    def _run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()


class Waiting(System):
    """A system that waits for the device after each step, as a training does that reads its loss there."""

    def step(self) -> None:
        super().step()
        wait(self.device)


def step(report: Report, setting: Setting, method: str, precision: str) -> None:
    """Report a training step's images/s, its share of the GPU's peak, and the GPU's idle share."""
    system = System(configuration(f"Synthetic/{method}.yml", keys_of(setting, MODEL__PRECISION=precision)))
    device, batch = system.device, system.cfg.SOLVER.IMS_PER_BATCH
    system.load(system.planned[:1])
    count = hardware.operations(system.step)
    steps = steps_of(setting)
    turns = range(1 if setting.rehearsal else 3)
    training, at_hand = median(system.seconds() for _ in turns), median(system.seconds_at_hand(steps) for _ in turns)
    for name, seconds in (("training", training), ("batches at hand", at_hand)):
        report(name, batch / seconds, "images/s", f"{1000 * seconds:.1f} ms per step")
    report("waiting for batches", waiting(system, system.planned, system.workers), "share")
    if device.type == "cuda":
        report("GPU memory", torch.cuda.max_memory_allocated(device) / 2**30, "GiB")
    shares_of_peak(report, setting, count / at_hand, device, PRECISIONS[precision] or torch.float32)
    idle = system.idle(steps)
    report("GPU idle", idle if setting.gpus else None, "share", "" if setting.gpus else "needs CUDA")


def steps_of(setting: Setting) -> int:
    """Return the number of measured steps; `System.planned` has batches for as many."""
    return 2 if setting.rehearsal else 10


def shares_of_peak(report: Report, setting: Setting, rate: float, device: torch.device, dtype: torch.dtype) -> None:
    """Report the peaks of matrix products and convolutions, and the share of each that a step reaches.

    Args:
        rate: operations per second of a step whose batch is at hand.
    """
    if setting.rehearsal:
        hardware.SIZES["cpu"] = 256
    for name, measure in (("matrix products", hardware.peak), ("convolutions", hardware.convolution_peak)):
        peak = measure(device, dtype, time.perf_counter)
        report(f"peak of {name}", peak / 1e12, "TFLOP/s")
        report(f"share of the peak of {name}", rate / peak, "share")


def optimisations(report: Report, setting: Setting) -> None:
    """Report the speed-up that each optimisation brings to a FANCL step, and prefetching to feature extraction.

    All systems take turns, so that other load on the machine slows all of them.
    """
    base = keys_of(setting, MODEL__PRECISION="bfloat16")
    changes = {"package": {}, **WITHOUT}
    systems = {what: System(configuration("Synthetic/fancl.yml", base | keys)) for what, keys in changes.items()}
    systems["no waiting"] = Waiting(systems["package"].cfg)
    if setting.gpus:
        systems["float16"] = System(configuration("Synthetic/fancl.yml", base | FLOAT16))
    steps, turns = steps_of(setting), range(1 if setting.rehearsal else 3)
    turns = [{what: system.seconds_at_hand(steps) for what, system in systems.items()} for _ in turns]
    seconds = {what: median(turn[what] for turn in turns) for what in systems}
    package = seconds.pop("package")
    if "float16" in seconds:
        speed_up(report, setting, "float16 instead of bfloat16", seconds.pop("float16"), package)
    for what, without in seconds.items():
        speed_up(report, setting, what, package, without)
    speed_up(report, setting, "features: prefetching", *prefetching(systems["package"]))


def prefetching(system: System) -> tuple[float, float]:
    """Return the seconds of feature extraction that sends the next batch while it waits for a result, and without."""
    send = extraction.send
    loader = feature_loader(system.dataset, system.cfg.TEST.IMS_PER_BATCH, system.workers)

    def at_once(sent):
        arrived = send(sent)()
        return lambda: arrived

    def run() -> float:
        return timed(lambda: extraction.extract_features(system.model, loader), system.device)[0]

    run()
    prefetched = run()
    with patch.object(extraction, "send", at_once):
        return prefetched, run()
