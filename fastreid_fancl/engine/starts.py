"""The weights that a run starts from: their names in the log, and warnings of starts that teach little."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..backbones.timm import LITE0
from ..data.datasets import SYNTHETIC
from ..errors import UserError
from ..runs.beside import settings_beside

RANDOM_START = (
    "Training starts from random weights: the first clusters are noise, and next to nothing is learned from them. Give "
    "MODEL.BACKBONE.PRETRAIN_PATH or MODEL.WEIGHTS."
)
SYNTHETIC_START = (
    "Training on photographs starts from weights that have only seen drawn animals: little will be learned. Start from "
    "ImageNet weights, as configs/Photographs does."
)


def weights_named(cfg) -> str:
    """The weights that a model is built with, in words: MODEL.WEIGHTS, a pretrained backbone, or random ones."""
    backbone = cfg.MODEL.BACKBONE
    if cfg.MODEL.WEIGHTS:
        return f"MODEL.WEIGHTS {cfg.MODEL.WEIGHTS}"
    if not backbone.PRETRAIN:
        return "random weights"
    name = backbone.get("TIMM")
    known = not name or name.partition(".")[0] == LITE0  # what else timm has may come from other photographs
    return backbone.PRETRAIN_PATH or f"{'ImageNet' if known else 'pre-trained'} weights of {name or backbone.NAME}"


def without_pretraining(cfg):
    """A copy of the configuration that loads no pre-trained backbone, because a file replaces its weights."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.PRETRAIN = False
    cfg.freeze()
    return cfg


def start_of(cfg, epoch: int) -> str:
    """Which weights a training starts from or continues with, as the end of a sentence; epochs count from 0."""
    return f"continues from its checkpoint after {epoch} epochs" if epoch else f"starts from {weights_named(cfg)}"


def weights_in_use(cfg, random: Sequence[str] = ()) -> str:
    """The weights that an evaluation or a grouping uses, in words; it says where no training has changed them.

    Args:
        cfg: the configuration.
        random: the parts of the feature, as of `random_parts`, that pre-trained weights of a backbone do not have.
    """
    name = weights_named(cfg)
    if cfg.MODEL.WEIGHTS:
        return name
    parts = f", and random weights in {', '.join(random)}" if random and cfg.MODEL.BACKBONE.PRETRAIN else ""
    return f"the frozen start, without training: {name}{parts}"


def warning_of_start(cfg, epoch: int, unsupervised: bool) -> str | None:
    """A warning if a training without labels starts from random weights, or one on photographs from drawn animals."""
    drawn = only_drawn(cfg.DATASETS.NAMES)
    if epoch or _starts_from_published(cfg.MODEL):
        return None
    if not _file_of_start(cfg.MODEL):
        return RANDOM_START if unsupervised or not drawn else None
    return SYNTHETIC_START if not drawn and _saw_only_drawn(_file_of_start(cfg.MODEL)) else None


def warning_of_freeze(cfg, iters_per_epoch: int) -> str | None:
    """A warning if SOLVER.FREEZE_ITERS ends in the first epoch, or not before the training does."""
    frozen, whole = cfg.SOLVER.FREEZE_ITERS, cfg.SOLVER.MAX_EPOCH * iters_per_epoch
    layers = ", ".join(cfg.MODEL.FREEZE_LAYERS)
    if not frozen or not layers or iters_per_epoch <= frozen < whole:
        return None
    if frozen >= whole:
        return f"SOLVER.FREEZE_ITERS {frozen} keeps {layers} fixed in all {whole} iterations of the training."
    return (
        f"SOLVER.FREEZE_ITERS {frozen} is shorter than an epoch ({iters_per_epoch} iterations): the other layers see "
        f"only some of the images before {layers} are released. For two epochs set {2 * iters_per_epoch}."
    )


def _file_of_start(model: Mapping) -> str:
    """The file that a MODEL node starts from; "" for none."""
    return model["WEIGHTS"] or model["BACKBONE"]["PRETRAIN"] and model["BACKBONE"]["PRETRAIN_PATH"] or ""


def _starts_from_published(model: Mapping) -> bool:
    return model["BACKBONE"]["PRETRAIN"] and not _file_of_start(model)


def _saw_only_drawn(weights: str) -> bool:
    """Whether the run that wrote a file, and all before it that it started from, saw drawn animals only."""
    return all(
        run and only_drawn(run["DATASETS"]["NAMES"]) and not _starts_from_published(run["MODEL"])
        for run in _runs_behind(weights)
    )


def seen_by(weights: str, whole: bool = False) -> set[str]:
    """The names of the data sets that the run that wrote a file, and all before it that it started from, trained on.

    Args:
        weights: the file; "" for none.
        whole: name only those that were trained on with the photographs of all splits (DATASETS.COMBINEALL).
    """
    datasets = [run["DATASETS"] for run in _runs_behind(weights) if run]
    return {name for own in datasets if own.get("COMBINEALL") or not whole for name in own["NAMES"]}


def seen_whole(model: Mapping) -> set[str]:
    """The data sets that the start of a MODEL node was trained on with the photographs of all splits."""
    return seen_by(_file_of_start(model), whole=True)


def _runs_behind(weights: str) -> Iterator[dict | None]:
    """The settings of the run that wrote a file, and of all before it that it started from; None where unknown."""
    seen: set[str] = set()
    while weights and weights not in seen:
        seen.add(weights)
        run = settings_beside(Path(weights))
        yield run
        weights = _file_of_start(run["MODEL"]) if run else ""


def only_drawn(names: list[str]) -> bool:
    """Whether all data sets of these names are drawn by this package."""
    return all(name in SYNTHETIC for name in names)


def check_start(cfg) -> None:
    """Raise UserError if MODEL.BACKBONE.PRETRAIN_PATH is given and would not be used."""
    path, start = cfg.MODEL.BACKBONE.PRETRAIN_PATH, cfg.MODEL.WEIGHTS
    if path and (start or not cfg.MODEL.BACKBONE.PRETRAIN):
        raise UserError(
            f"MODEL.BACKBONE.PRETRAIN_PATH {path} would not be used: with it set MODEL.BACKBONE.PRETRAIN True and "
            f"MODEL.WEIGHTS '', now {cfg.MODEL.BACKBONE.PRETRAIN} and {start!r}."
        )
