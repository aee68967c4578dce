"""Row ranges of a compiled kernel on threads.

The kernels release the interpreter's lock, so plain threads do what a parallel loop would, and leave no thread pool
behind: data loader workers can be forked afterwards. PyTorch's own number of threads says how many may be used.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

RANGES_PER_THREAD = 8  # uneven rows even out


def over_rows(rows: int, kernel: Callable[[int, int], Any], ranges_per_thread: int = RANGES_PER_THREAD) -> list:
    """Call `kernel(begin, end)` for consecutive ranges that cover `range(rows)`; their results in order.

    The ranges, and so any result that depends on them, may change with the number of threads: kernels must not care.
    """
    threads = torch.get_num_threads()
    ranges = max(1, min(rows, threads * ranges_per_thread))
    edges = [rows * n // ranges for n in range(ranges + 1)]
    if threads == 1:
        return [kernel(begin, end) for begin, end in zip(edges[:-1], edges[1:], strict=True)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(kernel, edges[:-1], edges[1:]))
