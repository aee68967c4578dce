"""How long things take: one call, or a step in the middle of an epoch."""

import time
from collections.abc import Callable

import torch

MEASURED = 6  # steps, and batches to encode, at least
AHEAD = 2  # batches that PyTorch's loader has each worker load beforehand


def batches_of(workers: int) -> int:
    """The batches that `seconds_each` needs: those it takes, and those that workers load ahead when it ends."""
    return 1 + max(1, workers) + measured(workers) + 2 * AHEAD * workers


def measured(workers: int) -> int:
    """The steps that `seconds_each` measures: enough that each worker loads two batches at least."""
    return max(MEASURED, 2 * workers)


def seconds_each(
    step: Callable, skip: Callable, workers: int, device: torch.device, clock: Callable = time.perf_counter
) -> float:
    """Return the seconds of a step in the middle of an epoch, where workers may be slower than the steps.

    The first step starts everything, and workers load batches ahead meanwhile; these batches are skipped. Workers that
    are fast enough are ahead again when each of them has loaded one more.

    Args:
        step: takes the next batch and uses it.
        skip: takes the next batch only.
        workers: the loader's number of workers; 0 loads in this process. The loader must have `batches_of` batches.
        device: is waited for before the clock is read.
        clock: gives the seconds.
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


def seconds(function: Callable) -> float:
    """The seconds that one call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def wait(device: torch.device) -> None:
    """Wait until the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
