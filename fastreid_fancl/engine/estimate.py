"""What a run will take, by a rehearsal: a few real steps, features of a few batches, a clustering of made-up features.

Shapes: N training images, D feature dimensions.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import gcd, prod
from pathlib import Path

import numpy as np
import torch
from fastreid.data.transforms import build_transforms
from fastreid.evaluation import ReidEvaluator
from fastreid.utils.events import EventStorage
from torch import Tensor

from ..clustering.neighbors.cost import SearchCost, cheapest
from ..compat.model import own_batch
from ..data.cache import GIB, image_reader
from ..data.loaders import ReIDDataset, feature_loader
from ..data.samplers import cluster_batches
from .evaluation import group_test, protocol
from .labels import assign_labels, clustering_device, distance_options
from .record import peak_memory, peak_resident
from .trainer import Trainer, check_data, is_unsupervised

MOST_IMAGES = 4000  # of N, in the rehearsal
PER_CLUSTER = 20
SPECTRUM = 0.6  # of made-up features: with it as many pairs are near as in those of trained encoders
MEASURED = 6  # steps, and batches to encode, at least
AHEAD = 2  # batches that PyTorch's loader has each worker load beforehand
BYTES_RANKED = 5  # of a query and a gallery image: their distance, and whether it is a number
COPIES = 3  # of all features: by batch, as a whole, in a memory bank


@dataclass(frozen=True)
class Phase:
    """What happens `times` times in a run and takes so many seconds each time."""

    name: str
    times: int
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take: one of its processes, but the disk all.

    Attributes:
        memory: GiB resident at most, and of the GPU where there is one.
        disk: GiB of checkpoints, and of decoded photographs.
    """

    phases: tuple[Phase, ...]
    memory: tuple[float, float | None]
    disk: tuple[float, float]

    @property
    def seconds(self) -> float:
        """Of all phases."""
        return sum(phase.times * phase.seconds for phase in self.phases)

    def __str__(self):
        rows = [(phase.name, phase.times, phase.seconds, phase.times * phase.seconds / 60) for phase in self.phases]
        table = [f"| {name} | {times} | {seconds:.3g} | {minutes:.3g} |" for name, times, seconds, minutes in rows]
        gpu = "" if self.memory[1] is None else f", {self.memory[1]:.2f} GiB of its GPU"
        return "\n".join(
            [
                "| phase | times | seconds each | minutes |\n|---|---|---|---|",
                *table,
                f"| the run | | | {self.seconds / 60:.3g} |\n",
                f"Memory of a process: {self.memory[0]:.2f} GiB{gpu}.",
                f"Disk: {self.disk[0]:.2f} GiB of checkpoints, {self.disk[1]:.2f} GiB of decoded photographs.",
                "The start is not in it; the first one also checks and decodes every photograph.",
                "The first clustering on a machine compiles; if it was this plan's, the run saves that time.",
            ]
        )


def estimate_run(cfg, processes: int = 1) -> Estimate:
    """Rehearse a run on this process, in a folder that goes away.

    Of several processes it is one's share; what they say to each other is left out.

    Raises:
        ValueError: on input with which the run would not start either.
    """
    check_data(cfg)
    with tempfile.TemporaryDirectory() as folder:
        rehearsal = Rehearsal(cfg, processes, folder)
        phases = tuple(rehearsal.phases())
        return Estimate(phases, rehearsal.memory(), rehearsal.disk())


class Rehearsal:
    """A trainer of one of a run's processes, and what its phases take."""

    def __init__(self, cfg, processes: int, folder: str):
        self.cfg, self.processes, self.folder = cfg, processes, Path(folder)
        self.trainer = Trainer(config_of_one_process(cfg, processes, folder))
        self.trainer.resume_or_load(resume=False)
        self.model, self.dataset = self.trainer.model, self.trainer.data_loader.dataset
        tests = [protocol(cfg, name) for name in cfg.DATASETS.TESTS]
        self.tests = [(len(test.query), len(test.gallery)) for test in tests]
        self.photographs = [len(test.photographs) for test in tests]
        self.tested = sum(self.photographs)
        self.images = len(self.dataset)
        self.sample = min(self.images, MOST_IMAGES)
        self.workers = cfg.DATALOADER.NUM_WORKERS
        self.batches = cluster_batches(
            np.arange(self.sample), self.trainer.cfg.SOLVER.IMS_PER_BATCH, 1, 1 + MEASURED, cfg.SEED
        )
        self.extra = self.extra_gpu = 0  # bytes of what is larger in the run
        self.passing = 0  # those of the largest phase, on the CPU
        self.checkpoint = self.folder / "rehearsal.pth"

    def phases(self) -> Iterator[Phase]:
        """Every phase of the run, measured as it is asked for."""
        cfg = self.cfg
        self._read_as_the_run_will()
        if is_unsupervised(cfg):
            yield from self._before_epochs()
        iterations = cfg.SOLVER.ITERS_PER_EPOCH or max(1, self.images // cfg.SOLVER.IMS_PER_BATCH)
        yield Phase("training", cfg.SOLVER.MAX_EPOCH, iterations * self._step())
        written = self._numbered()
        if self.tests:
            evaluations = periods(cfg.SOLVER.MAX_EPOCH, cfg.TEST.EVAL_PERIOD)
            each, features = self._encode(self._evaluated)
            ranking = sum(self._rank(*sizes, features.shape[1]) for sizes in self.tests)
            grouping = sum(self._group(images, features.shape[1]) for images in self.photographs)
            yield Phase("evaluation", evaluations, each * self.tested / self.processes + ranking + grouping)
            written += 1 + min(evaluations, written) // 2  # the best anew: once at least, each time at most
        yield Phase("checkpoint", written, seconds(lambda: self.trainer.checkpointer.save(self.checkpoint.stem)))

    def memory(self) -> tuple[float, float | None]:
        """GiB resident and of the GPU."""
        device = self.model.device
        on_gpu = peak_memory(device) + self.extra_gpu / GIB if device.type == "cuda" else None
        return peak_resident() + (self.extra + self.passing) / GIB, on_gpu

    def disk(self) -> tuple[float, float]:
        """GiB of checkpoints and of decoded photographs."""
        sizes = ((self.images, self.cfg.INPUT.SIZE_TRAIN), (self.tested, self.cfg.INPUT.SIZE_TEST))
        files = [3 * number * prod(size) / GIB for number, size in sizes]
        decoded = sum(gib for gib in files if gib <= self.cfg.DATALOADER.CACHE_GIB)
        checkpoints = self._numbered() + bool(self.tests)  # and the best
        return checkpoints * self.checkpoint.stat().st_size / GIB, decoded

    def _numbered(self) -> int:
        """Checkpoints that stay beside the best one."""
        return periods(self.cfg.SOLVER.MAX_EPOCH, self.cfg.SOLVER.CHECKPOINT_PERIOD)

    def _read_as_the_run_will(self) -> None:
        """Where the run will decode the photographs once, decode those of the rehearsal beforehand."""
        dataset = self.dataset
        transforms = [dataset.transform, *dataset.views.values()]
        if 3 * self.images * prod(self.cfg.INPUT.SIZE_TRAIN) <= self.cfg.DATALOADER.CACHE_GIB * GIB:
            paths = [dataset.img_items[n][0] for n in np.unique(self.batches)]
            dataset.read = image_reader(paths, transforms, self.cfg.DATALOADER.CACHE_GIB, self.folder)

    def _before_epochs(self) -> Iterator[Phase]:
        """Features and clustering; leaves the method as it is after the beginning of an epoch."""
        each, features = self._encode(self.model.cluster_features)
        made_up = {name: clustered(self.sample, values.shape[1], self.cfg.SEED) for name, values in features.items()}
        labels = torch.arange(self.sample, device=self.model.device) // PER_CLUSTER
        clustering = self._cluster(made_up["original"])
        banks = {name: values.to(self.model.device) for name, values in made_up.items()}
        self.model.start_epoch(banks, labels)
        larger = 4 * (self.images - self.sample) * sum(values.shape[1] for values in made_up.values())
        self.extra, self.extra_gpu = self.extra + COPIES * larger, self.extra_gpu + larger
        self.model.epoch = 1
        kept = self.model.stored_features() is not None
        yield Phase("features", 1 if kept else self.cfg.SOLVER.MAX_EPOCH, each * self.images / self.processes)
        yield Phase("clustering", self.cfg.SOLVER.MAX_EPOCH, clustering)
        if self.model.searches:  # without, banks take milliseconds
            yield Phase("memory", self.cfg.SOLVER.MAX_EPOCH, self._fill(banks, labels))

    def _fill(self, features: dict[str, Tensor], labels: Tensor) -> float:
        """Seconds of all images' memory banks, which grow as N, but for searches of neighbours."""

        def run():
            self.model.start_epoch(features, labels)
            wait(self.model.device)

        known, whole = (self.model.searches * search.seconds for search in self._searches(features["original"]))
        return whole + max(0.0, seconds(run) - known) * self.images / self.sample

    def _searches(self, features: Tensor) -> tuple[SearchCost, SearchCost]:
        """What a search of neighbours takes among the sample, and among all images."""
        options, device = self.cfg.PSEUDO_LABELS, clustering_device(self.cfg.PSEUDO_LABELS, features.device)
        block = distance_options(options)["block_bytes"]
        return tuple(
            cheapest(rows, features.shape[1], options.K1 + 1, device, block) for rows in (self.sample, self.images)
        )

    def _cluster(self, features: Tensor) -> float:
        """Seconds of all images' clustering: the search's grow as its plan says, those of the rest as N.

        What the first one takes to load or compile its code is shared out among the epochs.
        """
        features = features.to(clustering_device(self.cfg.PSEUDO_LABELS, self.model.device))
        unknown = np.full(len(features), -1)

        def run():
            assign_labels(features, unknown, None, self.cfg.PSEUDO_LABELS, lambda labels, *_: labels)

        first, taken = seconds(run), seconds(run)
        once = max(0.0, first - taken) / self.cfg.SOLVER.MAX_EPOCH
        if self.images == self.sample:
            return taken + once
        known, whole = self._searches(features)
        if features.device.type == "cpu":
            self.passing = max(self.passing, whole.bytes)
        else:
            self.extra_gpu += whole.bytes
        return whole.seconds + max(0.0, taken - known.seconds) * self.images / self.sample + once

    def _evaluated(self, batch: dict) -> Tensor:
        """What an evaluation keeps of a batch."""
        features = self.model(batch)
        if self.cfg.TEST.FLIP.ENABLED:
            features = features + self.model(batch | {"images": batch["images"].flip(3)})
        return features

    def _rank(self, queries: int, gallery: int, dimensions: int) -> float:
        """Seconds of the stock evaluator with a test's images, by made-up features of no more than MOST_IMAGES."""
        few, most = min(queries, MOST_IMAGES // 8), min(gallery, MOST_IMAGES)
        evaluator = ReidEvaluator(self.cfg, few)
        features = clustered(few + most, dimensions, self.cfg.SEED)
        images = torch.arange(few + most)  # all queries and the first image of the gallery show one animal
        evaluator.process({"targets": (images > few).long(), "camids": (images >= few).long()}, features)
        self.passing = max(self.passing, BYTES_RANKED * (queries * gallery - few * most))
        return seconds(evaluator.evaluate) * queries / few * gallery / most

    def _group(self, images: int, dimensions: int) -> float:
        """Seconds of grouping a test's images, by made-up features of no more than MOST_IMAGES; they grow as N^2."""
        few = min(images, MOST_IMAGES)
        features, identities = clustered(few, dimensions, self.cfg.SEED), np.arange(few) // PER_CLUSTER
        group_test(features, identities, self.cfg)  # loads or compiles its code
        return seconds(lambda: group_test(features, identities, self.cfg)) * (images / few) ** 2

    def _encode(self, encode: Callable) -> tuple[float, dict[str, Tensor] | Tensor]:
        """Seconds of an image, and the last batch's features."""
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
        """Seconds of a training step, its batch included."""
        trainer = self.trainer
        made_up = np.arange(self.images) // PER_CLUSTER if is_unsupervised(self.cfg) else None
        batches = np.resize(self.batches, (batches_of(self.workers), self.batches.shape[1]))
        trainer.data_loader.start(batches, 0, made_up)
        with EventStorage() as trainer.storage:
            trainer.iter = 0
            return seconds_each(trainer.run_step, lambda: next(trainer.data_loader), self.workers, self.model.device)


def batches_of(workers: int) -> int:
    """Batches that `seconds_each` takes, and those that workers are loading ahead when it ends."""
    return 1 + max(1, workers) + measured(workers) + 2 * AHEAD * workers


def measured(workers: int) -> int:
    """Steps that `seconds_each` measures: each worker loads for two at least."""
    return max(MEASURED, 2 * workers)


def seconds_each(
    step: Callable, skip: Callable, workers: int, device: torch.device, clock: Callable = time.perf_counter
) -> float:
    """Seconds of a step in the middle of an epoch, where workers may be slower than the steps.

    While the first step starts everything, workers load ahead: those batches are skipped. Workers that are fast enough
    are ahead again when each has loaded one more.

    Args:
        step: take the next batch and use it.
        skip: take the next batch.
        workers: of the loader, which holds `batches_of` them; 0 loads in this process.
        device: to wait for.
        clock: of the seconds.
    """
    step()
    for _ in range(AHEAD * workers):
        skip()
    for _ in range(max(1, workers)):
        step()
    wait(device)
    began = clock()
    for _ in range(measured(workers)):
        step()
    wait(device)
    return (clock() - began) / measured(workers)


def config_of_one_process(cfg, processes: int, folder: str):
    """The configuration of one of several processes, which writes to a folder and decodes nothing beforehand."""
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
    """How often something happens that does so every `period` epochs and after the last; only then with 0."""
    return -(-epochs // period) if period > 0 else 1


def clustered(rows: int, dimensions: int, seed: int) -> Tensor:
    """(rows, dimensions) of unit length, PER_CLUSTER near each other; dimension d varies as d^-SPECTRUM, d from 1."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(-(-rows // PER_CLUSTER), dimensions, generator=generator)
    near = centres.repeat_interleave(PER_CLUSTER, dim=0)[:rows]
    spectrum = torch.arange(1, dimensions + 1) ** -SPECTRUM
    return torch.nn.functional.normalize(spectrum * (near + torch.randn(rows, dimensions, generator=generator)), dim=1)


def seconds(function: Callable) -> float:
    """Of one call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def wait(device: torch.device) -> None:
    """Until the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
