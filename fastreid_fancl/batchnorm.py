"""BatchNorm options: frozen statistics, groups within a batch, and statistics averaged over processes.

Shapes: B images of a process, C channels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import MethodType

import torch
import torch.distributed as dist
import torch.nn.functional as F
from fastreid.utils import comm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .errors import UserError

# The values that MODEL.BACKBONE.BATCHNORM can have.
MODES = ("train", "eval", "frozen")


def set_batchnorm_mode(backbone: nn.Module, mode: str, fresh: tuple[str, ...] = ()) -> None:
    """Make the BatchNorm layers of a backbone train as MODEL.BACKBONE.BATCHNORM says.

    "eval" and "frozen" keep them in evaluation mode, even while the backbone trains. Small data sets need this: batches
    with few animals have statistics that destroy pre-trained weights. Parts that start fresh have no such statistics,
    and fast-reid's non-local blocks start with a scale of 0: these train as usual.

    Args:
        backbone: changed in place.
        mode: one of `MODES`. "train" changes nothing, "eval" keeps the running statistics fixed, "frozen" keeps scale
            and shift fixed as well.
        fresh: prefixes of the layers that start fresh, as of `weights.fresh_parts`.
    """
    if mode == "train":
        return
    for name, norm in backbone.named_modules():
        if not isinstance(norm, _BatchNorm) or name.startswith(fresh):
            continue
        norm.train = MethodType(_stay_in_evaluation, norm)
        norm.eval()
        if mode == "frozen":
            norm.requires_grad_(False)


def _stay_in_evaluation(norm: _BatchNorm, mode: bool = True) -> _BatchNorm:
    return nn.Module.train(norm, False)


def virtual_groups(model: nn.Module, size: int) -> nn.Module:
    """Make every BatchNorm layer of a model normalise groups of `size` images (Ghost BatchNorm, Hoffer et al. 2017).

    Group r of a batch is normalised as it would be on process r of several, in the encoders and the heads, so one
    device trains like several. The running statistics become the mean of those of the groups, which is also what
    `average_statistics` does for processes. State and evaluation mode are unchanged. fast-reid's "GhostBN" does not
    serve here: it distributes the images over its groups in turn, accepts feature maps only, and has no key for the
    number of groups.

    Args:
        model: changed in place; frozen BatchNorm stays as it is.
        size: images in a group; the last group of a batch may have fewer.
    """
    for norm in batchnorms(model):
        norm.forward = partial(_normalise_groups, norm.forward, norm, size)
    return model


@contextmanager
def rows_checked(backbone: nn.Module, images: int) -> Iterator[None]:
    """Check in each forward pass of a block that `virtual_groups` would group images: each is a row of every BatchNorm.

    Args:
        backbone: not changed.
        images: the number that it encodes at once.

    Raises:
        UserError: if a layer normalises other rows, such as the tokens of all images.
    """

    def check(norm: _BatchNorm, inputs: tuple[Tensor]) -> None:
        if len(inputs[0]) != images:
            raise UserError(
                "Expected each BatchNorm layer to get a row for each image, as MODEL.BATCHNORM_GROUPS groups rows, but "
                f"{names[norm]} of the backbone gets {len(inputs[0])} for {images} images: set MODEL.BATCHNORM_GROUPS "
                "1, or choose another backbone."
            )

    names = {module: name for name, module in backbone.named_modules()}
    handles = [norm.register_forward_pre_hook(check) for norm in batchnorms(backbone)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def batchnorms(model: nn.Module) -> list[_BatchNorm]:
    """List the BatchNorm layers of a model that compute batch statistics."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def _normalise_groups(forward, norm: _BatchNorm, size: int, batch: Tensor) -> Tensor:
    """Replace a layer's `forward`: normalise each group of a batch (B, C, ...), which keeps its shape."""
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
    for name in ("drop", "act"):  # timm's BatchNormAct2d includes drop-out and activation
        whole = getattr(norm, name)(whole) if hasattr(norm, name) else whole
    return whole


@torch.no_grad()
def average_statistics(model: nn.Module) -> None:
    """Replace the running statistics of every process by their mean over all processes.

    DistributedDataParallel leaves each process its own statistics, and a checkpoint keeps those of one. Without this,
    features would depend on the process that computes them, and so would a resumed run.
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
