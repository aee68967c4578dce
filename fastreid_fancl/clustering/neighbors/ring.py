"""Nearest neighbours among the rows of several processes, each of which holds a shard of them.

The shards travel around a ring of processes; each process searches every shard that passes for neighbours of its own
rows. So a process holds at most three shards (its own, one to send and one to receive) and two operands made from them,
and no message is larger than a shard.

Shapes: n rows of this process, N of all, D dimensions, k neighbours.
"""

from functools import partial
from typing import Any

import numpy as np
import torch.distributed as dist
from torch import Tensor

from ...errors import UserError
from .cost import cheapest
from .device import BLOCK_BYTES, update_nearest_on_device
from .exact import empty_lists, update_nearest
from .search import as_features, knn, row_block


def ring_knn(
    shard: Tensor,
    k: int,
    group: dist.ProcessGroup | None = None,
    block_bytes: int = BLOCK_BYTES,
    backend: str = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest rows of each row of this process, among the rows of all processes.

    All processes call this together, with torch.distributed initialised.

    Args:
        shard: (n, D), n > 0, on the device of the process. Rows are numbered in the order of the ranks.
        k: neighbours, the row itself included.
        group: a group of all processes whose backend fits the device (gloo for the CPU, NCCL for GPUs); None for the
            default group.
        block_bytes: as for `knn`.
        backend: "float32", "int8" or "auto", as for `knn`; faiss searches all rows in one process only.

    Returns:
        Squared distances and row numbers among all N, both (n, min(k, N)): this shard's part of `knn` on all rows.

    Raises:
        ValueError: as `knn` does; if it does on one process, on all of them.
    """
    shard, sizes = _agree(shard, group)
    rank, k = dist.get_rank(), min(k, sum(sizes))
    first = [sum(sizes[:owner]) for owner in range(len(sizes))]
    origin, kind = shard.mean(dim=0), backend
    if backend == "auto":
        kind = cheapest(len(shard), shard.shape[1], k, shard.device).backend
    queries = row_block(shard, origin, kind, first[rank])
    distance, index = empty_lists(queries.number, k)
    update = (
        update_nearest if shard.device.type == "cpu" else partial(update_nearest_on_device, block_bytes=block_bytes)
    )
    own_distance, own_index = knn(shard, min(k, len(shard)), kind, block_bytes)
    distance[:, : own_index.shape[1]], index[:, : own_index.shape[1]] = own_distance, own_index + first[rank]
    for step in range(1, len(sizes)):
        owner = (rank + step) % len(sizes)
        shard = _pass_on(shard, sizes[owner], group)
        if k > 1:
            update(queries, row_block(shard, origin, kind, first[owner]), distance, index)
    return distance, index


def _agree(shard: Tensor, group: dist.ProcessGroup | None) -> tuple[Tensor, list[int]]:
    """Check the shard; return it as features, and the number of rows of every shard. All ranks raise the same error."""
    try:
        shard, problem = as_features(shard), None
    except UserError as error:
        problem = str(error)
    reports: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(reports, (problem, *shard.shape), group)
    problems = [f"process {rank}: {problem}" for rank, (problem, *_) in enumerate(reports) if problem]
    if problems:
        raise UserError(" ".join(problems))
    if len({dimensions for *_, dimensions in reports}) > 1:
        shapes = [shape for _, *shape in reports]
        raise UserError(f"Expected shards of one D, got {shapes}: pass features of one model.")
    return shard, [rows for _, rows, _ in reports]


def _pass_on(shard: Tensor, rows: int, group: dist.ProcessGroup | None) -> Tensor:
    """Send a shard to the previous rank, and receive one of `rows` rows from the next rank."""
    rank, world = dist.get_rank(), dist.get_world_size()
    received = shard.new_empty(rows, shard.shape[1])
    send = dist.P2POp(dist.isend, shard, (rank - 1) % world, group)
    receive = dist.P2POp(dist.irecv, received, (rank + 1) % world, group)
    for transfer in dist.batch_isend_irecv([send, receive]):
        transfer.wait()
    return received
