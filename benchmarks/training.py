"""A training step and an epoch: this package's Cluster Contrast and FANCL beside the released code's way of training.

    FASTREID_DATASETS=datasets python benchmarks/training.py [--config configs/SyntheticSmall] [--images 12936]

All systems run in one process. They take turns, so that other load on the machine affects all of them; the median turn
counts. Seconds are of the processor (`--clock cpu`, for one thread and no workers) or of the wall. Batches are loaded
in this process, within the step; with DATALOADER.NUM_WORKERS of the command line by workers, and a step is one in the
middle of an epoch. Weights are random, and the features that are clustered are made up: neither changes the time.

`gflop` are the operations of a step's convolutions and matrix products, of all encoders and both passes (with
SOLVER.MICRO_BATCHES also those computed again); the share of peak is how many a step does per second, over what large
matrix products do in the same precision in the same run; the share waiting is the part of a step in which batches are
waited for and the device does nothing. Prints Markdown; `--output NAME` also writes NAME.md and NAME.csv.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fastreid_fancl import load_config  # noqa: E402, I001 (fixes fast-reid before it is imported)
from fastreid.utils.events import EventStorage  # noqa: E402
from fastreid_fancl.data.loaders import ReIDDataset, feature_loader  # noqa: E402
from fastreid_fancl.data.samplers import cluster_batches  # noqa: E402
from fastreid_fancl.engine.features import extract_features  # noqa: E402
from fastreid_fancl.engine.labels import assign_labels  # noqa: E402
from fastreid_fancl.engine.estimate import PER_CLUSTER, clustered  # noqa: E402
from fastreid_fancl.engine.timing import batches_of, measured, seconds_each  # noqa: E402
from fastreid_fancl.engine.throughput import PRECISIONS  # noqa: E402
from fastreid_fancl.engine.trainer import Trainer  # noqa: E402
from fastreid.data.transforms import build_transforms  # noqa: E402
from fastreid_fancl.engine.record import setting  # noqa: E402
from clocks import timed  # noqa: E402
from hardware import Watched, operations, peak  # noqa: E402
from reference import Reference  # noqa: E402
from tables import Tables, add_output  # noqa: E402

FLOAT32, BFLOAT16 = (["MODEL.PRECISION", precision] for precision in ("float32", "bfloat16"))
SYSTEMS = {
    "Cluster Contrast": ("cluster_contrast", FLOAT32),
    "FANCL": ("fancl", FLOAT32),
    "Cluster Contrast, bfloat16": ("cluster_contrast", BFLOAT16),
    "FANCL, bfloat16": ("fancl", BFLOAT16),
}


class Own:
    """A method of this package as its trainer runs it."""

    def __init__(self, cfg):
        self.trainer = Trainer(cfg)
        self.cfg, self.dataset, self.model = cfg, self.trainer.data_loader.dataset, self.trainer.model
        self.precision, self.device, self.storage = cfg.MODEL.PRECISION, self.model.device, EventStorage()

    def features(self, numbers: list[int]) -> dict[str, torch.Tensor]:
        items = [self.dataset.img_items[n] for n in numbers]
        plain = ReIDDataset(items, build_transforms(self.cfg, is_train=False), read=self.dataset.read)
        loader = feature_loader(plain, self.cfg.TEST.IMS_PER_BATCH, self.cfg.DATALOADER.NUM_WORKERS)
        return extract_features(self.model, loader)

    def cluster(self, features: torch.Tensor) -> np.ndarray:
        unknown = np.full(len(features), -1)
        return assign_labels(features, unknown, None, self.cfg.PSEUDO_LABELS, lambda labels, *_: labels).labels

    def start(self, features: dict[str, torch.Tensor], targets: np.ndarray) -> None:
        self.targets = targets
        on_device = {name: values.to(self.device) for name, values in features.items()}
        self.model.start_epoch(on_device, torch.from_numpy(targets).to(self.device))
        self.model.train()

    def load(self, batches: np.ndarray, through: Callable[[Iterator], Iterator] = iter) -> None:
        self.trainer.data_loader.start(batches, 0, self.targets)
        self.batches = self.trainer._trainer._data_loader_iter = through(iter(self.trainer.data_loader))

    def step(self) -> None:
        with self.storage as self.trainer.storage:
            self.trainer.iter = self.storage.iter
            self.trainer.run_step()


def main() -> None:
    args = arguments()
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        systems = {name: Own(configuration(args, folder, *what)) for name, what in SYSTEMS.items()}
        first = systems["Cluster Contrast"]
        cfg, paths = first.cfg, [path for path, *_ in first.dataset.img_items]
        systems = {"released code's loop": Reference(cfg, paths, first.device), **systems}
        found = measure(systems, args, clock)
    images = args.images or len(paths)
    clustering = {name: cluster(systems[name], images, cfg, clock) for name in list(systems)[:2]}
    rows = table(found, clustering, images, cfg.SOLVER.IMS_PER_BATCH)
    report(rows, args, images, cfg, first.device)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/SyntheticSmall", help="folder of the two methods' files")
    parser.add_argument("--images", type=int, default=0, help="N of the epoch; 0 is the data set's")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--encoded", type=int, default=64, help="images whose features a turn takes")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    add_output(parser)
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE of the configuration")
    return parser.parse_args()


def configuration(args, folder: str, method: str, keys: list):
    own = ["OUTPUT_DIR", folder, "MODEL.WEIGHTS", "", "MODEL.BACKBONE.PRETRAIN", False, "DATALOADER.NUM_WORKERS", 0]
    return load_config(str(ROOT / args.config / f"{method}.yml"), [*own, *keys, *args.opts])


def cluster(system, images: int, cfg, clock) -> float:
    """Seconds of clustering made-up features, after a few that compile it."""
    features = clustered(images, cfg.MODEL.BACKBONE.FEAT_DIM, 0)
    system.cluster(features[:200])
    return timed(lambda: system.cluster(features), system.device, clock)[0]


def measure(systems: dict, args, clock) -> dict[str, dict[str, float]]:
    """The seconds of an image's `features` and of a `step` for each system, by the median turn.

    Also a step's `operations`, their `peak` per second, and the share of a step that is `waiting`.
    """
    cfg, images = systems["FANCL"].cfg, len(systems["FANCL"].dataset)
    targets, workers = np.arange(images) // PER_CLUSTER, cfg.DATALOADER.NUM_WORKERS
    sizes = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE
    batches = cluster_batches(targets, *sizes, batches_of(workers), 0)
    features = clustered(images, cfg.MODEL.BACKBONE.FEAT_DIM, 0)
    numbers = np.linspace(0, images - 1, args.encoded).astype(int).tolist()
    found = {}
    for name, system in systems.items():  # also warms up
        system.start(dict.fromkeys(("original", "noised", "fused"), features), targets)
        system.features(numbers)
        found[name] = {"waiting": waiting(system, batches, workers), "features": [], "step": []}
        system.load(batches[:1])
        found[name]["operations"] = operations(system.step)
    peaks = dict.fromkeys((system.precision for system in systems.values()), 0.0)
    for _ in range(args.turns):
        for precision in peaks:
            reached = peak(system.device, PRECISIONS[precision] or torch.float32, clock)
            peaks[precision] = max(peaks[precision], reached)
        for name, system in systems.items():
            seconds, _ = timed(partial(system.features, numbers), system.device, clock)
            found[name]["features"].append(seconds / args.encoded)
            found[name]["step"].append(steady_step(system, batches, workers, clock))
    for name, own in found.items():
        own |= {key: median(own[key]) for key in ("features", "step")}
        own["peak"] = peaks[systems[name].precision]
    return found


def steady_step(system, batches: np.ndarray, workers: int, clock, through: Callable = iter) -> float:
    """Seconds of a step in the middle of an epoch."""
    system.load(batches, through)
    return seconds_each(system.step, lambda: next(system.batches), workers, system.device, clock)


def waiting(system, batches: np.ndarray, workers: int) -> float:
    """The share of a step in which its batch is waited for and the device does nothing."""
    step = steady_step(system, batches, workers, time.perf_counter, partial(Watched, device=system.device))
    return mean(system.batches.seconds[-measured(workers) :]) / step


def table(found: dict, clustering: dict[str, float], images: int, batch: int) -> list[dict]:
    """A row a system, with the epoch that its parts make."""
    rows, of_own = [], clustering["Cluster Contrast"]
    for name, own in found.items():
        row = {"system": name, "step_ms": 1000 * own["step"], "images_per_s": batch / own["step"]}
        row |= {"gflop": own["operations"] / 1e9, "peak_gflop_per_s": own["peak"] / 1e9}
        row |= {"share_of_peak": own["operations"] / own["step"] / own["peak"], "share_waiting": own["waiting"]}
        row |= {"features_s": own["features"] * images, "clustering_s": clustering.get(name, of_own)}
        row["training_s"] = images // batch * own["step"]
        rows.append(row | {"epoch_s": row["features_s"] + row["clustering_s"] + row["training_s"]})
    for row in rows:
        row["times_faster"] = rows[0]["epoch_s"] / row["epoch_s"]
    return rows


def report(rows: list[dict], args, images: int, cfg, device: torch.device) -> None:
    """Print the table, and the ratio of FANCL's step to Cluster Contrast's."""
    tables = Tables(args.output, setting(device)["machine"], torch.get_num_threads())
    size, batch = " x ".join(map(str, cfg.INPUT.SIZE_TRAIN)), cfg.SOLVER.IMS_PER_BATCH
    tf32 = f"TF32 {'on' if torch.backends.cudnn.allow_tf32 else 'off'}, " if device.type == "cuda" else ""
    tables.say(f"ResNet-{cfg.MODEL.BACKBONE.DEPTH.rstrip('x')}, {images} images of {size} (H x W), batches of {batch},")
    tables.say(f"{tf32}{cfg.DATALOADER.NUM_WORKERS} workers, {args.clock} seconds, median of {args.turns} turns\n")
    tables.add(rows)
    steps = {row["system"]: row["step_ms"] for row in rows}
    tables.say(f"A FANCL step takes {steps['FANCL'] / steps['Cluster Contrast']:.2f} times one of Cluster Contrast, in")
    ratio = steps["FANCL, bfloat16"] / steps["Cluster Contrast, bfloat16"]
    tables.say(f"bfloat16 {ratio:.2f} times.")


if __name__ == "__main__":
    main()
