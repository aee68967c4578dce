"""Checkpoints that are written whole or not at all, and read without running code from them."""

import copy
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from fastreid.utils import checkpoint

from .. import weights
from ..errors import UserError
from ..files import replacing, write_text
from .imports import replace

logger = logging.getLogger(__name__)


def plain(value):
    """Copy a value with NumPy scalars and arrays, which safe loading refuses, as Python numbers and tensors."""
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


def _of_backbone(state: dict) -> dict:
    return {key: value for key, value in state.items() if key.startswith("backbone.")}


@replace(checkpoint.Checkpointer)
class Checkpointer(checkpoint.Checkpointer):
    """Symptom: a run killed while it saves cannot resume; loading a checkpoint can run code; resuming can fail on it.

    Cause: utils/checkpoint.py:101 writes onto the final name, :216 leaves `weights_only` to PyTorch's version, and
    `metric` is a NumPy number (evaluation/reid_evaluation.py:112) which `weights_only` refuses.
    Fix: atomic writes, plain values, safe reading, and errors with the file, the cause and the cure. Bare state
    dicts, such as torchvision's, load as weights.
    """

    def save(self, name: str, **kwargs) -> None:
        """Write <save_dir>/<name>.pth and name it in `last_checkpoint`, to resume from.

        model_best is not named there, as it is saved before the hooks of its epoch have finished.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        began = time.perf_counter()
        states = {key: value.state_dict() for key, value in self.checkpointables.items()}
        data = plain({"model": self.model.state_dict(), **states, **kwargs})
        file_name = f"{name}.pth"
        path = os.path.join(self.save_dir, file_name)
        for cut_off in Path(self.save_dir).glob("*.pth.*.tmp"):
            cut_off.unlink()  # left by a process that was killed while it saved
        self.logger.info(f"Saving checkpoint to {path}")
        with replacing(path) as temporary:
            torch.save(data, temporary)
        self.logger.info(f"Saved in {time.perf_counter() - began:.2f} s")
        if name != "model_best":
            self.tag_last_checkpoint(file_name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        path = os.path.join(self.save_dir, "last_checkpoint")
        write_text(path, last_filename_basename)

    def _load_file(self, f: str) -> dict:
        try:
            return weights.as_checkpoint(weights.read_file(f), f)
        except UserError as error:
            if f != self.get_checkpoint_file():
                raise
            older = "To resume from an older checkpoint, write its name into the file last_checkpoint beside it."
            raise UserError(f"{error} {older}") from error

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict:
        """Load a checkpoint as fast-reid does, but raise UserError if the file is missing.

        Without a path fast-reid logs "Training model from scratch", even if the backbone has ImageNet weights.
        """
        if not path:
            self.logger.info("There is no checkpoint to load: the weights stay those that the model was built with")
            return {}
        if not os.path.exists(path):
            raise UserError(f"Expected a checkpoint at {path}, got no file: check MODEL.WEIGHTS or last_checkpoint.")
        if os.path.isdir(path):
            weights.read_file(path)  # says what to name instead
        self._path = path
        return super().load(path, checkpointables)

    def _load_model(self, checkpoint: dict):
        state = self.model.state_dict()
        fitted = weights.fit(checkpoint["model"], state)
        checkpoint["model"] = fitted.weights
        networks = [_of_backbone(names) for names in (fitted.weights, state)]
        self._other, self._surplus = weights.architectures(*networks), weights.surplus_layers(*networks)
        fitting = [key for key, value in fitted.weights.items() if key in state and state[key].shape == value.shape]
        if not fitting:
            raise UserError(
                f"No weight of {self._path} fits the model: the file has {list(fitted.weights)[:3]}..., the model "
                f"{list(state)[:3]}....{self._other} Check MODEL.META_ARCHITECTURE and MODEL.BACKBONE."
            )
        if fitted.removed or fitted.added:
            logger.info("Weights of %s: %s; unused: %s", self._path, fitted, weights.summarise_names(fitted.unused))
        weights.require_usable({key: fitted.weights[key] for key in fitting}, state, self._path)
        if weights.of_another_grid(self.model, self._path):
            raise UserError(self._of_another_size())
        self._fresh = weights.fresh_parts(self.model, fitting)
        return super()._load_model(checkpoint)

    def _log_incompatible_keys(self, incompatible) -> None:
        """Symptom: "Skip loading parameter 'heads.weight'" warnings in every evaluation.

        Cause: utils/checkpoint.py:272 where the model was built for 0 classes, as evaluation does.
        Fix: weights of a part that the model lacks are no mismatch.

        Symptom: a backbone that the file does not fit, or only in part, is trained and evaluated with random layers.
        Cause: the same lines only log it.
        Fix: a UserError, except for the parts that a backbone adds on purpose.
        """
        shapes = [entry for entry in incompatible.incorrect_shapes if 0 not in entry[2]]
        wrong = {entry[0] for entry in incompatible.incorrect_shapes}
        absent = [key for key in incompatible.missing_keys if key not in wrong]
        missing = [key for key in absent if not key.startswith(self._fresh)]
        fresh = [part for part in self._fresh if any(key.startswith(part) for key in absent)]
        if fresh:
            logger.info("Parts of the backbone that %s lacks start fresh, as it asks: %s", self._path, ", ".join(fresh))
        of_backbone = [key for key in (*missing, *(e[0] for e in shapes)) if key.startswith("backbone.")]
        lost = weights.lost_layers(self.model.state_dict(), of_backbone, incompatible.unexpected_keys)
        if lost:
            if all("pos_embed" in name for name in lost):
                raise UserError(self._of_another_size())
            raise UserError(
                f"{self._path} is of another backbone: {len(lost)} of its layers are missing or of another shape, such "
                f"as {lost[0]}, and would stay untrained.{self._other} Check MODEL.BACKBONE, or name what a backbone "
                "of your own adds on purpose in its attribute `fresh_parts`."
            )
        self._require_same_network()
        super()._log_incompatible_keys(incompatible._replace(incorrect_shapes=shapes, missing_keys=missing))

    def _of_another_size(self) -> str:
        return (
            f"{self._path} has position embeddings of another image size: set INPUT.SIZE_TRAIN to the size of its "
            "training (SIZE_TEST may be another), or give the file by MODEL.BACKBONE.PRETRAIN_PATH, which resizes them."
        )

    def _require_same_network(self) -> None:
        """Refuse weights of a deeper network, or of one with other blocks, too; it may have all layers of this one."""
        if self._surplus or self._other:
            n = len(self._surplus)
            what = f": the model lacks {n} weights of the file's network, such as {self._surplus[0]}" if n else ""
            raise UserError(f"{self._path} is of another backbone{what}.{self._other} Check MODEL.BACKBONE.")
