"""Choose the fastest neighbour search for this machine, and estimate its time and memory.

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

TEST_SECONDS = 0.5e-9  # to compute and test the bound of a pair, contention between threads included
APPEND_SECONDS = 80e-9  # to append a candidate to a list
MEASURED_SHARE = 0.5  # share of the candidates whose exact distance is computed
BYTES_PER_SECOND = 8e9  # at which the features of these candidates are read
ITEM_BYTES = {"int8": 1, "float32": 4}


class SearchCost(NamedTuple):
    """Cost of a search: its backend, the expected seconds, and the expected bytes in addition to the features."""

    backend: str
    seconds: float
    bytes: int

    def __str__(self) -> str:
        return f"by {self.backend}, expected to take {self.seconds:.2g} s and {self.bytes / 2**30:.2g} GiB"


def cheapest(rows: int, dimensions: int, k: int, device: torch.device, block_bytes: int = BLOCK_BYTES) -> SearchCost:
    """Choose the fastest exact backend by timing a small product of each; `block_bytes` as for `knn`."""
    backends = ("int8", "float32") if device.type == "cpu" else ("float32",)
    costs = [estimate(backend, rows, dimensions, k, device, block_bytes) for backend in backends]
    return min(costs, key=lambda cost: cost.seconds)


def estimate(
    backend: str, rows: int, dimensions: int, k: int, device: torch.device, block_bytes: int = BLOCK_BYTES
) -> SearchCost:
    """Estimate the seconds and bytes of a search by "int8" or "float32"."""
    count = min(rows, candidate_count(k))
    product = seconds_per_pair(backend, dimensions, device)
    lists_and_operand = rows * (12 * k + dimensions * ITEM_BYTES[backend])
    if device.type != "cpu":
        return SearchCost(backend, rows**2 * product, lists_and_operand + 2 * block_bytes)
    threads = torch.get_num_threads()
    rounds = 2 + max(0, log2(rows / (2 * count)))  # a round fills the second half of a list
    seconds_per_candidate = rounds * APPEND_SECONDS + 4 * dimensions * MEASURED_SHARE / BYTES_PER_SECOND
    seconds = rows**2 / 2 * (product + TEST_SECONDS) + rows * count * seconds_per_candidate
    return SearchCost(backend, seconds / threads, lists_and_operand + rows * 16 * count + threads * 4 * TILE**2)


@lru_cache
def seconds_per_pair(backend: str, dimensions: int, device: torch.device) -> float:
    """Time one inner product of a tile, on one thread or on a device; infinity if the backend has no products here."""
    rows = 256 if device.type == "cpu" else 8192  # with a smaller product, a GPU's launch time would dominate
    features = torch.ones(rows, dimensions, device=device, dtype=torch.int8 if backend == "int8" else torch.float32)
    threads, seconds = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for _ in range(4):  # the first calls are slower
            began = time.perf_counter()
            product = (torch._int_mm if backend == "int8" else torch.mm)(features, features.T)
            float(product[0, 0])  # waits for the device
            seconds.append(time.perf_counter() - began)
    except (AttributeError, RuntimeError) as error:
        logger.info("PyTorch has no %s matrix product here: %s", backend, error)
        return float("inf")
    finally:
        torch.set_num_threads(threads)
    return min(seconds) / rows**2
