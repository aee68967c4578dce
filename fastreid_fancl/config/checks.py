"""Settings with which fast-reid would hang, fail late or quietly do something else: stopped before training."""

import os
from collections.abc import Iterator

import torch
from fastreid.config import CfgNode
from fastreid.layers import any_softmax, pooling

from ..errors import UserError
from ..files import looked_for
from ..openvino import why_unusable
from ..packages import INSTALL_FAISS, has_faiss
from .access import value_of
from .encoder import FEATURE_DIMENSIONS
from .ranges import out_of_range

STOCK_LOSSES = {
    "Baseline": ("CrossEntropyLoss", "TripletLoss", "CircleLoss", "Cosface"),
    "MoCo": ("CrossEntropyLoss", "TripletLoss", "CircleLoss", "Cosface"),
    "Distiller": ("CrossEntropyLoss", "TripletLoss", "CircleLoss", "Cosface"),
    "MGN": ("CrossEntropyLoss", "TripletLoss"),
}
IDENTITY_SAMPLERS = ("BalancedIdentitySampler", "NaiveIdentitySampler")
NORMS = ("BN", "syncBN", "GhostBN", "FrozenBN", "GN")
CHOICES = {
    "MODEL.BACKBONE.NORM": NORMS,
    "MODEL.HEADS.NORM": NORMS,
    "MODEL.HEADS.NECK_FEAT": ("before", "after"),
    "SOLVER.SCHED": ("MultiStepLR", "CosineAnnealingLR"),
    "SOLVER.WARMUP_METHOD": ("constant", "linear", "exp"),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("value", "norm"),
    "DATALOADER.SAMPLER_TRAIN": (*IDENTITY_SAMPLERS, "TrainingSampler"),
    "TEST.METRIC": ("cosine", "euclidean"),
}
# These heads only, as they need a layer that pools the whole feature map; other heads may accept more.
HEADS = ("EmbeddingHead", "ClasHead", "ClusterContrastHead")
HEAD_CHOICES = {
    "MODEL.HEADS.POOL_LAYER": tuple(name for name in pooling.__all__ if name not in ("Identity", "Flatten")),
    "MODEL.HEADS.CLS_LAYER": any_softmax.__all__,
}
AT_LEAST_ONE = ("SOLVER.MAX_EPOCH", "SOLVER.IMS_PER_BATCH", "TEST.IMS_PER_BATCH")
# fast-reid passes all parameters as flat vectors, with which these optimisers fail or train nothing.
UNFIT_OPTIMIZERS = ("Optimizer", "LBFGS", "SparseAdam", "Muon")


def check_config(cfg: CfgNode, world_size: int = 1, resume: bool = False) -> None:
    """Check a merged configuration before anything is built.

    Args:
        cfg: the configuration.
        world_size: processes in all.
        resume: whether training continues from OUTPUT_DIR's last checkpoint, if there is one.
            Then neither MODEL.WEIGHTS nor MODEL.BACKBONE.PRETRAIN_PATH is read.

    Raises:
        ValueError: with every setting that cannot work, its value and the cure.
    """
    if world_size < 1:
        raise UserError(
            f"Expected one process or more, got {world_size}: --num-gpus and --num-machines are numbers of processes, "
            "with MODEL.DEVICE cpu too."
        )
    problems = [
        problem
        for check in (_values, _device, _optimizer, _batches, _architecture, _neighbours, _runtime)
        for problem in check(cfg, world_size)
    ]
    if not (resume and os.path.exists(os.path.join(cfg.OUTPUT_DIR, "last_checkpoint"))):
        problems += _starts(cfg)
    if problems:
        raise UserError("Correct these settings:\n  " + "\n  ".join(problems))


def _values(cfg: CfgNode, world_size: int) -> Iterator[str]:
    choices = CHOICES | HEAD_CHOICES if cfg.MODEL.HEADS.NAME in HEADS else CHOICES
    for key, known in choices.items():
        if value_of(cfg, key) not in known:
            yield f"{key} {value_of(cfg, key)!r}: expected one of {', '.join(known)}"
    for key in AT_LEAST_ONE:
        if value_of(cfg, key) < 1:
            yield f"{key} {value_of(cfg, key)}: expected at least 1"
    yield from out_of_range(cfg)
    for key in ("INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST"):
        size = value_of(cfg, key)
        if not cfg.INPUT.CROP.ENABLED and (len(size) != 2 or any(type(n) is not int or n < 1 for n in size)):
            yield f"{key} {size}: expected two whole numbers from 1, [height, width]"


def _device(cfg: CfgNode, world_size: int) -> Iterator[str]:
    try:
        device = torch.device(cfg.MODEL.DEVICE)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cuda", "cpu"):
        yield f"MODEL.DEVICE {cfg.MODEL.DEVICE!r}: expected cuda or cpu"
        return
    if device.type == "cuda" and not torch.cuda.is_available():
        yield f"MODEL.DEVICE {cfg.MODEL.DEVICE}: PyTorch sees no CUDA device; use MODEL.DEVICE cpu"
    elif device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        yield f"MODEL.DEVICE {cfg.MODEL.DEVICE}: PyTorch sees {torch.cuda.device_count()} GPUs, the first one is cuda:0"
    if device.index is not None and world_size > 1:
        yield f"MODEL.DEVICE {cfg.MODEL.DEVICE}: {world_size} processes need one GPU each; use MODEL.DEVICE cuda"
    if device.type != "cuda" and cfg.SOLVER.AMP.ENABLED:
        yield "SOLVER.AMP.ENABLED True: mixed precision needs a GPU; use SOLVER.AMP.ENABLED False"
    for part in ("BACKBONE", "HEADS"):
        if device.type == "cpu" and world_size > 1 and cfg.MODEL[part].NORM == "syncBN":
            yield f"MODEL.{part}.NORM syncBN: it needs GPUs for several processes; use MODEL.{part}.NORM BN"


def _optimizer(cfg: CfgNode, world_size: int) -> Iterator[str]:
    steps = list(cfg.SOLVER.STEPS)
    if any(type(step) is not int or step < 1 for step in steps) or steps != sorted(set(steps)):
        yield f"SOLVER.STEPS {steps}: expected whole numbers of epochs from 1, each larger than the one before"
    base = torch.optim.Optimizer
    known = [name for name, value in vars(torch.optim).items() if isinstance(value, type) and issubclass(value, base)]
    known = sorted(set(known) - set(UNFIT_OPTIMIZERS))
    if cfg.SOLVER.OPT not in known:
        yield f"SOLVER.OPT {cfg.SOLVER.OPT!r}: expected one of {', '.join(known)}"


def _batches(cfg: CfgNode, world_size: int) -> Iterator[str]:
    batch, solver = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER
    if batch % world_size:
        yield f"SOLVER.IMS_PER_BATCH {batch}: expected a multiple of the {world_size} processes"
    if world_size > cfg.TEST.IMS_PER_BATCH:
        yield f"TEST.IMS_PER_BATCH {cfg.TEST.IMS_PER_BATCH}: expected at least the {world_size} processes"
    if cfg.DATALOADER.SAMPLER_TRAIN in IDENTITY_SAMPLERS:
        instances = cfg.DATALOADER.NUM_INSTANCE
        if instances < 1 or (batch // world_size) % instances or batch // world_size < instances:
            yield (
                f"DATALOADER.NUM_INSTANCE {instances}: expected a divisor of {batch // world_size} images per process "
                f"(SOLVER.IMS_PER_BATCH {batch} over {world_size})"
            )
    if cfg.MODEL.META_ARCHITECTURE == "MoCo" and cfg.MODEL.QUEUE_SIZE % solver.IMS_PER_BATCH:
        yield f"MODEL.QUEUE_SIZE {cfg.MODEL.QUEUE_SIZE}: expected a multiple of SOLVER.IMS_PER_BATCH {batch}"


def _architecture(cfg: CfgNode, world_size: int) -> Iterator[str]:
    name, backbone, losses = cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.BACKBONE, cfg.MODEL.LOSSES.NAME
    if name in STOCK_LOSSES:
        unknown = [loss for loss in losses if loss not in STOCK_LOSSES[name]]
        if unknown or not losses:
            known = ", ".join(STOCK_LOSSES[name])
            yield f"MODEL.LOSSES.NAME {tuple(losses)}: {name} knows {known}, and would leave out any other silently"
    if name == "MGN" and (backbone.NAME, backbone.DEPTH) not in {("build_resnet_backbone", d) for d in ("50x", "101x")}:
        yield f"MODEL.BACKBONE {backbone.NAME} {backbone.DEPTH}: MGN needs build_resnet_backbone 50x or 101x"
    if name == "Distiller" and not cfg.KD.MODEL_CONFIG and not cfg.KD.EMA.ENABLED:
        yield "KD.MODEL_CONFIG (): Distiller needs a teacher's configuration, or KD.EMA.ENABLED True"
    expected = FEATURE_DIMENSIONS.get(backbone.NAME, {}).get(backbone.DEPTH)
    if expected and expected != backbone.FEAT_DIM:
        yield f"MODEL.BACKBONE.FEAT_DIM {backbone.FEAT_DIM}: {backbone.NAME} {backbone.DEPTH} has {expected}"


def _neighbours(cfg: CfgNode, world_size: int) -> Iterator[str]:
    if "PSEUDO_LABELS" not in cfg:
        return
    options = cfg.PSEUDO_LABELS
    if options.NEIGHBOURS.startswith("faiss") and not has_faiss():
        yield f"PSEUDO_LABELS.NEIGHBOURS {options.NEIGHBOURS}: faiss is not installed; {INSTALL_FAISS}, or use auto"
    if options.LOCAL > 0 and not has_faiss():
        yield f"PSEUDO_LABELS.LOCAL {options.LOCAL:g}: faiss is not installed; {INSTALL_FAISS}, or set 0"
    if options.LOCAL_LINKS and not options.LOCAL:
        yield f"PSEUDO_LABELS.LOCAL_LINKS {options.LOCAL_LINKS}: needs local matches; set PSEUDO_LABELS.LOCAL to 0.2"


def _runtime(cfg: CfgNode, world_size: int) -> Iterator[str]:
    if "RUNTIME" in cfg.TEST and cfg.TEST.RUNTIME == "openvino":
        reason = why_unusable(cfg.MODEL.DEVICE)
        if reason:
            yield reason


def _starts(cfg: CfgNode) -> Iterator[str]:
    if cfg.MODEL.WEIGHTS and not os.path.exists(cfg.MODEL.WEIGHTS):  # reading it says what else it is
        yield (
            f"MODEL.WEIGHTS {cfg.MODEL.WEIGHTS}: there is no such file{looked_for(cfg.MODEL.WEIGHTS)}; the starting "
            "weights of configs/Synthetic and configs/SyntheticSmall are made by training their pretrain.yml there"
        )
    path = cfg.MODEL.BACKBONE.PRETRAIN_PATH
    if cfg.MODEL.BACKBONE.PRETRAIN and path and not os.path.exists(path):
        yield f"MODEL.BACKBONE.PRETRAIN_PATH {path}: there is no such file{looked_for(path)}"
