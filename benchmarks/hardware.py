"""What a step asks of the hardware, and what the hardware can do: floating point operations, an addition being one."""

import time
from collections.abc import Callable, Iterator

import torch
from torch.utils.flop_counter import FlopCounterMode

from fastreid_fancl.engine.plan import wait

SIZES = {"cpu": 2048, "cuda": 8192}  # rows of the products: larger ones are no faster
PRODUCTS = 5


def operations(step: Callable) -> int:
    """Of the convolutions and matrix products in one call, both passes; all else is little beside them.

    What micro-batches compute anew in the backward pass counts, as the hardware does it.
    """
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def peak(device: torch.device, dtype: torch.dtype, clock: Callable[[], float]) -> float:
    """Operations a second: the best of several products of two square matrices, after one to start.

    In float32 they use TF32 if convolutions do, which a step is made of; PyTorch sets the two apart.
    """
    size = SIZES[device.type]
    one, other = torch.rand(2, size, size, device=device, dtype=dtype)
    allowed, seconds = torch.backends.cuda.matmul.allow_tf32, []
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        for _ in range(1 + PRODUCTS):
            wait(device)
            began = clock()
            one @ other
            wait(device)
            seconds.append(clock() - began)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    return 2 * size**3 / min(seconds[1:])


class Watched:
    """Batches, and the wall's seconds that each was waited for while the device had nothing else to do."""

    def __init__(self, batches: Iterator, device: torch.device):
        self.batches, self.device = batches, device
        self.seconds: list[float] = []

    def __next__(self):
        wait(self.device)
        began = time.perf_counter()
        batch = next(self.batches)
        self.seconds.append(time.perf_counter() - began)
        return batch
