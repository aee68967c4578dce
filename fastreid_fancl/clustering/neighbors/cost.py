"""Which neighbour search is the fastest here, and what it will take.

Shapes: N rows, D dimensions, k neighbours.
"""

import logging
import time
from functools import lru_cache
from math import log2
from typing import NamedTuple

import torch

from .candidates import TILE
from .device import BLOCK_BYTES
from .exact import candidate_count

logger = logging.getLogger(__name__)

TEST_SECONDS = 0.5e-9  # a pair's bound, and what threads take from each other
APPEND_SECONDS = 80e-9  # a candidate in a list
MEASURED = 0.5  # share of the candidates that are measured
BYTES_PER_SECOND = 8e9  # of their features
SIZE = {"int8": 1, "float32": 4}


class SearchCost(NamedTuple):
    """A search: backend, seconds expected, bytes expected beyond the features."""

    backend: str
    seconds: float
    bytes: int

    def __str__(self):
        return f"by {self.backend}, expected to take {self.seconds:.2g} s and {self.bytes / 2**30:.2g} GiB"


def cheapest(rows: int, dimensions: int, k: int, device: torch.device, block_bytes: int = BLOCK_BYTES) -> SearchCost:
    """The fastest exact backend on this machine, by timing a small product of each kind; `block_bytes` as for `knn`."""
    backends = ("int8", "float32") if device.type == "cpu" else ("float32",)
    plans = [estimate(backend, rows, dimensions, k, device, block_bytes) for backend in backends]
    return min(plans, key=lambda plan: plan.seconds)


def estimate(
    backend: str, rows: int, dimensions: int, k: int, device: torch.device, block_bytes: int = BLOCK_BYTES
) -> SearchCost:
    """Expected seconds and bytes of a search by "int8" or "float32"."""
    count = min(rows, candidate_count(k))
    product, kept = seconds_a_pair(backend, dimensions, device), rows * (12 * k + dimensions * SIZE[backend])
    if device.type != "cpu":
        return SearchCost(backend, rows**2 * product, kept + 2 * block_bytes)
    threads = torch.get_num_threads()
    rounds = 2 + max(0, log2(rows / (2 * count)))  # a round fills the second half of a list
    seconds_a_candidate = rounds * APPEND_SECONDS + 4 * dimensions * MEASURED / BYTES_PER_SECOND
    seconds = rows**2 / 2 * (product + TEST_SECONDS) + rows * count * seconds_a_candidate
    return SearchCost(backend, seconds / threads, kept + rows * 16 * count + threads * 4 * TILE**2)


@lru_cache
def seconds_a_pair(backend: str, dimensions: int, device: torch.device) -> float:
    """Seconds of one of a tile's products, on one thread or a device; infinite where there are none."""
    rows = 256 if device.type == "cpu" else 8192  # a device starts as long as it computes a small one
    features = torch.ones(rows, dimensions, device=device, dtype=torch.int8 if backend == "int8" else torch.float32)
    threads, seconds = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for _ in range(4):  # the first ones are slower
            began = time.perf_counter()
            product = (torch._int_mm if backend == "int8" else torch.mm)(features, features.T)
            float(product[0, 0])  # waits for the device
            seconds.append(time.perf_counter() - began)
    except (AttributeError, RuntimeError) as error:
        logger.info("No products of %s rows here: %s", backend, error)
        return float("inf")
    finally:
        torch.set_num_threads(threads)
    return min(seconds) / rows**2
