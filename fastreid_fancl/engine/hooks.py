"""What happens around an epoch: seeds, pseudo-labels, batches, and the seconds that each phase took.

Shapes: N training images, D feature dimensions, M clusters.
"""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from fastreid.data.transforms import build_transforms
from fastreid.engine.hooks import HookBase
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from .. import clustering
from ..batchnorm import average_statistics
from ..data.loaders import ReIDDataset, feature_loader
from ..data.samplers import cluster_and_outlier_batches, cluster_batches, shuffled_batches
from .labels import (
    SWEEP,
    assign_labels,
    clustering_device,
    distance_options,
    distance_together,
    memory_told,
    write_clusters,
    write_sweep,
)
from .seeds import derive

logger = logging.getLogger(__name__)
SECONDS_BETWEEN_REPORTS = 10


class EpochSeed(HookBase):
    """Seed Python, NumPy and PyTorch from (seed, epoch), so that an epoch does not depend on those before it."""

    def __init__(self, seed: int):
        self.seed = seed

    def before_epoch(self):
        seed_all_rng(derive(self.seed, self.trainer.epoch))


def identity_batches(labels: np.ndarray, cfg, iterations: int, epoch: int) -> np.ndarray:
    """An epoch's batches for a supervised method, by DATALOADER.SAMPLER_TRAIN.

    Raises:
        ValueError: on a sampler that is neither random nor by identity.
    """
    seed, batch_size = derive(cfg.SEED, epoch, 1), cfg.SOLVER.IMS_PER_BATCH
    sampler = cfg.DATALOADER.SAMPLER_TRAIN
    if sampler == "TrainingSampler":
        return shuffled_batches(len(labels), batch_size, iterations, seed)
    if sampler in ("NaiveIdentitySampler", "BalancedIdentitySampler"):
        return cluster_batches(labels, batch_size, cfg.DATALOADER.NUM_INSTANCE, iterations, seed)
    raise ValueError(
        "Expected DATALOADER.SAMPLER_TRAIN to be TrainingSampler (random images), NaiveIdentitySampler or "
        f"BalancedIdentitySampler (DATALOADER.NUM_INSTANCE images an identity), got {sampler!r}."
    )


class IdentityBatches(HookBase):
    """Make the epoch's batches from the identities, for supervised methods.

    Raises:
        ValueError: when resuming from a checkpoint of other identities.
    """

    def __init__(self, cfg):
        self.cfg = cfg

    def state_dict(self) -> dict[str, str]:
        """Which identities the rows of the classifier are."""
        return {"identities": fingerprint(map(str, self.trainer.data_loader.dataset.pids))}

    def load_state_dict(self, state: dict[str, str]) -> None:
        if state != self.state_dict():
            raise ValueError(
                "The checkpoint is of other training identities than DATASETS.NAMES now has, or of another number of "
                "them: resume with the same images, or start anew without --resume."
            )

    def before_epoch(self):
        trainer = self.trainer
        targets = trainer.data_loader.dataset.targets
        trainer.data_loader.start(
            identity_batches(targets, self.cfg, trainer.iters_per_epoch, trainer.epoch), trainer.epoch
        )


class PhaseSeconds(HookBase):
    """Log the seconds of a phase that ends when this hook's turn comes after the epoch.

    The phase begins where `after` ended, or without it when this hook's turn came before the epoch.
    """

    def __init__(self, phase: str, after: "PhaseSeconds | None" = None):
        self.phase, self.after = phase, after
        self.began = self.ended = 0.0

    def before_epoch(self):
        self.began = time.perf_counter()

    def after_epoch(self):
        self.ended = time.perf_counter()
        began = self.after.ended if self.after else self.began
        self.trainer.storage.put_scalar(f"seconds_{self.phase}", self.ended - began, smoothing_hint=False)


class MeanStatistics(HookBase):
    """After each epoch, before evaluation and checkpoint, give all processes the same running statistics."""

    def after_epoch(self):
        average_statistics(self.trainer.model)


class Look(NamedTuple):
    """How the model sees the training images before an epoch.

    Attributes:
        epoch: its number.
        features: the method's `cluster_features`, each (N, D), on the CPU.
        original: (N, D) those that are clustered, on the device of the clustering.
        distance: (N, N) their Jaccard distance on the main process; None elsewhere, and for the oracle.
        seconds_features, seconds_distance: what these took.
    """

    epoch: int
    features: dict[str, Tensor]
    original: Tensor
    distance: csr_matrix | None
    seconds_features: float
    seconds_distance: float


class PseudoLabels(HookBase):
    """Before each epoch: features of all training images, their clusters, the method's memory banks, the batches.

    Identities are read for the quality that is logged (ARI, NMI, purity), and by the "oracle" that trains on them.

    Raises:
        ValueError: if a batch cannot hold whole groups of DATALOADER.NUM_INSTANCE images, or with TEST.PRECISE_BN.
    """

    def __init__(self, cfg):
        if cfg.TEST.PRECISE_BN.ENABLED:
            raise ValueError(
                "TEST.PRECISE_BN runs training steps, which would move the memories of an unsupervised method: switch "
                "TEST.PRECISE_BN.ENABLED off."
            )
        if cfg.SOLVER.IMS_PER_BATCH % cfg.DATALOADER.NUM_INSTANCE:
            raise ValueError(
                f"Expected SOLVER.IMS_PER_BATCH to be a multiple of DATALOADER.NUM_INSTANCE, the images a cluster, got "
                f"{cfg.SOLVER.IMS_PER_BATCH} and {cfg.DATALOADER.NUM_INSTANCE}."
            )
        self.cfg = cfg
        self.transform = build_transforms(cfg, is_train=False)
        self.restored: str | None = None
        self.seen: Look | None = None

    def state_dict(self) -> dict[str, str]:
        """Which images, in which order: a method's memory of them is of no use to others."""
        return {"images": digest(self.trainer.data_loader.dataset.img_items)}

    def load_state_dict(self, state: dict[str, str]) -> None:
        self.restored = state["images"]

    def look(self, epoch: int) -> "Look":
        """How the model sees the training images before an epoch. A second call for an epoch costs nothing."""
        if self.seen is not None and self.seen.epoch == epoch:
            return self.seen
        dataset, method = self.trainer.data_loader.dataset, unwrap(self.trainer.model)
        method.epoch = epoch
        began = time.perf_counter()
        features = method.stored_features()
        if self.restored is not None and self.restored != digest(dataset.img_items):
            if features is not None:
                raise ValueError(
                    "The checkpoint holds features of other training images than DATASETS.NAMES now has, or of another "
                    "order of them: resume with the same images, or start anew without --resume."
                )
            logger.warning("The run goes on with other training images than its checkpoint was trained on.")
        self.restored = None
        if features is None:
            features = self._features(dataset)
        extracted = time.perf_counter()
        options = self.cfg.PSEUDO_LABELS
        with memory_told():
            original = features["original"].to(clustering_device(options, method.device))
            distance = distance_together(original, options)
            if comm.get_world_size() == 1 and options.ALGORITHM != "oracle":
                distance = clustering.jaccard_distance(original, **distance_options(options))
        self.seen = Look(epoch, features, original, distance, extracted - began, time.perf_counter() - extracted)
        return self.seen

    def before_epoch(self):
        dataset, method = self.trainer.data_loader.dataset, unwrap(self.trainer.model)
        identities, cameras = dataset.targets, dataset.cameras if dataset.cameras_tell else None
        seen, self.seen = self.look(self.trainer.epoch), None
        options, seed = self.cfg.PSEUDO_LABELS, derive(self.cfg.SEED, method.epoch, 2)
        began = time.perf_counter()
        with memory_told():
            found = from_main(
                lambda: assign_labels(
                    seen.original,
                    identities,
                    cameras,
                    options,
                    method.refine_labels,
                    seed,
                    seen.distance,
                    dataset.keys,
                )
            )
        labels = found.labels
        clustered = time.perf_counter()
        method.start_epoch(
            {name: values.to(method.device) for name, values in seen.features.items()},
            torch.from_numpy(labels).to(method.device),
            None if cameras is None else torch.from_numpy(cameras).to(method.device),
        )
        self._start_batches(labels, method.TRAINS_OUTLIERS)
        seconds = {
            "seconds_features": seen.seconds_features,
            "seconds_clustering": seen.seconds_distance + (clustered - began),
            "seconds_memory": time.perf_counter() - clustered,
        }
        if comm.is_main_process():
            self._log(clustering.quality(labels, identities), found.eps, seconds)
            if found.sweep:
                write_sweep(os.path.join(self.cfg.OUTPUT_DIR, SWEEP), method.epoch, found)
            write_clusters(self.cfg.OUTPUT_DIR, method.epoch, dataset.img_items, labels)

    def _features(self, dataset: ReIDDataset) -> dict[str, Tensor]:
        if len(dataset) < comm.get_world_size():
            raise ValueError(f"Expected an image a process at least, got {len(dataset)} images: lower --num-gpus.")
        plain = ReIDDataset(dataset.img_items, self.transform, read=dataset.read)
        loader = feature_loader(
            plain,
            batch_size=self.cfg.TEST.IMS_PER_BATCH // comm.get_world_size(),
            num_workers=self.cfg.DATALOADER.NUM_WORKERS,
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
        )
        return extract_features(unwrap(self.trainer.model), loader)

    def _start_batches(self, labels: np.ndarray, outliers: bool) -> None:
        cfg, epoch = self.cfg, self.trainer.epoch
        plan = cluster_and_outlier_batches if outliers else cluster_batches
        batches = plan(
            labels,
            cfg.SOLVER.IMS_PER_BATCH,
            cfg.DATALOADER.NUM_INSTANCE,
            self.trainer.iters_per_epoch,
            derive(cfg.SEED, epoch, 1),
        )
        self.trainer.data_loader.start(batches, epoch, labels)

    def _log(self, quality: dict[str, float], eps: float | None, seconds: dict[str, float]) -> None:
        numbers = {**quality, **seconds} | ({"eps": eps} if eps is not None else {})
        self.trainer.storage.put_scalars(**numbers, smoothing_hint=False)
        logger.info(
            "Epoch %d: %s", self.trainer.epoch, ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        )


def digest(items: list[tuple]) -> str:
    """A fingerprint of the names of images (path, pid, camid) and their order, wherever their folder is."""
    paths = [item[0] for item in items]
    root = os.path.commonpath({os.path.dirname(path) for path in paths})
    return fingerprint(path[len(root) :] for path in paths)


def fingerprint(names: Iterable[str]) -> str:
    """A fingerprint of names and their order."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """The module inside DistributedDataParallel, or the model itself."""
    return model.module if isinstance(model, DistributedDataParallel) else model


@torch.no_grad()
def extract_features(method, loader) -> dict[str, Tensor]:
    """The method's `cluster_features` of every image, in evaluation mode, in the order of the data set.

    A GPU has the next batch before the features of one are waited for; it holds those of two at most.

    Args:
        method: a `PseudoLabelMethod`; left in the mode that it came in.
        loader: this rank's consecutive share of the data set.

    Returns:
        Features by name, each (N, D) on the CPU, equal on all ranks.
    """
    training, collected, arriving = method.training, [], []
    method.eval()
    began = reported = time.perf_counter()
    for number, batch in enumerate(loader, start=1):
        batch["images"] = batch["images"].to(method.device, non_blocking=True)
        arriving.append(send(method.cluster_features(batch)))
        if number > 1:
            collected.append(arriving.pop(0)())
        now = time.perf_counter()
        if now - reported > SECONDS_BETWEEN_REPORTS:
            reported, left = now, (now - began) / number * (len(loader) - number)
            logger.info("Features: batch %d of %d, %.0f s left", number, len(loader), left)
    collected += [arrived() for arrived in arriving]
    method.train(training)
    return {name: of_all_processes(torch.cat([part[name] for part in collected])) for name in collected[0]}


def send(features: dict[str, Tensor]) -> Callable[[], dict[str, Tensor]]:
    """Begin to copy features from their device to the host; the function that is returned waits until they are there.

    The copies on the way lie in pinned memory, what is returned does not.
    """
    on_gpu = any(values.is_cuda for values in features.values())
    copies = {name: values.to("cpu", non_blocking=True) for name, values in features.items()}
    done = torch.cuda.current_stream().record_event() if on_gpu else None

    def arrived() -> dict[str, Tensor]:
        if done is None:
            return copies
        done.synchronize()
        return {name: values.clone() for name, values in copies.items()}

    return arrived


def of_all_processes(own: Tensor) -> Tensor:
    """The rows (n, D) of each process, on the CPU, one after the other on all: one copy of them, written in place."""
    if comm.get_world_size() == 1:
        return own
    sizes = comm.all_gather(len(own))
    whole = own.new_empty(sum(sizes), *own.shape[1:])
    for rank, part in enumerate(whole.split(sizes)):
        if rank == comm.get_rank():
            part.copy_(own)
        dist.broadcast(part, src=rank, group=comm._get_global_gloo_group())
    return whole


def from_main(compute):
    """The result of `compute()` on the main process, on every rank; its ValueError is raised on every rank too."""
    if comm.get_world_size() == 1:
        return compute()
    outcome = [None, None]
    if comm.is_main_process():
        try:
            outcome[0] = compute()
        except ValueError as error:
            outcome[1] = error
    # By gloo: NCCL keeps the GPUs busy while it waits.
    dist.broadcast_object_list(outcome, src=0, group=comm._get_global_gloo_group())
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
