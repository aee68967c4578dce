"""BatchNorm as several processes see it: virtual groups of one batch, and what the processes' statistics become.

Shapes: B images of a process, C channels.
"""

from functools import partial
from types import MethodType

import torch
import torch.distributed as dist
import torch.nn.functional as F
from fastreid.utils import comm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# Values of MODEL.BACKBONE.BATCHNORM.
MODES = ("train", "eval", "frozen")


def hold_statistics(backbone: nn.Module, mode: str) -> None:
    """Keep the BatchNorm layers of a backbone in evaluation mode, also while the backbone trains.

    Small sets of photographs need it: the statistics of batches of a few animals each destroy pre-trained weights.

    Args:
        backbone: changed in place.
        mode: of `MODES`: "train" changes nothing, "eval" holds the running statistics, "frozen" scale and shift too.
    """
    if mode == "train":
        return
    for norm in batchnorms(backbone):
        norm.train = MethodType(_stay_in_evaluation, norm)
        norm.eval()
        if mode == "frozen":
            norm.requires_grad_(False)


def _stay_in_evaluation(norm: _BatchNorm, mode: bool = True) -> _BatchNorm:
    return nn.Module.train(norm, False)


def virtual_groups(model: nn.Module, size: int) -> nn.Module:
    """Let every BatchNorm layer of a model normalise `size` images by themselves (Ghost BatchNorm, Hoffer et al. 2017).

    The r-th `size` images of a batch are normalised as they would be on process r of several, in the encoders and in
    the heads, so that one device trains as those do. Running statistics are the mean of what the groups' own would be:
    what `average_statistics` makes of the processes'. fast-reid's "GhostBN" deals images out to its groups in turn,
    takes maps only and has no key for their number, hence this. State and evaluation are the layers' own.

    Args:
        model: changed in place; frozen BatchNorm stays as it is.
        size: images in a group; the last one of a batch may have fewer.
    """
    for norm in batchnorms(model):
        norm.forward = partial(_normalise_groups, norm.forward, norm, size)
    return model


def batchnorms(model: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers of a model that take statistics of a batch."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def _normalise_groups(forward, norm: _BatchNorm, size: int, batch: Tensor) -> Tensor:
    """(B, C, ...) -> the same shape."""
    if not norm.training or len(batch) <= size:
        return forward(batch)
    groups = batch.split(size)
    means, variances = (running.repeat(len(groups), 1) for running in (norm.running_mean, norm.running_var))
    normalised = [
        F.batch_norm(group, mean, variance, norm.weight, norm.bias, True, norm.momentum, norm.eps)
        for group, mean, variance in zip(groups, means, variances, strict=True)
    ]
    norm.running_mean.copy_(means.mean(0))
    norm.running_var.copy_(variances.mean(0))
    norm.num_batches_tracked.add_(1)
    whole = torch.cat(normalised)
    for name in ("drop", "act"):  # timm's BatchNormAct2d does these as well
        whole = getattr(norm, name)(whole) if hasattr(norm, name) else whole
    return whole


@torch.no_grad()
def average_statistics(model: nn.Module) -> None:
    """Give every process the mean of all processes' running statistics.

    DistributedDataParallel leaves each process its own, of which a checkpoint keeps one: features and a resumed run
    would depend on who computes them.
    """
    if comm.get_world_size() == 1:
        return
    moving = [norm for norm in batchnorms(model) if norm.training]
    statistics = [value for norm in moving for value in (norm.running_mean, norm.running_var)]
    if not statistics:
        return
    flat = torch.cat(statistics)
    dist.all_reduce(flat)
    flat /= comm.get_world_size()
    for own, mean in zip(statistics, flat.split([len(value) for value in statistics]), strict=True):
        own.copy_(mean)
