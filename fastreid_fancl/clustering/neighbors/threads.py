"""Compiled kernels and matrix products on threads.

Both release the interpreter's lock, so plain threads do what a parallel loop would, and leave no thread pool behind:
data loader workers can be forked afterwards. PyTorch's own number of threads says how many may be used.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

RANGES_PER_THREAD = 8  # uneven rows even out


def over_rows(begin: int, end: int, kernel: Callable[[int, int], Any]) -> list:
    """Call `kernel(begin, end)` for consecutive ranges that cover those rows; their results in order.

    The ranges, and so any result that depends on them, may change with the number of threads: kernels must not care.
    """
    threads = torch.get_num_threads()
    ranges = max(1, min(end - begin, threads * RANGES_PER_THREAD))
    edges = [begin + (end - begin) * n // ranges for n in range(ranges + 1)]
    if threads == 1:
        return [kernel(begin, end) for begin, end in zip(edges[:-1], edges[1:], strict=True)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(kernel, edges[:-1], edges[1:]))


def run_on_threads(tasks: Iterable, work: Callable[[Iterator], None]) -> None:
    """Call `work(tasks)` on every thread, with one iterator that hands each task to one of them.

    PyTorch's operations inside take one thread each. With many small products that is faster than one product on all
    threads, which then wait for the slowest, above all where other programs run.
    """
    tasks, threads = iter(list(tasks)), torch.get_num_threads()
    if threads == 1:
        return work(tasks)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for future in [pool.submit(work, tasks) for _ in range(threads)]:
                future.result()
    finally:
        torch.set_num_threads(threads)
