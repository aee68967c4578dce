"""Items of benchmarks/gpu.py about training steps: their speed, and two ways of doing a thing side by side."""

import time
from itertools import cycle
from statistics import median
from unittest.mock import patch

import hardware
import numpy as np
import torch
from gpu_items import configuration, keys_of, timed, verdict
from gpu_plan import Report, Setting
from training import Own, steady_step, waiting

from fastreid_fancl.data.loaders import feature_loader
from fastreid_fancl.data.samplers import cluster_batches
from fastreid_fancl.engine import hooks
from fastreid_fancl.engine.plan import AHEAD, PER_CLUSTER, batches_of, clustered, wait
from fastreid_fancl.engine.throughput import PRECISIONS

AT_HAND = 4  # batches
STEPS = {True: 2, False: 10}  # that are measured, by whether it is a rehearsal: within `planned`
WAYS = {  # what the package does, and the keys of a FANCL step without it
    "channels_last": {"MODEL.CHANNELS_LAST": False},
    "fused optimiser": {"SOLVER.FUSED": False},
    "bfloat16 instead of float32": {"MODEL.PRECISION": "float32"},
}
FLOAT16 = {"MODEL.PRECISION": "float32", "SOLVER.AMP.ENABLED": True}


class System(Own):
    """A method on a training set with made-up clusters, ready for steps."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self.workers, images = cfg.DATALOADER.NUM_WORKERS, len(self.dataset)
        targets = np.arange(images) // PER_CLUSTER if images > 200 else np.arange(images) // 8
        sizes = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE
        self.planned = cluster_batches(targets, *sizes, batches_of(self.workers), 0)
        features = clustered(images, cfg.MODEL.BACKBONE.FEAT_DIM, 0)
        self.start(dict.fromkeys(("original", "noised", "fused"), features), targets)

    def seconds(self) -> float:
        """Of a step in the middle of an epoch, its batch loaded by workers."""
        return steady_step(self, self.planned, self.workers, time.perf_counter)

    def seconds_at_hand(self, steps: int) -> float:
        """Of a step whose batch is in the host's memory already."""
        self.load(self.planned[:AT_HAND])
        loaded = cycle([next(self.batches) for _ in self.planned[:AT_HAND]])
        self.batches = self.trainer._trainer._data_loader_iter = (dict(batch) for batch in loaded)
        self._run(2)
        return timed(lambda: self._run(steps), self.device)[0] / steps

    def idle(self, steps: int) -> float:
        """The device's idle share in the middle of an epoch, when workers are ahead as `seconds_each` has them."""
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
    """As a training that reads its loss after each step."""

    def step(self) -> None:
        super().step()
        wait(self.device)


def step(report: Report, setting: Setting, method: str, precision: str) -> None:
    """Images/s of a training step, its share of what the GPU can do, and the GPU's idle share."""
    system = System(configuration(f"Synthetic/{method}.yml", keys_of(setting, MODEL__PRECISION=precision)))
    device, batch = system.device, system.cfg.SOLVER.IMS_PER_BATCH
    system.load(system.planned[:1])
    count = hardware.operations(system.step)
    steps = STEPS[setting.rehearsal]
    for name, measure in (("training", system.seconds), ("batches at hand", lambda: system.seconds_at_hand(steps))):
        seconds = median(measure() for _ in range(1 if setting.rehearsal else 3))
        report(name, batch / seconds, "images/s", f"{1000 * seconds:.1f} ms a step")
    report("waiting for batches", waiting(system, system.planned, system.workers), "share")
    if device.type == "cuda":
        report("GPU memory", torch.cuda.max_memory_allocated(device) / 2**30, "GiB")
    shares_of_peak(report, setting, count / seconds, device, PRECISIONS[precision] or torch.float32)
    idle = system.idle(steps)
    report("GPU idle", idle if setting.gpus else None, "share", "" if setting.gpus else "needs CUDA")


def shares_of_peak(report: Report, setting: Setting, rate: float, device: torch.device, dtype: torch.dtype) -> None:
    """What a step with its batch at hand does of the operations a second that products and convolutions reach."""
    if setting.rehearsal:
        hardware.SIZES["cpu"] = 256
    for name, measure in (("matrix products", hardware.peak), ("convolutions", hardware.convolution_peak)):
        most = measure(device, dtype, time.perf_counter)
        report(f"peak of {name}", most / 1e12, "TFLOP/s")
        report(f"share of that of {name}", rate / most, "share")


def ways(report: Report, setting: Setting) -> None:
    """Two ways of a FANCL step side by side, turn by turn, and of taking features."""
    base = keys_of(setting, MODEL__PRECISION="bfloat16")
    systems = {"package": System(configuration("Synthetic/fancl.yml", base))}
    systems |= {what: System(configuration("Synthetic/fancl.yml", {**base, **keys})) for what, keys in WAYS.items()}
    systems["no waiting"] = Waiting(systems["package"].cfg)
    if setting.gpus:
        systems["float16"] = System(configuration("Synthetic/fancl.yml", {**base, **FLOAT16}))
    steps, turns = STEPS[setting.rehearsal], range(1 if setting.rehearsal else 3)
    turns = [{what: system.seconds_at_hand(steps) for what, system in systems.items()} for _ in turns]
    seconds = {what: median(turn[what] for turn in turns) for what in systems}
    package = seconds.pop("package")
    if "float16" in seconds:
        verdict(report, setting, "float16 instead of bfloat16", seconds.pop("float16"), package)
    for what, without in seconds.items():
        verdict(report, setting, what, package, without)
    verdict(report, setting, "features: the next batch under way", *features_both_ways(systems["package"]))


def features_both_ways(system: System) -> tuple[float, float]:
    """Seconds of features with the next batch under way while one's are waited for, and without."""
    send = hooks.send
    loader = feature_loader(system.dataset, system.cfg.TEST.IMS_PER_BATCH, system.workers)

    def at_once(features):
        arrived = send(features)()
        return lambda: arrived

    def run() -> float:
        return timed(lambda: hooks.extract_features(system.model, loader), system.device)[0]

    run()
    with_next = run()
    with patch.object(hooks, "send", at_once):
        return with_next, run()
