"""Seeds that depend only on the configuration's seed and on the place in the run that they are for."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """The independent random choices of an epoch; its augmentation has the seed of the epoch alone."""

    BATCHES = 1
    CLUSTERING = 2


def derive_seed(seed: int, *place: int) -> int:
    """A 32-bit seed for a place in the run, such as (epoch,) or (epoch, Stream.BATCHES), the same in every run."""
    return int(np.random.SeedSequence((seed, *place)).generate_state(1)[0])
