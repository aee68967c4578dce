"""Checkpoints: written whole or not at all, read without running code from them."""

import collections
import copy
import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from fastreid.utils import checkpoint

from ..files import replacing
from .imports import replace

logger = logging.getLogger(__name__)

# MultiStepLR keeps its milestones in one; PyTorch 2.4 does not know it yet.
torch.serialization.add_safe_globals([collections.Counter])

# Under these keys checkpoints of several projects hold their weights.
CONTAINERS = ("model", "model_state", "state_dict", "state_dict_ema")

# Such as features.denseblock1.denselayer1.norm.1.weight.
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")

# How `torch.load(weights_only=True)` names what it refuses.
UNSAFE = re.compile(r"Unsupported (global|class|type)|not an allowed", re.IGNORECASE)


def plain(value):
    """A copy in which NumPy scalars and arrays, which safe loading refuses, are Python numbers and tensors."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, Mapping):
        result = copy.copy(value)
        for key, entry in value.items():
            result[key] = plain(entry)
        return result
    if type(value) in (list, tuple):
        return type(value)(plain(entry) for entry in value)
    return value


def read_weights(path: str) -> dict:
    """Read a file of `torch.save` on the CPU, without running code from it.

    Raises:
        ValueError: when the file is missing, damaged, or holds objects that only code could restore.
    """
    if not os.path.isfile(path):
        raise ValueError(f"Expected a checkpoint at {path}, found no file: check the path.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        if UNSAFE.search(str(error)):
            reason = (
                "holds Python objects besides tensors and plain values, and loading those could run code. If you trust "
                "its origin, convert it once: torch.save(torch.load(path, weights_only=False)['model'], new_path)"
            )
        else:
            reason = (
                "is truncated or no PyTorch checkpoint. Remove it; to resume from an older one, write that one's name "
                "into the file last_checkpoint beside it"
            )
        raise ValueError(f"{path} {reason}. ({type(error).__name__}: {str(error).partition(chr(10))[0]})") from error


def as_checkpoint(content: object, path: str) -> dict:
    """The content of a weights file as fast-reid's {"model": weights, ...}; a bare state dict is the weights.

    Raises:
        ValueError: when the file holds no weights.
    """
    if isinstance(content, dict):
        for key in CONTAINERS:
            if isinstance(content.get(key), Mapping):
                content["model"] = content.pop(key)
                return content
        if content and all(isinstance(value, torch.Tensor) for value in content.values()):
            return {"model": content}
    raise ValueError(f"Expected weights in {path}, as a state dict or under 'model', got {_describe(content)}.")


def _describe(content: object) -> str:
    return f"the keys {list(content)[:5]}" if isinstance(content, dict) else str(type(content))


def align_prefix(weights: dict, names: set[str]) -> dict:
    """Rename the weights by the one change of prefix that makes most of them fit the `names` of a model's state.

    What torchvision's published DenseNets call `norm.1` gets its name of today, `norm1`.
    """
    weights = {OLD_DENSENET.sub(r"\1\2", key): value for key, value in weights.items()}
    roots = ("module.", "backbone.", "module.backbone.", "encoder.", "module.encoder.", "model.")
    stripped = [{key.removeprefix(root): value for key, value in weights.items()} for root in roots]
    extended = [{f"backbone.{key}": value for key, value in weights.items()}]
    return max([weights, *stripped, *extended], key=lambda candidate: len(names & candidate.keys()))


def lost_layers(state: dict, missing: list[str]) -> list[str]:
    """Those of the missing weights that are matrices or filters.

    Without the others, such as those of an instance normalisation beside BatchNorm, a backbone is not random.
    """
    return [key for key in missing if state[key].dim() > 1]


@replace(checkpoint.Checkpointer)
class Checkpointer(checkpoint.Checkpointer):
    """Symptom: a run killed while it saves cannot resume; loading a checkpoint can run code; resuming can fail on it.

    Cause: utils/checkpoint.py:101 writes onto the final name, :216 leaves `weights_only` to PyTorch's version, and
    `metric` is a NumPy number (evaluation/reid_evaluation.py:112) which `weights_only` refuses.
    Mend: atomic writes, plain values, safe reading, and errors with the file, the cause and the cure. Bare state
    dicts, such as torchvision's, load as weights.
    """

    def save(self, name: str, **kwargs) -> None:
        """Write <save_dir>/<name>.pth and name it in `last_checkpoint`, to resume from.

        But for model_best, which is saved before the hooks of its epoch are through.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        began = time.perf_counter()
        states = {key: value.state_dict() for key, value in self.checkpointables.items()}
        data = plain({"model": self.model.state_dict(), **states, **kwargs})
        file_name = f"{name}.pth"
        path = os.path.join(self.save_dir, file_name)
        for cut_off in Path(self.save_dir).glob("*.pth.*.tmp"):
            cut_off.unlink()  # of a process that was killed while it saved
        self.logger.info(f"Saving checkpoint to {path}")
        with replacing(path) as temporary:
            torch.save(data, temporary)
        self.logger.info(f"Saved in {time.perf_counter() - began:.2f} s")
        if name != "model_best":
            self.tag_last_checkpoint(file_name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        path = os.path.join(self.save_dir, "last_checkpoint")
        with replacing(path) as temporary:
            Path(temporary).write_text(last_filename_basename)

    def _load_file(self, f: str) -> dict:
        return as_checkpoint(read_weights(f), f)

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict:
        """As fast-reid's; a missing file is a ValueError.

        Without a path fast-reid logs "Training model from scratch", of a backbone with ImageNet weights, too.
        """
        if not path:
            self.logger.info("There is no checkpoint to load: the weights stay those that the model was built with")
            return {}
        if path and not os.path.isfile(path):
            raise ValueError(f"Expected a checkpoint at {path}, found no file: check MODEL.WEIGHTS or last_checkpoint.")
        self._path = path
        return super().load(path, checkpointables)

    def _load_model(self, checkpoint: dict):
        state = self.model.state_dict()
        weights = checkpoint["model"] = align_prefix(checkpoint["model"], set(state))
        if not any(key in state and tuple(state[key].shape) == tuple(value.shape) for key, value in weights.items()):
            raise ValueError(
                f"No weight of {self._path} fits the model: the file has {list(weights)[:3]}..., the model "
                f"{list(state)[:3]}.... Check MODEL.META_ARCHITECTURE and MODEL.BACKBONE."
            )
        return super()._load_model(checkpoint)

    def _log_incompatible_keys(self, incompatible) -> None:
        """Symptom: "Skip loading parameter 'heads.weight'" warnings in every evaluation.

        Cause: utils/checkpoint.py:272 where the model was built for 0 classes, as evaluation does.
        Mend: weights of which the model has none are no mismatch.

        Symptom: a backbone that the file does not fit, or fits in part, trains and is evaluated with random layers.
        Cause: the same lines only log it.
        Mend: a ValueError.
        """
        shapes = [entry for entry in incompatible.incorrect_shapes if 0 not in entry[2]]
        missing = [key for key in incompatible.missing_keys if key not in {e[0] for e in incompatible.incorrect_shapes}]
        of_backbone = [key for key in (*missing, *(e[0] for e in shapes)) if key.startswith("backbone.")]
        lost = lost_layers(self.model.state_dict(), of_backbone)
        if lost:
            raise ValueError(
                f"{self._path} is of another backbone: {len(lost)} of its layers are missing or of another shape, such "
                f"as {lost[0]}, and would stay random. Check MODEL.BACKBONE."
            )
        super()._log_incompatible_keys(incompatible._replace(incorrect_shapes=shapes, missing_keys=missing))
