"""What surrounds a model's forward pass."""

from collections.abc import Mapping

import torch
from fastreid.modeling.losses import cross_entroy_loss
from fastreid.modeling.meta_arch import build as meta_arch_build
from fastreid.utils import events
from torch import nn

from .imports import wrap


@wrap(meta_arch_build.build_model)
def build_model(stock, cfg) -> nn.Module:
    """Symptom: TEST.FLIP is wrong (the flipped copy is normalised twice); DefaultPredictor and model(x) change x.

    Cause: modeling/meta_arch/baseline.py:130 and mgn.py normalise in place; evaluation/evaluator.py:120 reuses it.
    Mend: a hook hands the model its own copy of the batch, on the model's device, which is also how batches of
    compat.data's loader reach the GPU. "Found no NVIDIA driver" becomes a ValueError with the cure.
    """
    if torch.device(cfg.MODEL.DEVICE).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}, but PyTorch sees no CUDA device: use cpu.")
    model = stock(cfg)
    model.register_forward_pre_hook(own_batch)
    return model


def own_batch(model: nn.Module, inputs: tuple) -> tuple:
    """Forward pre-hook: a batch (dict or tensor) as a copy on the model's device; other arguments as they are."""
    if not inputs:
        return inputs
    device = getattr(model, "device", None) or next(model.parameters()).device

    def own(value):
        return value.to(device, non_blocking=True, copy=True) if isinstance(value, torch.Tensor) else value

    batch, *rest = inputs
    batch = {key: own(value) for key, value in batch.items()} if isinstance(batch, Mapping) else own(batch)
    return (batch, *rest)


@wrap(cross_entroy_loss.cross_entropy_loss)
def cross_entropy_loss(stock, pred_class_outputs, gt_classes, eps, alpha=0.2):
    """Symptom: ``ZeroDivisionError`` with a single training identity.

    Cause: modeling/losses/cross_entroy_loss.py:44 smooths over the other classes.
    Mend: a ValueError that says so.
    """
    if pred_class_outputs.size(1) < 2:
        raise ValueError(
            f"CrossEntropyLoss needs at least 2 training identities, got {pred_class_outputs.size(1)}: add identities."
        )
    return stock(pred_class_outputs, gt_classes, eps, alpha)


def storage_or_scratch() -> events.EventStorage:
    """Symptom: a forward pass in training mode outside a trainer: ``get_event_storage() has to be called inside``.

    Cause: modeling/losses/cross_entroy_loss.py:27 logs the accuracy.
    Mend: outside a trainer it is logged to a storage that nobody keeps.
    """
    return events._CURRENT_STORAGE_STACK[-1] if events._CURRENT_STORAGE_STACK else events.EventStorage()


cross_entroy_loss.get_event_storage = storage_or_scratch
