"""Estimate what a run needs: time a few real steps, the features of a few batches, and one clustering.

Shapes: N training images, D feature dimensions.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import gcd, prod
from pathlib import Path

import numpy as np
import torch
from fastreid.data.transforms import build_transforms
from fastreid.utils.events import EventStorage
from torch import Tensor

from ..compat.model import own_batch
from ..data.cache import GIB, image_reader
from ..data.loaders import ReIDDataset, feature_loader
from ..data.samplers import cluster_batches
from ..local.cost import local_cost
from .evaluation import protocol
from .fused import uses_local
from .labels import assign_labels, clustering_device
from .record import peak_memory, peak_resident
from .timing import MEASURED, batches_of, seconds, seconds_each, wait
from .trainer import Trainer, check_data, is_unsupervised, scores_groups

PER_CLUSTER = 20
SPECTRUM = 0.6  # gives made-up features as many near pairs as those of trained encoders have
WARM_UP = 200  # made-up features of the first clustering, which loads and compiles its code
BYTES_RANKED = 5  # of a query and a gallery image: their distance, and whether it is a number


@dataclass(frozen=True)
class Phase:
    """A part of a run that happens `times` times and takes `seconds` each time."""

    name: str
    times: int
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """The time, memory and disk that a run is expected to take.

    Attributes:
        memory: peak GiB of one process: resident, None where that is unknown, and of its GPU where there is one.
        disk: GiB of all checkpoints and of the decoded photographs.
    """

    phases: tuple[Phase, ...]
    memory: tuple[float | None, float | None]
    disk: tuple[float, float]

    @property
    def seconds(self) -> float:
        """Seconds of all phases."""
        return sum(phase.times * phase.seconds for phase in self.phases)

    def __str__(self):
        rows = [(phase.name, phase.times, phase.seconds, phase.times * phase.seconds / 60) for phase in self.phases]
        table = [f"| {name} | {times} | {seconds:.3g} | {minutes:.3g} |" for name, times, seconds, minutes in rows]
        resident = "unknown" if self.memory[0] is None else f"{self.memory[0]:.2f} GiB"
        gpu = "" if self.memory[1] is None else f", {self.memory[1]:.2f} GiB of its GPU"
        return "\n".join(
            [
                "| phase | times | seconds each | minutes |\n|---|---|---|---|",
                *table,
                f"| the run | | | {self.seconds / 60:.3g} |\n",
                f"Memory of a process: {resident}{gpu}.",
                f"Disk: {self.disk[0]:.2f} GiB of checkpoints, {self.disk[1]:.2f} GiB of decoded photographs.",
                "Not counted: the start, which checks and once decodes every photograph; the ranking of evaluations;",
                "and checkpoints of a best epoch after the first.",
            ]
        )


def estimate_run(cfg, processes: int = 1) -> Estimate:
    """Rehearse a run on this process, in a temporary folder.

    With several processes it rehearses the share of one; their communication is left out.

    Raises:
        UserError: on input with which the run would not start either.
    """
    check_data(cfg)
    with tempfile.TemporaryDirectory() as folder:
        rehearsal = Rehearsal(cfg, processes, folder)
        phases = tuple(rehearsal.phases())
        return Estimate(phases, rehearsal.memory(), rehearsal.disk())


class Rehearsal:
    """The trainer of one of a run's processes, whose phases are measured."""

    def __init__(self, cfg, processes: int, folder: str):
        self.cfg, self.processes, self.folder = cfg, processes, Path(folder)
        self.trainer = Trainer(config_of_one_process(cfg, processes, folder))
        self.trainer.resume_or_load(resume=False)
        self.model, self.dataset = self.trainer.model, self.trainer.data_loader.dataset
        self.tests = [protocol(cfg, name) for name in cfg.DATASETS.TESTS]
        self.tested = sum(len(test.photographs) for test in self.tests)
        self.images, self.workers = len(self.dataset), cfg.DATALOADER.NUM_WORKERS
        self.batches = cluster_batches(
            np.arange(self.images), self.trainer.cfg.SOLVER.IMS_PER_BATCH, 1, 1 + MEASURED, cfg.SEED
        )
        self.checkpoint = self.folder / "rehearsal.pth"
        self.keypoints = 0  # bytes of all photographs
        # The best checkpoint stays beside the numbered ones, in a file of its own.
        self.checkpoints = periods(cfg.SOLVER.MAX_EPOCH, cfg.SOLVER.CHECKPOINT_PERIOD)
        self.checkpoints += bool(self.tests) or scores_groups(cfg)

    def phases(self) -> Iterator[Phase]:
        """Yield every phase of the run; each is measured when it is asked for."""
        cfg = self.cfg
        self._read_as_the_run_will()
        if is_unsupervised(cfg):
            yield from self._before_epochs()
        iterations = cfg.SOLVER.ITERS_PER_EPOCH or max(1, self.images // cfg.SOLVER.IMS_PER_BATCH)
        yield Phase("training", cfg.SOLVER.MAX_EPOCH, iterations * self._step())
        if self.tests:
            evaluations = periods(cfg.SOLVER.MAX_EPOCH, cfg.TEST.EVAL_PERIOD)
            each, _ = self._encode(self._evaluated)
            yield Phase("evaluation", evaluations, each * self.tested / self.processes)
        save = seconds(lambda: self.trainer.checkpointer.save(self.checkpoint.stem))
        yield Phase("checkpoint", self.checkpoints, save)

    def memory(self) -> tuple[float | None, float | None]:
        """GiB resident, with the distances of the largest test, and of the GPU where there is one."""
        device = self.model.device
        ranked = max((BYTES_RANKED * len(test.query) * len(test.gallery) for test in self.tests), default=0)
        resident = peak_resident()
        if resident is not None:
            resident += (ranked + self.keypoints) / GIB
        return resident, peak_memory(device) if device.type == "cuda" else None

    def disk(self) -> tuple[float, float]:
        """GiB of checkpoints and of decoded photographs."""
        sizes = ((self.images, self.cfg.INPUT.SIZE_TRAIN), (self.tested, self.cfg.INPUT.SIZE_TEST))
        files = [3 * number * prod(size) / GIB for number, size in sizes]
        decoded = sum(gib for gib in files if gib <= self.cfg.DATALOADER.CACHE_GIB)
        return self.checkpoints * self.checkpoint.stat().st_size / GIB, decoded

    def _read_as_the_run_will(self) -> None:
        """Decode the photographs of the rehearsal beforehand, if the run will decode all of its own once."""
        dataset = self.dataset
        transforms = [dataset.transform, *dataset.views.values()]
        if 3 * self.images * prod(self.cfg.INPUT.SIZE_TRAIN) <= self.cfg.DATALOADER.CACHE_GIB * GIB:
            paths = [dataset.img_items[n][0] for n in np.unique(self.batches)]
            dataset.read = image_reader(paths, transforms, self.cfg.DATALOADER.CACHE_GIB, self.folder)

    def _before_epochs(self) -> Iterator[Phase]:
        """Features, clustering and memory; leaves the method as it is after the beginning of an epoch."""
        cfg, device = self.cfg, self.model.device
        each, features = self._encode(self.model.cluster_features)
        made_up = {name: clustered(self.images, values.shape[1], cfg.SEED) for name, values in features.items()}
        clustering = self._cluster(made_up["original"])
        labels = torch.arange(self.images, device=device) // PER_CLUSTER
        banks = {name: values.to(device) for name, values in made_up.items()}

        def fill():
            self.model.start_epoch(banks, labels)
            wait(device)

        memory = seconds(fill)
        self.model.epoch = 1
        encoded, epochs, scored = cfg.SOLVER.MAX_EPOCH, cfg.SOLVER.MAX_EPOCH, int(scores_groups(cfg))
        if self.model.stored_features() is not None:  # each label-free score then encodes and groups by itself
            encoded, scored = 1, scored * periods(epochs, cfg.TEST.EVAL_PERIOD)
        yield Phase("features", encoded + scored, each * self.images / self.processes)
        if uses_local(cfg.PSEUDO_LABELS):
            yield from self._local_matches()
        yield Phase("clustering", epochs + scored, clustering)
        yield Phase("memory", cfg.SOLVER.MAX_EPOCH, memory)

    def _local_matches(self) -> Iterator[Phase]:
        """Keypoints and their search, and the pairs of the first epoch; later epochs verify the few that are new."""
        paths = [path for path, *_ in self.dataset.img_items]
        cost = local_cost(paths, self.images, self.cfg.PSEUDO_LABELS.K1)
        self.keypoints = cost.bytes
        yield Phase("keypoints", 1, cost.keypoints)
        yield Phase("local matches", 1, cost.matches)

    def _cluster(self, features: Tensor) -> float:
        """Seconds of one clustering of features (N, D), after a small one that loads or compiles its code."""
        device = clustering_device(self.cfg.PSEUDO_LABELS, self.model.device)

        def cluster(features: Tensor):
            identities = np.arange(len(features)) // PER_CLUSTER  # the oracle reads them
            assign_labels(features.to(device), identities, None, self.cfg.PSEUDO_LABELS, lambda labels, *_: labels)

        cluster(clustered(WARM_UP, features.shape[1], self.cfg.SEED))
        return seconds(lambda: cluster(features))

    def _evaluated(self, batch: dict) -> Tensor:
        """What an evaluation keeps of a batch."""
        features = self.model(batch)
        if self.cfg.TEST.FLIP.ENABLED:
            features = features + self.model(batch | {"images": batch["images"].flip(3)})
        return features

    def _encode(self, encode: Callable) -> tuple[float, dict[str, Tensor] | Tensor]:
        """Seconds that an image takes to load and encode, and the features of the last batch."""
        numbers = np.unique(self.batches)
        size = min(self.trainer.cfg.TEST.IMS_PER_BATCH, -(-len(numbers) // MEASURED))
        items = [self.dataset.img_items[n] for n in np.resize(numbers, size * batches_of(self.workers))]
        plain = ReIDDataset(items, build_transforms(self.cfg, is_train=False), read=self.dataset.read)
        batches = iter(feature_loader(plain, size, self.workers))
        features = None

        def step():
            nonlocal features
            features = encode(own_batch(self.model, (next(batches),))[0])
            wait(self.model.device)  # as copying features to the CPU does

        self.model.eval()
        with torch.no_grad():
            each = seconds_each(step, lambda: next(batches), self.workers, self.model.device)
        self.model.train()
        return each / size, features

    def _step(self) -> float:
        """Seconds of a training step with its batch."""
        trainer = self.trainer
        made_up = np.arange(self.images) // PER_CLUSTER if is_unsupervised(self.cfg) else None
        batches = np.resize(self.batches, (batches_of(self.workers), self.batches.shape[1]))
        trainer.data_loader.start(batches, 0, made_up)
        with EventStorage() as trainer.storage:
            trainer.iter = 0
            return seconds_each(trainer.run_step, lambda: next(trainer.data_loader), self.workers, self.model.device)


def config_of_one_process(cfg, processes: int, folder: str):
    """The configuration of one of several processes, which writes to `folder` and decodes nothing beforehand."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR, cfg.DATALOADER.CACHE_GIB = folder, 0.0
    cfg.SOLVER.IMS_PER_BATCH //= processes
    # Whole groups are a rule for the batches of all processes together.
    cfg.DATALOADER.NUM_INSTANCE = gcd(cfg.DATALOADER.NUM_INSTANCE, cfg.SOLVER.IMS_PER_BATCH)
    cfg.TEST.IMS_PER_BATCH //= processes
    cfg.freeze()
    return cfg


def periods(epochs: int, period: int) -> int:
    """How often a run does what it does every `period` epochs and after the last one; once if `period` is 0 or less."""
    return -(-epochs // period) if period > 0 else 1


def clustered(rows: int, dimensions: int, seed: int) -> Tensor:
    """Made-up unit features (rows, dimensions) in clusters of PER_CLUSTER; dimension d varies as d^-SPECTRUM."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(-(-rows // PER_CLUSTER), dimensions, generator=generator)
    near = centres.repeat_interleave(PER_CLUSTER, dim=0)[:rows]
    spectrum = torch.arange(1, dimensions + 1) ** -SPECTRUM
    return torch.nn.functional.normalize(spectrum * (near + torch.randn(rows, dimensions, generator=generator)), dim=1)
