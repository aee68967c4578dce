"""Seeds that are functions of the configuration's seed and of where the run stands."""

import numpy as np


def derive(seed: int, *place: int) -> int:
    """A 32-bit seed for one place of a run, such as (epoch,) or (epoch, batch): equal places give equal seeds."""
    return int(np.random.SeedSequence((seed, *place)).generate_state(1)[0])
