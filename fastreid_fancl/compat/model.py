"""Building models, their forward pass, and the losses of supervised methods."""

from collections.abc import Mapping
from types import SimpleNamespace

import torch
from fastreid.modeling.losses import cross_entroy_loss
from fastreid.modeling.meta_arch import baseline
from fastreid.modeling.meta_arch import build as meta_arch_build
from fastreid.utils import events
from torch import Tensor, nn

from ..errors import UserError
from .imports import replace, wrap


@wrap(meta_arch_build.build_model)
def build_model(stock, cfg) -> nn.Module:
    """Symptom: TEST.FLIP is wrong (the flipped copy is normalised twice); DefaultPredictor and model(x) change x.

    Cause: modeling/meta_arch/baseline.py:130 and mgn.py normalise in place; evaluation/evaluator.py:120 reuses it.
    Fix: a hook gives the model its own copy of the batch on the model's device; batches of compat.data's loader
    reach the GPU in this way, too. "Found no NVIDIA driver" becomes a UserError with the cure. A GPU given
    by number becomes the current device, to which streams and memory statistics refer.
    """
    device = torch.device(cfg.MODEL.DEVICE)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}, but PyTorch sees no CUDA device: use cpu.")
    if device.index is not None and device.type == "cuda":
        torch.cuda.set_device(device)
    model = stock(cfg)
    model.register_forward_pre_hook(own_batch)
    return model


def own_batch(model: nn.Module, inputs: tuple) -> tuple:
    """Forward pre-hook: copy a batch (dict or tensor) to the model's device; other arguments stay unchanged."""
    if not inputs:
        return inputs
    device = getattr(model, "device", None) or next(model.parameters()).device

    def own(value):
        return value.to(device, non_blocking=True, copy=True) if isinstance(value, torch.Tensor) else value

    batch, *rest = inputs
    batch = {key: own(value) for key, value in batch.items()} if isinstance(batch, Mapping) else own(batch)
    return (batch, *rest)


def forward(self, batched_inputs: dict[str, Tensor]) -> dict[str, Tensor] | Tensor:
    """Symptom: every supervised step waits for the GPU.

    Cause: modeling/meta_arch/baseline.py:110 asks on the host whether the targets' sum is negative, to make them zeros.
    Fix: the targets are multiplied by the answer, on the device.
    """
    features = self.backbone(self.preprocess_image(batched_inputs))
    if not self.training:
        return self.heads(features)
    targets = batched_inputs["targets"]
    targets *= targets.sum() >= 0
    return self.losses(self.heads(features, targets), targets)


baseline.Baseline.forward = forward


@replace(cross_entroy_loss.cross_entropy_loss)
def cross_entropy_loss(pred_class_outputs: Tensor, gt_classes: Tensor, eps: float, alpha: float = 0.2) -> Tensor:
    """Symptom: ``ZeroDivisionError`` with a single training identity; each step waits for the GPU.

    Cause: modeling/losses/cross_entroy_loss.py:44 smooths over the other classes; :50 counts on the host the images
    whose loss is not zero, :39 indexes by numbers of the host.
    Fix: a UserError that says so; the same sums on the device.
    """
    classes = pred_class_outputs.size(1)
    if classes < 2:
        raise UserError(f"CrossEntropyLoss needs at least 2 training identities, got {classes}: add identities.")
    own, log_probs = gt_classes[:, None], pred_class_outputs.log_softmax(1)
    with torch.no_grad():
        smoothing = eps if eps >= 0 else alpha * pred_class_outputs.softmax(1).gather(1, own)
        wanted = (torch.ones_like(log_probs) * (smoothing / (classes - 1))).scatter_(1, own, 1 - smoothing)
    loss = (-wanted * log_probs).sum(1)
    return loss.sum() / loss.count_nonzero().clamp(min=1)


def accuracy_storage() -> SimpleNamespace:
    """Symptom: a forward pass in training mode outside a trainer: ``get_event_storage() has to be called inside``; each
    step waits for the GPU.

    Cause: modeling/losses/cross_entroy_loss.py:27 logs the accuracy.
    Fix: `EventStorage.put_later` records it; outside a trainer it goes into a storage that is thrown away.
    """
    storage = events._CURRENT_STORAGE_STACK[-1] if events._CURRENT_STORAGE_STACK else events.EventStorage()
    return SimpleNamespace(put_scalar=storage.put_later)


cross_entroy_loss.get_event_storage = accuracy_storage
