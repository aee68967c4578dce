"""The hook that prepares an epoch: features, clusters, memory banks and batches.

Shapes: N training images, D feature dimensions, M clusters.
"""

import hashlib
import logging
import os
import time
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from fastreid.data.transforms import build_transforms
from fastreid.engine.hooks import HookBase
from fastreid.utils import comm
from scipy.sparse import csr_matrix
from torch import Tensor

from .. import clustering, local
from ..data.loaders import ReIDDataset, feature_loader
from ..data.samplers import cluster_and_outlier_batches, cluster_batches
from ..errors import UserError
from ..logs import FILE_ONLY
from ..runs.tables import SWEEP, write_clusters, write_sweep
from .distributed import broadcast_from_main, unwrap
from .features import extract_features
from .fused import local_pairs, uses_local
from .labels import assign_labels, clustering_device, distance_together, explain_cuda_oom
from .seeds import Stream, derive_seed

logger = logging.getLogger(__name__)


class Snapshot(NamedTuple):
    """The features of the training images before an epoch, and their distances.

    Attributes:
        epoch: its number.
        features: the method's `cluster_features` by name, each (N, D), on the CPU.
        original: (N, D) the features that are clustered, on the device of the clustering.
        distance: (N, N) their Jaccard distance on the main process; None elsewhere, and for the oracle.
        seconds_features, seconds_distance: the time that features and distance took.
    """

    epoch: int
    features: dict[str, Tensor]
    original: Tensor
    distance: csr_matrix | None
    seconds_features: float
    seconds_distance: float


class PseudoLabels(HookBase):
    """Computes, before each epoch, the features of all training images, their clusters, memory banks and batches.

    Identities are read only for the logged quality (ARI, NMI, purity), and by the "oracle", which trains on them.

    Raises:
        UserError: if a batch cannot hold whole groups of DATALOADER.NUM_INSTANCE images, or with TEST.PRECISE_BN.
    """

    def __init__(self, cfg):
        if cfg.TEST.PRECISE_BN.ENABLED:
            raise UserError(
                "TEST.PRECISE_BN runs training steps, which would change the memories of an unsupervised method: set "
                "TEST.PRECISE_BN.ENABLED False."
            )
        if cfg.SOLVER.IMS_PER_BATCH % cfg.DATALOADER.NUM_INSTANCE:
            raise UserError(
                "Expected SOLVER.IMS_PER_BATCH to be a multiple of DATALOADER.NUM_INSTANCE, the images per cluster, "
                f"got {cfg.SOLVER.IMS_PER_BATCH} and {cfg.DATALOADER.NUM_INSTANCE}."
            )
        self.cfg = cfg
        self.transform = build_transforms(cfg, is_train=False)
        self.restored: str | None = None
        self.kept: Snapshot | None = None
        self.pairs: local.LocalPairs | None = None

    def state_dict(self) -> dict[str, str]:
        """A fingerprint of the images and their order, as a method's memory fits no other images."""
        return {"images": digest(self.trainer.data_loader.dataset.img_items)}

    def load_state_dict(self, state: dict[str, str]) -> None:
        self.restored = state["images"]

    def snapshot(self, epoch: int) -> "Snapshot":
        """The snapshot before an epoch; a second call for the same epoch costs nothing."""
        if self.kept is not None and self.kept.epoch == epoch:
            return self.kept
        dataset, method = self.trainer.data_loader.dataset, unwrap(self.trainer.model)
        method.epoch = epoch
        began = time.perf_counter()
        features = method.stored_features()
        if self.restored is not None and self.restored != digest(dataset.img_items):
            if features is not None:
                raise UserError(
                    "The checkpoint holds features of other training images than DATASETS.NAMES now has, or of "
                    "the same images in another order: resume with the same images, or start again without --resume."
                )
            logger.warning("Continuing with different training images than the checkpoint's.")
        self.restored = None
        if features is None:
            features = self._features(dataset)
        extracted = time.perf_counter()
        original, distance = self._distance(features["original"])
        self.kept = Snapshot(epoch, features, original, distance, extracted - began, time.perf_counter() - extracted)
        return self.kept

    def distance_of_encoder(self, epoch: int) -> csr_matrix | None:
        """The distance (N, N) before an epoch of features by the encoder, also where a method clusters stored ones."""
        method = unwrap(self.trainer.model)
        method.epoch = epoch
        if method.stored_features() is None:
            return self.snapshot(epoch).distance
        _, distance = self._distance(self._features(self.trainer.data_loader.dataset)["original"])
        return distance

    def _distance(self, features: Tensor) -> tuple[Tensor, csr_matrix | None]:
        """The features (N, D) on the device of the clustering, and their distance as a `Snapshot` has it."""
        options = self.cfg.PSEUDO_LABELS
        if uses_local(options):  # all processes, though only the main one has the pairs
            broadcast_from_main(lambda: self._find_keypoints(self.trainer.data_loader.dataset))
        with explain_cuda_oom():
            features = features.to(clustering_device(options, unwrap(self.trainer.model).device))
            return features, distance_together(features, options, self.pairs)

    def before_train(self):
        if self.cfg.PSEUDO_LABELS.ALGORITHM == "oracle":
            logger.warning("ORACLE: training on the TRUE identities. This is an upper bound, not a method.")

    def before_epoch(self):
        dataset, method = self.trainer.data_loader.dataset, unwrap(self.trainer.model)
        identities, cameras = dataset.targets, dataset.cameras if dataset.has_usable_cameras else None
        snapshot, self.kept = self.snapshot(self.trainer.epoch), None
        options, seed = self.cfg.PSEUDO_LABELS, derive_seed(self.cfg.SEED, method.epoch, Stream.CLUSTERING)
        began = time.perf_counter()
        with explain_cuda_oom():
            assigned = broadcast_from_main(
                lambda: assign_labels(
                    snapshot.original,
                    identities,
                    cameras,
                    options,
                    method.refine_labels,
                    seed,
                    snapshot.distance,
                    dataset.keys,
                    self.pairs,
                )
            )
        labels = assigned.labels
        clustered = time.perf_counter()
        method.start_epoch(
            {name: values.to(method.device) for name, values in snapshot.features.items()},
            torch.from_numpy(labels).to(method.device),
            None if cameras is None else torch.from_numpy(cameras).to(method.device),
        )
        self._start_batches(labels, method.TRAINS_OUTLIERS)
        seconds = {
            "seconds_features": snapshot.seconds_features,
            "seconds_clustering": snapshot.seconds_distance + (clustered - began),
            "seconds_memory": time.perf_counter() - clustered,
        }
        if comm.is_main_process():
            self._log(clustering.quality(labels, identities), assigned.eps, seconds)
            if assigned.sweep:
                write_sweep(os.path.join(self.cfg.OUTPUT_DIR, SWEEP), method.epoch, assigned.eps, assigned.sweep)
            write_clusters(self.cfg.OUTPUT_DIR, method.epoch, dataset.img_items, labels)

    def _features(self, dataset: ReIDDataset) -> dict[str, Tensor]:
        if len(dataset) < comm.get_world_size():
            raise UserError(f"Expected at least one image per process, got {len(dataset)} images: lower --num-gpus.")
        plain = ReIDDataset(dataset.img_items, self.transform, read=dataset.read)
        loader = feature_loader(
            plain,
            batch_size=self.cfg.TEST.IMS_PER_BATCH // comm.get_world_size(),
            num_workers=self.cfg.DATALOADER.NUM_WORKERS,
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
        )
        return extract_features(unwrap(self.trainer.model), loader)

    def _find_keypoints(self, dataset: ReIDDataset) -> None:
        """Find the keypoints of all training images once, before the first epoch, on the main process."""
        if self.pairs is None:
            self.pairs = local_pairs(self.cfg, dataset.img_items)

    def _start_batches(self, labels: np.ndarray, outliers: bool) -> None:
        cfg, epoch = self.cfg, self.trainer.epoch
        plan_batches = cluster_and_outlier_batches if outliers else cluster_batches
        batches = plan_batches(
            labels,
            cfg.SOLVER.IMS_PER_BATCH,
            cfg.DATALOADER.NUM_INSTANCE,
            self.trainer.iters_per_epoch,
            derive_seed(cfg.SEED, epoch, Stream.BATCHES),
        )
        self.trainer.data_loader.start(batches, epoch, labels)

    def _log(self, quality: dict[str, float], eps: float | None, seconds: dict[str, float]) -> None:
        numbers = {**quality, **seconds} | ({"eps": eps} if eps is not None else {})
        self.trainer.storage.put_scalars(**numbers, smoothing_hint=False)
        words = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        logger.info("Epoch %d: %s", self.trainer.epoch, words, extra=FILE_ONLY)


def digest(items: list[tuple]) -> str:
    """A fingerprint of the names of images (path, pid, camid) and their order, without the path of their folder."""
    paths = [item[0] for item in items]
    root = os.path.commonpath({os.path.dirname(path) for path in paths})
    return fingerprint_of_names(path[len(root) :] for path in paths)


def fingerprint_of_names(names: Iterable[str]) -> str:
    """A fingerprint of names and their order."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()
