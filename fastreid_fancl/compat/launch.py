"""Runs on several processes, which communicate by NCCL on GPUs and by gloo on the CPU."""

import datetime
import functools
import logging
import os
import pickle
import sys

import torch
import torch.distributed as dist
from fastreid.utils import comm
from torch.multiprocessing import ProcessRaisedException

from ..errors import UserError
from ..logs import log_once
from ..machine import available_cores
from ..processes import BACKEND, torchrun_processes
from .imports import wrap

logger = logging.getLogger(__name__)

# `fastreid.engine.launch` is a function; only this dictionary has the module of the same name.
stock = sys.modules["fastreid.engine.launch"]

COLLECTIVE_TIMEOUT = datetime.timedelta(hours=3)
SHARED_STORE = (
    "Processes that torchrun restarts may wait forever for those that died: start torchrun with "
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the environment and --rdzv-backend c10d."
)


@wrap(stock.launch)
def launch(
    stock_launch, main_func, num_gpus_per_machine, num_machines=1, machine_rank=0, dist_url=None, args=()
) -> None:
    """Symptom: with several processes a wrong input ends in the traceback of a traceback.

    Cause: engine/launch.py:60; torch.multiprocessing turns every error into a ProcessRaisedException.
    Fix: a UserError of a process is raised here with its message alone.

    Symptom: under torchrun each of its processes trains alone.
    Cause: engine/launch.py spawns processes of its own or none.
    Fix: a process that torchrun started joins its job, whatever the other arguments say. A warning, as torchrun's
    shared store keeps the addresses of dead processes, which those of the next round may read by chance.
    """
    if num_machines > 1 and dist_url in (None, "auto"):
        raise UserError(
            "Several machines need --dist-url tcp://HOST:PORT, equal on all: the name and a free port of the first one."
        )
    if not 0 <= machine_rank < num_machines:
        raise UserError(
            f"Expected --machine-rank from 0 to {num_machines - 1} for --num-machines {num_machines}, got "
            f"{machine_rank}."
        )
    if num_machines > 1 and "://" not in dist_url:
        raise UserError(f"Expected --dist-url tcp://HOST:PORT, got {dist_url}.")
    if torchrun_processes():
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and os.environ["TORCHELASTIC_MAX_RESTARTS"] != "0":
            log_once(logger, logging.WARNING, SHARED_STORE)
        local_rank, world_size, per_machine, machine_rank = (
            int(os.environ[name]) for name in ("LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK")
        )
        distributed_worker(local_rank, main_func, world_size, per_machine, machine_rank, "env://", args)
        return
    try:
        stock_launch(main_func, num_gpus_per_machine, num_machines, machine_rank, dist_url, args)
    except ProcessRaisedException as error:
        _, name, message = str(error).rpartition(f"{UserError.__name__}: ")
        if not name:
            raise
        raise UserError(message.strip()) from error


def distributed_worker(
    local_rank: int, main_func, world_size: int, num_gpus_per_machine: int, machine_rank: int, dist_url: str, args
) -> None:
    """Symptom: ``AssertionError: cuda is not available`` with --num-gpus 2 on the CPU; warnings when a job ends.

    Cause: engine/launch.py:74-103 knows NCCL only and leaves the process group open.
    Fix: the backend of `processes.choose_backend` (by default NCCL if there is a GPU), an equal share of threads for
    each process, and the group closed at the end. It is a function of a module, so that spawned processes import it,
    and with it every other fix, before they unpickle `main_func`.

    Symptom: a ranking or clustering that takes the main process over ten minutes (NCCL; gloo 30) ends the others.
    Cause: they wait for it by operations with PyTorch's default timeout.
    Fix: COLLECTIVE_TIMEOUT. The launching process notices one that dies without it.
    """
    backend = os.environ.get(BACKEND) or ("nccl" if torch.cuda.is_available() else "gloo")
    if backend == "nccl":
        if num_gpus_per_machine > torch.cuda.device_count():
            raise UserError(
                f"Expected at least {num_gpus_per_machine} GPUs, got {torch.cuda.device_count()}: lower --num-gpus, "
                "or use MODEL.DEVICE cpu."
            )
        torch.cuda.set_device(local_rank)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, available_cores() // num_gpus_per_machine))
    rank = machine_rank * num_gpus_per_machine + local_rank
    try:
        dist.init_process_group(backend, dist_url, COLLECTIVE_TIMEOUT, world_size, rank)
    except ValueError as error:  # an address without a port, for one
        raise UserError(f"--dist-url {dist_url} cannot be used: {error}.") from error
    comm.synchronize()
    for machine in range(world_size // num_gpus_per_machine):
        first = machine * num_gpus_per_machine
        group = dist.new_group(list(range(first, first + num_gpus_per_machine)))
        if machine == machine_rank:
            comm._LOCAL_PROCESS_GROUP = group
    try:
        main_func(*args)
    except UserError as error:  # subclasses, too: the launching process recognises it by its name
        raise UserError(str(error)) from error
    # Only after success: beside a failed process, closing would wait for it.
    comm.synchronize()
    dist.destroy_process_group()
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()


@functools.lru_cache
def gloo_group() -> dist.ProcessGroup:
    """The gloo group of all processes, as fast-reid's, but with COLLECTIVE_TIMEOUT."""
    if dist.get_backend() == "gloo":
        return dist.group.WORLD
    return dist.new_group(backend="gloo", timeout=COLLECTIVE_TIMEOUT)


def serialize_to_tensor(data, group) -> torch.Tensor:
    """Symptom: a "TypedStorage is deprecated" warning whenever processes gather objects.

    Cause: utils/comm.py:106 builds the tensor from a ByteStorage.
    Fix: the same bytes from a buffer, (L,) uint8 on the device that the group's backend needs.
    """
    device = "cpu" if dist.get_backend(group) == "gloo" else "cuda"
    return torch.frombuffer(bytearray(pickle.dumps(data)), dtype=torch.uint8).to(device)


stock._distributed_worker = distributed_worker
comm._get_global_gloo_group = gloo_group
comm._serialize_to_tensor = serialize_to_tensor
