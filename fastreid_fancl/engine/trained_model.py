"""A model with trained weights: its configuration, from a run or a file, and the checks that the weights fit."""

import argparse
import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import torch
from fastreid.config import CfgNode
from fastreid.utils.checkpoint import Checkpointer
from torch import nn

from ..config.checks import check_config
from ..config.load import load_config
from ..errors import UserError
from ..openvino import compile_forward, why_unusable
from ..runs.read import last_checkpoint, read_config, system_name
from ..weights import fresh_parts
from .starts import check_start, weights_in_use, without_pretraining
from .trainer import Trainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunLabel:
    """The run and epoch that weights, and pictures made with them, come from.

    Attributes:
        system, seed: those of the run in whose folder the weights lie.
        stage: "epoch 8", counted from 1, or the file's name if the weights do not record their epoch.
    """

    system: str
    seed: int
    stage: str

    def __str__(self) -> str:
        return f"{self.system}, seed {self.seed}, {self.stage}"


@dataclass(frozen=True)
class TrainedModel:
    """A model with trained weights, in evaluation mode.

    Attributes:
        backbone: the module whose feature map becomes the test-time feature; a method may have several backbones.
        layers: names of the backbone's modules that run. A container may have parts that run, and not run itself.
        size: (H, W) of the input, in pixels.
    """

    label: RunLabel
    model: nn.Module = field(repr=False)
    backbone: nn.Module = field(repr=False)
    layers: tuple[str, ...] = field(repr=False)
    size: tuple[int, int]


def run_config(folder: Path, opts: list[str], imports: Collection[str] = ()) -> CfgNode:
    """The configuration of a run with its last checkpoint as MODEL.WEIGHTS, changed by the options.

    Args:
        folder: the run's OUTPUT_DIR; it may come from somebody else.
        opts: KEY VALUE KEY VALUE ...
        imports: the files of its IMPORTS that may run.

    Raises:
        UserError: if there is no run, or if it would run code by other IMPORTS.
    """
    read_config(folder)
    weights = str(last_checkpoint(folder) or "")
    own = ["OUTPUT_DIR", str(folder), "MODEL.DEVICE", "auto", "MODEL.WEIGHTS", weights]
    return load_config(str(folder / "config.yaml"), [*own, *opts], imports)


def add_source(parser: argparse.ArgumentParser) -> None:
    """The options by which `configuration_of` finds trained weights."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config-file", metavar="FILE", help="with MODEL.WEIGHTS FILE among the options")
    source.add_argument(
        "--run", type=Path, metavar="FOLDER", help="a run's folder: its config.yaml and last checkpoint"
    )
    parser.add_argument(
        "--allow-imports",
        action="append",
        default=[],
        metavar="FILE",
        help="code of the run's IMPORTS that may run",
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="settings, as for train_net.py")


def configuration_of(args: argparse.Namespace) -> CfgNode:
    """The configuration that the options of `add_source` name.

    Raises:
        UserError: if there is no run, and as `load_config`.
    """
    if args.run:
        return run_config(args.run, args.opts, args.allow_imports)
    return load_config(args.config_file, args.opts)


def run_label(folder: Path, stage: str, seed: int) -> RunLabel:
    """The label of weights in a folder; `seed` is used if the folder has no config.yaml."""
    if (folder / "config.yaml").exists():
        seed = read_config(folder)["SEED"]
    return RunLabel(system_name(folder, seed), seed, stage)


def load_trained_model(cfg) -> TrainedModel:
    """Build the model and load MODEL.WEIGHTS into it.

    Raises:
        UserError: without weights, or if they lack a part of the test-time feature.
    """
    if not cfg.MODEL.WEIGHTS:
        raise UserError(
            f"There are no trained weights: give MODEL.WEIGHTS, or train the run in {cfg.OUTPUT_DIR} to its first "
            "checkpoint (SOLVER.CHECKPOINT_PERIOD)."
        )
    cfg = cfg.clone()
    cfg.defrost()
    # Settings of training that do not matter here and may not fit this machine or these weights.
    cfg.MODEL.BACKBONE.PRETRAIN, cfg.SOLVER.AMP.ENABLED, cfg.MODEL.HEADS.NUM_CLASSES = False, False, 0
    check_config(cfg)
    model = Trainer.build_model(cfg).eval()
    size = input_size(cfg)
    names = executed_modules(model, size)
    weights = Path(cfg.MODEL.WEIGHTS)
    epoch = StrictCheckpointer(model, needed=names).load(str(weights)).get("epoch")
    where = run_label(weights.parent, weights.stem if epoch is None else f"epoch {epoch + 1}", cfg.SEED)
    backbone = next((name for name in names if name.rpartition(".")[2] == "backbone"), None)
    if backbone is None:
        raise UserError(f"Expected {type(model).__name__} to make its feature by a module named backbone: name it so.")
    layers = tuple(name.removeprefix(f"{backbone}.") for name in names if name.startswith(f"{backbone}."))
    return TrainedModel(where, model, model.get_submodule(backbone), layers, size)


def input_size(cfg) -> tuple[int, int]:
    """(H, W) in pixels of the network's input at test time."""
    size = cfg.INPUT.CROP.SIZE if cfg.INPUT.CROP.ENABLED else cfg.INPUT.SIZE_TEST
    return size[0], size[-1]


@torch.no_grad()
def executed_modules(model: nn.Module, size: tuple[int, int]) -> list[str]:
    """The names of the modules that compute the test-time feature, in the order in which they finish."""
    names: dict[str, None] = {}
    handles = [
        module.register_forward_hook(lambda *_, name=name: names.setdefault(name))
        for name, module in model.named_modules()
    ]
    model({"images": torch.zeros(1, 3, *size)})
    for handle in handles:
        handle.remove()
    return list(names)


def random_parts(model: nn.Module, size: tuple[int, int]) -> list[str]:
    """The names of what computes the test-time feature and came with no pre-trained backbone.

    These are parts that a backbone adds to a known network, such as JCL's attention, and layers behind the backbone,
    such as PCB's reductions. BatchNorm layers are none: they start as the identity.
    """
    pretrained = [
        f"{name}.{key}".strip(".")
        for name, module in model.named_modules()
        for key in getattr(module, "pretrained_names", ())  # which `load_backbone` leaves
    ]
    added = fresh_parts(model, pretrained)
    found = []
    for name in executed_modules(model, size):
        if isinstance(model.get_submodule(name), (nn.Linear, nn.Conv2d)):
            part = next((part.rstrip(".") for part in added if name.startswith(part)), name)
            found += [part] if part != name or "backbone" not in name.split(".") else []
    return list(dict.fromkeys(found))


class StrictCheckpointer(Checkpointer):
    """Refuses weights that lack any needed module; the stock checkpointer leaves such modules random."""

    def __init__(self, model: nn.Module, needed: list[str]):
        super().__init__(model)
        self.needed = set(needed)

    def _log_incompatible_keys(self, incompatible) -> None:
        built = {key: shape for key, _, shape in incompatible.incorrect_shapes}
        # Classifiers are built for no classes here, and counters of batches came with PyTorch 0.4.
        excused = {key for key, shape in built.items() if 0 in shape}
        lost = [
            key
            for key in dict.fromkeys([*incompatible.missing_keys, *built])
            if key.rpartition(".")[0] in self.needed and key not in excused and "num_batches" not in key
        ]
        if lost and self._is_bare(incompatible, lost):
            raise UserError(
                f"{self._path} holds a backbone only, without {lost[0]} of {type(self.model).__name__}: give it by "
                "MODEL.BACKBONE.PRETRAIN_PATH with MODEL.BACKBONE.PRETRAIN True and MODEL.WEIGHTS ''."
            )
        if lost:
            raise UserError(
                f"{self._path} does not fit {type(self.model).__name__}: {len(lost)} weights of the test-time feature "
                f"are missing or of another shape, such as {lost[0]}.{self._other} Check MODEL.META_ARCHITECTURE, "
                "MODEL.BACKBONE and MODEL.HEADS, or take the run's own configuration, the config.yaml in its folder."
            )
        self._require_same_network()

    def _is_bare(self, incompatible, lost: list[str]) -> bool:
        """Whether the file holds what is needed of the backbone and nothing else, and so lacks what is outside it."""
        absent = set(incompatible.missing_keys).difference(key for key, *_ in incompatible.incorrect_shapes)
        held = {*self.model.state_dict(), *incompatible.unexpected_keys} - absent
        if not all(_in_backbone(key) or "num_batches" in key for key in held):
            return False
        return all(not _in_backbone(key) or key.startswith(self._fresh) for key in lost)


def _in_backbone(key: str) -> bool:
    return any(part.endswith("backbone") for part in key.split("."))  # FANCL has a noised_backbone, too


def load_start_or_trained_model(cfg, start: bool) -> nn.Module:
    """The model that makes features of photographs: with MODEL.WEIGHTS, or else with the start of a training.

    Args:
        cfg: the configuration.
        start: whether the pretrained weights that a training would start from are welcome without MODEL.WEIGHTS.

    Raises:
        ValueError: without any weights, and as `load_model` and `use_runtime`.
    """
    frozen = start and not cfg.MODEL.WEIGHTS and cfg.MODEL.BACKBONE.PRETRAIN
    if not frozen:
        return use_runtime(load_trained_model(cfg).model, cfg)
    model = load_model(cfg)
    parts = random_parts(model, input_size(cfg))
    if parts:
        logger.warning("The features are of %s.", weights_in_use(cfg, parts))
    return use_runtime(model, cfg)


def load_model(cfg) -> nn.Module:
    """The model in evaluation mode with MODEL.WEIGHTS, or with the weights that a training would start from.

    PyTorch computes it; `use_runtime` changes that.

    Raises:
        UserError: if the weights lack a part of the test-time feature, or MODEL.BACKBONE.PRETRAIN_PATH would not be
            used.
    """
    if cfg.MODEL.WEIGHTS:
        cfg = without_pretraining(cfg)
    else:
        check_start(cfg)
        if not cfg.MODEL.BACKBONE.PRETRAIN:
            logger.warning("These are the scores of random weights: name trained ones by MODEL.WEIGHTS.")
    model = Trainer.build_model(cfg).eval()
    if cfg.MODEL.WEIGHTS:
        StrictCheckpointer(model, executed_modules(model, input_size(cfg))).load(cfg.MODEL.WEIGHTS)
    return model


def use_runtime(model: nn.Module, cfg) -> nn.Module:
    """Make TEST.RUNTIME compute the model's forward pass in evaluation mode, in place; return the model.

    Raises:
        UserError: if the runtime is not installed, or cannot run this model or device.
    """
    if cfg.TEST.RUNTIME == "openvino":
        reason = why_unusable(cfg.MODEL.DEVICE)
        if reason:
            raise UserError(reason)
        compile_forward(model, input_size(cfg), cfg.MODEL.PRECISION)
    return model
