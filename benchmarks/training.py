"""A training step and an epoch: this package's Cluster Contrast and FANCL beside the released code's way of training.

    FASTREID_DATASETS=datasets python benchmarks/training.py [--config configs/SyntheticSmall] [--images 12936]

All systems run in one process without workers, turn by turn, and the median turn counts, so that what else the machine
does weighs on all. Seconds are of the processor (`--clock cpu`, for one thread) or of the wall. Weights are random, and
the features that are clustered are made up: neither changes the time. Prints Markdown; `--csv FILE` writes a table.
"""

import argparse
import csv
import platform
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fastreid_fancl import load_config  # noqa: E402, I001 (mends fast-reid before it is imported)
from fastreid.utils.events import EventStorage  # noqa: E402
from fastreid_fancl.data.loaders import ReIDDataset, feature_loader  # noqa: E402
from fastreid_fancl.data.samplers import cluster_batches  # noqa: E402
from fastreid_fancl.engine.hooks import extract_features  # noqa: E402
from fastreid_fancl.engine.labels import assign_labels  # noqa: E402
from fastreid_fancl.engine.plan import PER_CLUSTER, clustered  # noqa: E402
from fastreid_fancl.engine.trainer import Trainer  # noqa: E402
from fastreid.data.transforms import build_transforms  # noqa: E402
from clustering import processor, versions  # noqa: E402
from reference import Reference  # noqa: E402

BFLOAT16 = ["MODEL.PRECISION", "bfloat16"]
SYSTEMS = {
    "Cluster Contrast": ("cluster_contrast", []),
    "FANCL": ("fancl", []),
    "Cluster Contrast, bfloat16": ("cluster_contrast", BFLOAT16),
    "FANCL, bfloat16": ("fancl", BFLOAT16),
}


class Own:
    """A method of this package as its trainer runs it."""

    def __init__(self, cfg):
        self.trainer = Trainer(cfg)
        self.cfg, self.dataset, self.model = cfg, self.trainer.data_loader.dataset, self.trainer.model
        self.storage = EventStorage()

    def features(self, numbers: list[int]) -> dict[str, torch.Tensor]:
        items = [self.dataset.img_items[n] for n in numbers]
        plain = ReIDDataset(items, build_transforms(self.cfg, is_train=False), read=self.dataset.read)
        loader = feature_loader(plain, self.cfg.TEST.IMS_PER_BATCH, self.cfg.DATALOADER.NUM_WORKERS)
        return extract_features(self.model, loader)

    def cluster(self, features: torch.Tensor) -> np.ndarray:
        unknown = np.full(len(features), -1)
        return assign_labels(features, unknown, None, self.cfg.PSEUDO_LABELS, lambda labels, *_: labels).labels

    def start(self, features: dict[str, torch.Tensor], targets: np.ndarray, batches: np.ndarray) -> None:
        self.model.start_epoch(features, torch.from_numpy(targets).to(self.model.device))
        self.trainer.data_loader.start(batches, 0, targets)
        self.model.train()

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
        paths = [path for path, *_ in first.dataset.img_items]
        systems = {"released code's loop": Reference(first.cfg, paths, first.cfg.MODEL.DEVICE), **systems}
        spent = measure(systems, args, clock)
        images = args.images or len(paths)
        batch = first.cfg.SOLVER.IMS_PER_BATCH
    clustering = {name: cluster(systems[name], images, first.cfg, clock) for name in list(systems)[:2]}
    rows = table(spent, clustering, images, batch)
    report(rows, args, images, batch, first.cfg)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/SyntheticSmall", help="folder of the two methods' files")
    parser.add_argument("--images", type=int, default=0, help="N of the epoch; 0 is the data set's")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--encoded", type=int, default=64, help="images whose features a turn takes")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--csv", help="file to write")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE of the configuration")
    return parser.parse_args()


def configuration(args, folder: str, method: str, keys: list):
    own = ["OUTPUT_DIR", folder, "MODEL.WEIGHTS", "", "MODEL.BACKBONE.PRETRAIN", False, "DATALOADER.NUM_WORKERS", 0]
    return load_config(str(ROOT / args.config / f"{method}.yml"), [*own, *keys, *args.opts])


def cluster(system, images: int, cfg, clock) -> float:
    """Seconds of clustering made-up features, after a few that compile it."""
    features = clustered(images, cfg.MODEL.BACKBONE.FEAT_DIM, 0)
    system.cluster(features[:200])
    return seconds(clock, system.cluster, features)


def measure(systems: dict, args, clock) -> dict[str, dict[str, list[float]]]:
    """Seconds of an image's features and of a step, of each system and turn; the first turn warms up."""
    cfg, images = systems["FANCL"].cfg, len(systems["FANCL"].dataset)
    targets = np.arange(images) // PER_CLUSTER
    batches = cluster_batches(targets, cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE, args.turns + 1, 0)
    features = clustered(images, cfg.MODEL.BACKBONE.FEAT_DIM, 0)
    found = {name: {"features": [], "step": []} for name in systems}
    for system in systems.values():
        system.start(dict.fromkeys(("original", "noised", "fused"), features), targets, batches)
    numbers = np.linspace(0, images - 1, args.encoded).astype(int).tolist()
    for turn in range(args.turns + 1):
        for name, system in systems.items():
            encoding = seconds(clock, system.features, numbers) / args.encoded
            step = seconds(clock, system.step)
            if turn:
                found[name]["features"].append(encoding)
                found[name]["step"].append(step)
    return found


def seconds(clock, function, *args) -> float:
    """Of one call, the device's work included."""
    began = clock()
    function(*args)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - began


def table(spent: dict, clustering: dict[str, float], images: int, batch: int) -> list[dict]:
    """A row a system: medians, and the epoch that they make."""
    rows, of_own = [], clustering["Cluster Contrast"]
    for name, turns in spent.items():
        step, encoding = median(turns["step"]), median(turns["features"])
        row = {"system": name, "step_ms": 1000 * step, "features_s": encoding * images}
        row |= {"clustering_s": clustering.get(name, of_own), "training_s": images // batch * step}
        rows.append(row | {"epoch_s": row["features_s"] + row["clustering_s"] + row["training_s"]})
    for row in rows:
        row["times_faster"] = rows[0]["epoch_s"] / row["epoch_s"]
    return rows


def report(rows: list[dict], args, images: int, batch: int, cfg) -> None:
    """Print the table, and the ratio of FANCL's step to Cluster Contrast's; write the CSV."""
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
    size = " x ".join(map(str, cfg.INPUT.SIZE_TRAIN))
    print(f"ResNet-{cfg.MODEL.BACKBONE.DEPTH.rstrip('x')}, {images} images of {size} (H x W), batches of {batch};")
    print(f"{machine}, {torch.get_num_threads()} threads, {args.clock} seconds, median of {args.turns} turns;")
    print(f"Python {platform.python_version()}, {versions()}\n")
    names = list(rows[0])
    print("| " + " | ".join(name.replace("_", " ") for name in names) + " |\n" + "|---" * len(names) + "|")
    for row in rows:
        print("| " + " | ".join([row["system"], *(f"{row[name]:.3g}" for name in names[1:])]) + " |")
    steps = {row["system"]: row["step_ms"] for row in rows}
    print(f"\nA FANCL step takes {steps['FANCL'] / steps['Cluster Contrast']:.2f} times one of Cluster Contrast.")
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, [*names, "machine", "versions"])
            writer.writeheader()
            writer.writerows({**row, "machine": machine, "versions": versions()} for row in rows)


if __name__ == "__main__":
    main()
