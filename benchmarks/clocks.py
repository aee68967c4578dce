"""The seconds of a call."""

import time
from collections.abc import Callable

import torch

from fastreid_fancl.engine.timing import wait


def timed(
    function: Callable, device: torch.device | str = "cpu", clock: Callable[[], float] = time.perf_counter
) -> tuple[float, object]:
    """Return the seconds of a call, including the device's work, and its result."""
    wait(torch.device(device))
    began = clock()
    result = function()
    wait(torch.device(device))
    return clock() - began, result
