"""Nearest neighbours among the rows of several processes, each of which holds a shard of them.

The shards travel around a ring of processes; each process offers every shard that passes to the lists of its own rows.
So a process holds three shards at most - its own, one that leaves and one that arrives - and two of them as products
take them; nothing larger than a shard crosses.

Shapes: n rows of this process, N of all, D dimensions, k neighbours.
"""

from functools import partial

import numpy as np
import torch.distributed as dist
from torch import Tensor

from .cost import cheapest
from .device import BLOCK_BYTES, improve_on_device
from .exact import empty_lists, improve
from .search import as_features, as_side, knn


def ring_knn(
    shard: Tensor, k: int, group: dist.ProcessGroup | None = None, block_bytes: int = BLOCK_BYTES
) -> tuple[np.ndarray, np.ndarray]:
    """`knn` for the rows of this process among those of all; called by all of them, with torch.distributed initialised.

    Args:
        shard: (n, D), n > 0, on the device of the process; the rows of all are numbered in the order of processes.
        k: neighbours, the row itself included.
        group: of all processes, with a backend for the device (gloo for the CPU, NCCL for GPUs); None for the default.
        block_bytes: as for `knn`.

    Returns:
        Squared distances and row numbers of all N, both (n, min(k, N)), as `knn` of all rows gives them.

    Raises:
        ValueError: as `knn` does, on every process if it does on one.
    """
    shard, sizes = _agree(shard, group)
    rank, k = dist.get_rank(), min(k, sum(sizes))
    first = [sum(sizes[:owner]) for owner in range(len(sizes))]
    origin, kind = shard.mean(dim=0), cheapest(*shard.shape, k, shard.device).backend
    mine = as_side(shard, origin, kind, first[rank])
    distance, index = empty_lists(mine.number, k)
    offer = improve if shard.device.type == "cpu" else partial(improve_on_device, block_bytes=block_bytes)
    found, own = knn(shard, min(k, len(shard)), kind, block_bytes)
    distance[:, : own.shape[1]], index[:, : own.shape[1]] = found, own + first[rank]
    for step in range(1, len(sizes)):
        owner = (rank + step) % len(sizes)
        shard = _pass_on(shard, sizes[owner], group)
        if k > 1:
            offer(mine, as_side(shard, origin, kind, first[owner]), distance, index)
    return distance, index


def _agree(shard: Tensor, group: dist.ProcessGroup | None) -> tuple[Tensor, list[int]]:
    """The shard as features, and the rows of all shards; a ValueError of one process is raised on all."""
    try:
        shard, problem = as_features(shard), None
    except ValueError as error:
        problem = str(error)
    said = [None] * dist.get_world_size()
    dist.all_gather_object(said, (problem, *shard.shape), group)
    problems = [f"process {rank}: {problem}" for rank, (problem, *_) in enumerate(said) if problem]
    if problems:
        raise ValueError(" ".join(problems))
    if len({dimensions for *_, dimensions in said}) > 1:
        raise ValueError(f"Expected shards of one D, got {[shape for _, *shape in said]}: pass features of one model.")
    return shard, [rows for _, rows, _ in said]


def _pass_on(shard: Tensor, rows: int, group: dist.ProcessGroup | None) -> Tensor:
    """Send a shard to the process before this one, and receive that of the one after it, with so many rows."""
    rank, world = dist.get_rank(), dist.get_world_size()
    received = shard.new_empty(rows, shard.shape[1])
    send = dist.P2POp(dist.isend, shard, (rank - 1) % world, group)
    receive = dist.P2POp(dist.irecv, received, (rank + 1) % world, group)
    for transfer in dist.batch_isend_irecv([send, receive]):
        transfer.wait()
    return received
