"""The run that a picture is of: its configuration, its weights and how far it came."""

import argparse
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from fastreid.config import CfgNode
from torch import nn

from ..config.checks import check_config
from ..config.load import load_config
from ..runs.read import last_checkpoint, read_config, system_name
from .complete import CompleteCheckpointer, input_size, modules_run
from .trainer import Trainer


@dataclass(frozen=True)
class Origin:
    """Where a picture comes from.

    Attributes:
        system, seed: of the run in whose folder the weights lie.
        stage: "epoch 8", counted from 1, or the name of weights that do not say their epoch.
    """

    system: str
    seed: int
    stage: str

    def __str__(self) -> str:
        return f"{self.system}, seed {self.seed}, {self.stage}"


@dataclass(frozen=True)
class Subject:
    """A model with trained weights, in evaluation mode.

    Attributes:
        backbone: the module whose feature map becomes the test-time feature; a method may have several backbones.
        layers: names of the backbone's modules that run; a container can have parts that run and not run itself.
        size: (H, W) of the input, in pixels.
    """

    origin: Origin
    model: nn.Module = field(repr=False)
    backbone: nn.Module = field(repr=False)
    layers: tuple[str, ...] = field(repr=False)
    size: tuple[int, int]


def run_config(folder: Path, opts: list[str], imports: Collection[str] = ()) -> CfgNode:
    """The configuration of a run with its last checkpoint as MODEL.WEIGHTS, changed by the options.

    Args:
        folder: of the run, perhaps somebody else's.
        opts: KEY VALUE KEY VALUE ...
        imports: those of its IMPORTS that may run.

    Raises:
        ValueError: if there is no run, or if it would run code by other IMPORTS.
    """
    read_config(folder)
    weights = str(last_checkpoint(folder) or "")
    own = ["OUTPUT_DIR", str(folder), "MODEL.DEVICE", "auto", "MODEL.WEIGHTS", weights]
    return load_config(str(folder / "config.yaml"), [*own, *opts], imports)


def add_source(parser: argparse.ArgumentParser) -> None:
    """The options by which `configuration_of` finds trained weights."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config-file", metavar="FILE", help="with MODEL.WEIGHTS FILE among the options")
    source.add_argument("--run", type=Path, metavar="FOLDER", help="of a run: its config.yaml and last checkpoint")
    parser.add_argument(
        "--allow-imports", action="append", default=[], metavar="FILE", help="of the run's IMPORTS, which is code"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="settings, as for train_net.py")


def configuration_of(args: argparse.Namespace) -> CfgNode:
    """What the options of `add_source` name.

    Raises:
        ValueError: if there is no run, and as `load_config`.
    """
    if args.run:
        return run_config(args.run, args.opts, args.allow_imports)
    return load_config(args.config_file, args.opts)


def origin(folder: Path, stage: str, seed: int) -> Origin:
    """The origin of a picture of what lies in a folder; `seed` is that of a folder without a run's config.yaml."""
    if (folder / "config.yaml").exists():
        seed = read_config(folder)["SEED"]
    return Origin(system_name(folder, seed), seed, stage)


def load_subject(cfg) -> Subject:
    """Build the model and load MODEL.WEIGHTS into it.

    Raises:
        ValueError: without weights, or with some that lack what the test-time feature is made of.
    """
    if not cfg.MODEL.WEIGHTS:
        raise ValueError(
            f"There is no checkpoint to draw: give MODEL.WEIGHTS, or train the run in {cfg.OUTPUT_DIR} to its first "
            "checkpoint (SOLVER.CHECKPOINT_PERIOD)."
        )
    cfg = cfg.clone()
    cfg.defrost()
    # Settings of training that do not matter here and may not fit this machine or these weights.
    cfg.MODEL.BACKBONE.PRETRAIN, cfg.SOLVER.AMP.ENABLED, cfg.MODEL.HEADS.NUM_CLASSES = False, False, 0
    check_config(cfg)
    model = Trainer.build_model(cfg).eval()
    size = input_size(cfg)
    names = modules_run(model, size)
    weights = Path(cfg.MODEL.WEIGHTS)
    epoch = CompleteCheckpointer(model, needed=names).load(str(weights)).get("epoch")
    where = origin(weights.parent, weights.stem if epoch is None else f"epoch {epoch + 1}", cfg.SEED)
    backbone = next((name for name in names if name.rpartition(".")[2] == "backbone"), None)
    if backbone is None:
        raise ValueError(f"Expected {type(model).__name__} to make its feature by a module named backbone: name it so.")
    layers = tuple(name.removeprefix(f"{backbone}.") for name in names if name.startswith(f"{backbone}."))
    return Subject(where, model, model.get_submodule(backbone), layers, size)
