"""The checks of this package's keys, made when a configuration is loaded."""

import posixpath
from collections.abc import Iterable, Iterator
from typing import Any

from fastreid.config import CfgNode

from ..errors import UserError
from .keys import KEYS
from .ranges import LARGEST, unbounded

# Keys that hold a list of names, and those where a name twice would count twice.
EACH_ONCE = ("DATASETS.NAMES", "DATASETS.TESTS", "MODEL.LOSSES.NAME")
NAMES = (*EACH_ONCE, "IMPORTS", "MODEL.FREEZE_LAYERS", "KD.MODEL_CONFIG", "KD.MODEL_WEIGHTS")


def value_of(cfg: CfgNode, key: str) -> Any:
    """The value at a key of several parts, such as "MODEL.HEADS.NORM"."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def all_keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    """The full names of all keys and sections of a configuration."""
    own = [prefix + key for key in cfg]
    below = [all_keys(value, f"{prefix}{key}.") for key, value in cfg.items() if isinstance(value, CfgNode)]
    return own + [key for keys in below for key in keys]


def check_values(cfg: CfgNode) -> None:
    """Check the values of this package's keys; of every key, that numbers are finite and names are names.

    Raises:
        ValueError: with every wrong key, its value and what was expected.
    """
    empty = [key for key in all_keys(cfg) if value_of(cfg, key) is None]
    if empty:
        raise UserError(f"Expected values of {', '.join(empty)} in the configuration, got none: give or remove them.")
    _refuse([*_endless_numbers(cfg), *_wrong_names(cfg)])
    alone = {key.name: key.valid for key in KEYS if not key.valid.holds(value_of(cfg, key.name))}
    wrong = [*alone.items(), *(pair for pair in _wrong_together(cfg) if pair[0] not in alone)]
    _refuse(f"{key} {value_of(cfg, key)!r}: expected {expected}" for key, expected in wrong)


def _refuse(problems: Iterable[str]) -> None:
    problems = list(problems)
    if problems:
        raise UserError("Correct these values of the configuration:\n  " + "\n  ".join(problems))


def _wrong_together(cfg: CfgNode) -> Iterator[tuple[str, str]]:
    """Keys that do not fit the values of others, with what was expected."""
    labels, backbone, device, gap = cfg.PSEUDO_LABELS, cfg.MODEL.BACKBONE, cfg.MODEL.DEVICE, cfg.SPCL.GAP
    uses_timm, radius = backbone.NAME.endswith("_timm_backbone"), labels.EPS
    if cfg.SOLVER.AMP.ENABLED and cfg.MODEL.PRECISION == "bfloat16":
        yield "MODEL.PRECISION", "float32 beside SOLVER.AMP"
    if backbone.TIMM and not uses_timm:
        yield "MODEL.BACKBONE.TIMM", "empty, or with NAME build_timm_backbone"
    if uses_timm and not backbone.TIMM:
        yield "MODEL.BACKBONE.TIMM", f"timm's name of a model, with {backbone.NAME}"
    if labels.ALGORITHM == "hdbscan" and labels.MIN_SAMPLES < 2:
        yield "PSEUDO_LABELS.MIN_SAMPLES", "at least 2 with hdbscan"
    if labels.DEVICE not in ("", "cpu", device):
        yield "PSEUDO_LABELS.DEVICE", f"empty, cpu or MODEL.DEVICE, {device}"
    if cfg.MODEL.META_ARCHITECTURE == "SpCL" and not isinstance(radius, str) and min(radius, 1 - radius) <= gap:
        yield "SPCL.GAP", "less than PSEUDO_LABELS.EPS and than 1 - EPS"
    if cfg.DATALOADER.NUM_INSTANCE < 1:  # of fast-reid, and used by every method here
        yield "DATALOADER.NUM_INSTANCE", "at least 1"


def _endless_numbers(cfg: CfgNode) -> Iterator[str]:
    for key in all_keys(cfg):
        if key != "SOLVER.CLIP_GRADIENTS.NORM_TYPE" and unbounded(value_of(cfg, key)):
            yield f"{key} {value_of(cfg, key)}: expected numbers of at most {LARGEST}, and finite ones"


def _wrong_names(cfg: CfgNode) -> Iterator[str]:
    for key in NAMES:
        names = value_of(cfg, key)
        if not all(isinstance(name, str) and name.strip() for name in names):
            yield f"{key} {tuple(names)}: expected names that are not empty"
        elif key in EACH_ONCE and len({posixpath.normpath(name) for name in names}) < len(names):
            yield f"{key} {tuple(names)}: expected each name once"
