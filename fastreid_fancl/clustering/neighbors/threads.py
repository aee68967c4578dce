"""Run compiled kernels and matrix products on threads.

Both release Python's global interpreter lock, so plain threads are as good as a parallel loop of the compiler. They end
with their task, so the process can fork data loader workers afterwards. `torch.get_num_threads` gives their number.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

RANGES_PER_THREAD = 8  # several, since some rows take longer than others


def over_rows(begin: int, end: int, kernel: Callable[[int, int], Any]) -> list[Any]:
    """Call `kernel` on consecutive ranges (begin, end) that cover the rows; return its results in order.

    The ranges depend on the number of threads; what a kernel computes for a row must not depend on the range.
    """
    threads = torch.get_num_threads()
    ranges = max(1, min(end - begin, threads * RANGES_PER_THREAD))
    edges = [begin + (end - begin) * n // ranges for n in range(ranges + 1)]
    if threads == 1:
        return [kernel(begin, end) for begin, end in zip(edges[:-1], edges[1:], strict=True)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(kernel, edges[:-1], edges[1:]))


def run_on_threads(tasks: Iterable[Any], work: Callable[[Iterator[Any]], None]) -> None:
    """Call `work(tasks)` on every thread; all threads share one iterator, so each task goes to one of them.

    PyTorch's operations use one thread each meanwhile. For many small products this is faster than one product on all
    threads, which waits for the slowest thread, above all where other programs run.
    """
    queue, threads = iter(list(tasks)), torch.get_num_threads()
    if threads == 1:
        return work(queue)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for future in [pool.submit(work, queue) for _ in range(threads)]:
                future.result()
    finally:
        torch.set_num_threads(threads)
