"""Hooks around an epoch: seeds, the batches of supervised methods, the seconds that each phase took.

Shapes: N training images, D feature dimensions, M clusters.
"""

import logging
import time

import numpy as np
from fastreid.engine.hooks import HookBase
from fastreid.utils.env import seed_all_rng

from ..batchnorm import average_statistics
from ..data.samplers import cluster_batches, shuffled_batches
from ..errors import UserError
from .pseudo_labels import fingerprint_of_names
from .seeds import Stream, derive_seed

logger = logging.getLogger(__name__)


class EpochSeed(HookBase):
    """Seeds Python, NumPy and PyTorch from (seed, epoch), so that an epoch does not depend on those before it."""

    def __init__(self, seed: int):
        self.seed = seed

    def before_epoch(self):
        seed_all_rng(derive_seed(self.seed, self.trainer.epoch))


def identity_batches(labels: np.ndarray, cfg, iterations: int, epoch: int) -> np.ndarray:
    """Make an epoch's batches for a supervised method, as DATALOADER.SAMPLER_TRAIN says.

    Raises:
        UserError: on a sampler that is neither random nor by identity.
    """
    seed, batch_size = derive_seed(cfg.SEED, epoch, Stream.BATCHES), cfg.SOLVER.IMS_PER_BATCH
    sampler = cfg.DATALOADER.SAMPLER_TRAIN
    if sampler == "TrainingSampler":
        return shuffled_batches(len(labels), batch_size, iterations, seed)
    if sampler in ("NaiveIdentitySampler", "BalancedIdentitySampler"):
        return cluster_batches(labels, batch_size, cfg.DATALOADER.NUM_INSTANCE, iterations, seed)
    raise UserError(
        "Expected DATALOADER.SAMPLER_TRAIN to be TrainingSampler (random images), NaiveIdentitySampler or "
        f"BalancedIdentitySampler (DATALOADER.NUM_INSTANCE images per identity), got {sampler!r}."
    )


class IdentityBatches(HookBase):
    """Makes the epoch's batches from the identities, for supervised methods.

    Raises:
        UserError: when resuming from a checkpoint of other identities.
    """

    def __init__(self, cfg):
        self.cfg = cfg

    def state_dict(self) -> dict[str, str]:
        """A fingerprint of the identities, in the order of the classifier's rows."""
        return {"identities": fingerprint_of_names(map(str, self.trainer.data_loader.dataset.pids))}

    def load_state_dict(self, state: dict[str, str]) -> None:
        if state != self.state_dict():
            raise UserError(
                "The checkpoint is of other training identities than DATASETS.NAMES now has, or of another number of "
                "them: resume with the same images, or start again without --resume."
            )

    def before_epoch(self):
        trainer = self.trainer
        targets = trainer.data_loader.dataset.targets
        trainer.data_loader.start(
            identity_batches(targets, self.cfg, trainer.iters_per_epoch, trainer.epoch), trainer.epoch
        )


class PhaseSeconds(HookBase):
    """Logs the seconds of a phase, which ends when this hook is called after the epoch.

    The phase begins when the phase of the hook `after` ended; without `after`, when this hook was called before the
    epoch.
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
    """After each epoch, before evaluation and checkpoint, gives all processes the same running statistics."""

    def after_epoch(self):
        average_statistics(self.trainer.model)
