"""Data exchanged between the processes of a run."""

import torch
import torch.distributed as dist
from fastreid.utils import comm
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ..errors import UserError


def unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """The module inside DistributedDataParallel, or the model itself."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def gather_rows_on_host(own: Tensor) -> Tensor:
    """Concatenate the rows (n, D) of all processes on the CPU, in the order of ranks; the result is on every rank."""
    if comm.get_world_size() == 1:
        return own
    sizes = comm.all_gather(len(own))
    whole = own.new_empty(sum(sizes), *own.shape[1:])
    for rank, part in enumerate(whole.split(sizes)):
        if rank == comm.get_rank():
            part.copy_(own)
        dist.broadcast(part, src=rank, group=comm._get_global_gloo_group())
    return whole


def broadcast_from_main(compute):
    """Run `compute()` on the main process; its result is returned, or its UserError raised, on every rank."""
    if comm.get_world_size() == 1:
        return compute()
    outcome = [None, None]
    if comm.is_main_process():
        try:
            outcome[0] = compute()
        except UserError as error:
            outcome[1] = error
    # By gloo: NCCL keeps the GPUs busy while it waits.
    dist.broadcast_object_list(outcome, src=0, group=comm._get_global_gloo_group())
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
