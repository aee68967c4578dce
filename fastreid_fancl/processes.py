"""The processes of a run: how they will communicate, and how many torchrun has started."""

import os

import torch

BACKEND = "FASTREID_FANCL_BACKEND"


def choose_backend(device: str) -> None:
    """Choose the backend before `launch`: gloo if MODEL.DEVICE is the CPU, otherwise NCCL."""
    os.environ[BACKEND] = "gloo" if torch.device(device).type == "cpu" else "nccl"


def torchrun_processes() -> int:
    """The number of processes of the torchrun job that this process belongs to; 0 outside torchrun."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 0
