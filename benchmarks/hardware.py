"""What a step asks of the hardware and what the hardware can do, in floating point operations.

An addition counts as one.
"""

import math
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from fastreid_fancl.engine.timing import wait

SIZES = {"cpu": 2048, "cuda": 8192}  # rows of the products: larger ones are no faster
MAPS = {"cpu": (4, 64, 16, 16), "cuda": (256, 512, 16, 32)}  # (B, C, h, w) of the convolutions
PRODUCTS = 5


def operations(step: Callable) -> int:
    """Operations of the convolutions and matrix products in one call, both passes; the others are few.

    What micro-batches compute again in the backward pass counts, as the hardware does it.
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
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        return 2 * size**3 / fastest(lambda: one @ other, device, clock)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed


def convolution_peak(device: torch.device, dtype: torch.dtype, clock: Callable[[], float]) -> float:
    """Operations a second: the best of several 3 x 3 convolutions, as many channels out as in, channels last.

    The feature maps are those of a ResNet's third stage for 128 x 256 pixels.
    """
    images, channels, height, width = MAPS[device.type]
    order = torch.channels_last
    maps = torch.rand(images, channels, height, width, device=device, dtype=dtype).contiguous(memory_format=order)
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False, device=device, dtype=dtype).to(memory_format=order)
    with torch.no_grad():
        count = operations(lambda: layer(maps))
        return count / fastest(lambda: layer(maps), device, clock)


def fastest(run: Callable, device: torch.device, clock: Callable[[], float]) -> float:
    """Seconds of the fastest of several calls, after one to start."""
    seconds = []
    for _ in range(1 + PRODUCTS):
        wait(device)
        began = clock()
        run()
        wait(device)
        seconds.append(clock() - began)
    return min(seconds[1:])


def idle_share(step: Callable, steps: int, device: torch.device) -> float:
    """The share of the steps' time in which no kernel and no copy runs, by PyTorch's profiler.

    On a CPU it is the time outside of PyTorch's operations.
    """
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as found:
        wait(device)
        began = time.perf_counter()
        for _ in range(steps):
            step()
        wait(device)
        seconds = time.perf_counter() - began
    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    # Annotations such as the optimiser's name last through the gaps between kernels.
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in found.events()
        if event.device_type == wanted and not getattr(event, "is_user_annotation", False)
    ]
    return 1 - covered(spans) / 1e6 / seconds


def covered(spans: list[tuple[float, float]]) -> float:
    """The length of the union of the spans (begin, end)."""
    total, reached = 0.0, -math.inf
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


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
