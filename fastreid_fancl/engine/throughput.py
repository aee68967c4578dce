"""How a training step runs: precision, memory layout, micro-batches, optimiser. Checkpoints keep their keys.

Shapes: B images of a process; its backbones' inputs (B, 3, H, W) and feature maps (B, D, h, w).
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..batchnorm import batchnorms

logger = logging.getLogger(__name__)
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class BackboneOptions:
    """How backbones run.

    Attributes:
        precision: a key of PRECISIONS. In bfloat16, convolutions and matrix products take half the bits and need no
            loss scaling; weights, heads, losses and memories stay float32.
        channels_last: store activations in the order that convolutions on today's CPUs and GPUs prefer.
        micro_batches: the number of parts of a training batch that go through a backbone one after the other. Only one
            part's activations are held at a time; the backward pass recomputes them (GradCache, Gao et al., 2021).
    """

    precision: str = "float32"
    channels_last: bool = True
    micro_batches: int = 1


def accelerate(model: nn.Module, options: BackboneOptions) -> nn.Module:
    """Make every backbone of a model run as `options` say, in place.

    Heads, losses and memories get whole batches whatever `micro_batches` is, so a step equals that of the whole batch
    up to rounding. Two things differ: what backbones draw at random, and their BatchNorm, which normalises each part by
    itself and updates its running statistics once per part.

    Args:
        model: its backbones are the modules whose names end in "backbone".
        options: precision, layout and micro-batches.
    """
    for backbone in backbones(model):
        backbone.forward = partial(_run, backbone.forward, backbone, options)
    return model


def lay_out(model: nn.Module, optimizer: torch.optim.Optimizer, channels_last: bool) -> None:
    """Reorder the backbones' convolution weights and gradients to match their activations, within the same memory.

    fast-reid's optimiser holds them, and its own state, as one vector in this order. Its groups record the order, so
    checkpoints do too. Call it before DistributedDataParallel, which keeps the order that gradients have at first.

    Args:
        model: its backbones are the modules whose names end in "backbone".
        optimizer: the optimiser that holds the model's weights.
        channels_last: whether the new order is channels-last.
    """
    for group in (optimizer.defaults, *optimizer.param_groups):
        group["channels_last"] = channels_last
    for weight in convolutions(model):
        weight.data = reordered(weight.data, channels_last)
        if weight.grad is not None:
            weight.grad = reordered(weight.grad, channels_last)


def lay_out_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Reorder the optimiser's restored state like the weights, if its checkpoint had the other order."""
    came, wanted = (group.get("channels_last", False) for group in (optimizer.param_groups[0], optimizer.defaults))
    if came == wanted:
        return
    for group in optimizer.param_groups:
        group["channels_last"] = wanted
    states = {flat.data_ptr(): state for flat, state in optimizer.state.items()}
    for weight in convolutions(model):
        state = states.get(weight.untyped_storage().data_ptr(), {})
        for vector in (value for value in state.values() if torch.is_tensor(value) and value.dim()):
            own = vector.as_strided(weight.shape, order_of(weight, came), weight.storage_offset())
            reordered(own, wanted)


def convolutions(model: nn.Module) -> list[nn.Parameter]:
    """The backbones' weights (O, C, h, w)."""
    return [weight for backbone in backbones(model) for weight in backbone.parameters() if weight.dim() == 4]


def order_of(weight: Tensor, channels_last: bool) -> tuple[int, ...]:
    """The strides of a weight in which the channels of a pixel are adjacent, or else the pixels of a channel."""
    order = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty_like(weight, device="meta", memory_format=order).stride()


def reordered(values: Tensor, channels_last: bool) -> Tensor:
    """Write values (O, C, h, w) in the given order into the memory that they occupy, and return this view."""
    return values.as_strided(values.shape, order_of(values, channels_last)).copy_(values.clone())


def fuse(optimizer: torch.optim.Optimizer) -> None:
    """Make the optimiser step in one kernel over all weights, if PyTorch has one; results are equal up to rounding.

    The choice is stored in the groups, and so in checkpoints: a run that began without it continues without it.
    """
    on_gpu = any(weight.is_cuda for group in optimizer.param_groups for weight in group["params"])
    if "fused" not in optimizer.defaults or (on_gpu and isinstance(optimizer, torch.optim.Adagrad)):
        logger.info("%s has no fused step here.", type(optimizer).__name__)
        return
    for group in (optimizer.defaults, *optimizer.param_groups):
        group["fused"] = True


def backbones(model: nn.Module) -> list[nn.Module]:
    """The modules of a model whose names end in "backbone"."""
    return [module for name, module in model.named_modules() if name.endswith("backbone")]


def _run(forward: Callable[[Tensor], Tensor], backbone: nn.Module, options: BackboneOptions, images: Tensor) -> Tensor:
    """A backbone's `forward` as `options` say: (B, 3, H, W) -> (B, D, h, w)."""
    encode = partial(_encode, forward, options)
    if options.micro_batches == 1 or not backbone.training:
        return encode(images)
    parts = images.chunk(options.micro_batches)
    contexts = partial(_contexts, backbone)
    return torch.cat([checkpoint(encode, part, use_reentrant=False, context_fn=contexts) for part in parts])


def _encode(forward: Callable[[Tensor], Tensor], options: BackboneOptions, images: Tensor) -> Tensor:
    if options.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    dtype = PRECISIONS[options.precision]
    if dtype is None or torch.jit.is_tracing():  # a runtime that the trace is for chooses the precision itself
        return forward(images)
    with torch.autocast(images.device.type, dtype=dtype):
        return forward(images).float()


def _contexts(backbone: nn.Module) -> tuple:
    """The contexts of the forward pass and of its repetition, which must not update BatchNorm's statistics again."""
    return nullcontext(), statistics_kept_during(backbone)


@contextmanager
def statistics_kept_during(module: nn.Module) -> Iterator[None]:
    """Restore BatchNorm's running statistics after the block."""
    running = [buffer for norm in batchnorms(module) for buffer in norm.buffers()]
    before = [buffer.clone() for buffer in running]
    try:
        yield
    finally:
        for buffer, value in zip(running, before, strict=True):
            buffer.copy_(value)
