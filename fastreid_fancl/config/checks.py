"""Settings with which fast-reid would hang, fail late or quietly do something else: stopped before training."""

import os
import posixpath

import torch
from fastreid.config import CfgNode
from fastreid.layers import any_softmax, pooling

from ..batchnorm import MODES
from ..errors import UserError
from ..files import looked_for
from .ranges import LARGEST, Range, out_of_range, unbounded

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
# Of these heads; another one may know more.
HEADS = ("EmbeddingHead", "ClasHead", "ClusterContrastHead")
HEAD_CHOICES = {"MODEL.HEADS.POOL_LAYER": pooling.__all__, "MODEL.HEADS.CLS_LAYER": any_softmax.__all__}
AT_LEAST_ONE = ("SOLVER.MAX_EPOCH", "SOLVER.IMS_PER_BATCH", "TEST.IMS_PER_BATCH")
# Of the flat parameters that fast-reid hands over, these train nothing or fail.
UNFIT_OPTIMIZERS = ("Optimizer", "LBFGS", "SparseAdam", "Muon")
# Channels of the last feature map; a wrong FEAT_DIM is a RuntimeError of BatchNorm at the first step.
RESNET = {"18x": 512, "34x": 512, "50x": 2048, "101x": 2048}
FEATURE_DIMENSIONS = {
    "build_resnet_backbone": RESNET,
    "build_waveblock_resnet_backbone": RESNET,
    "build_resnext_backbone": {"50x": 2048, "101x": 2048, "152x": 2048},
    "build_resnest_backbone": {"50x": 2048, "101x": 2048, "200x": 2048, "269x": 2048},
    "build_osnet_backbone": {"x1_0": 512, "x0_75": 384, "x0_5": 256, "x0_25": 128},
    "build_regnet_backbone": {"800x": 672, "800y": 768, "400x": 384},
    "build_effnet_backbone": {"b0": 1280},
    "build_vit_backbone": {"small": 768, "base": 768},
    "build_mobilenetv2_backbone": {"1.0x": 1280},
    "build_mobilenetv3_backbone": {"Large": 1280, "Small": 1024},
    "build_shufflenetv2_backbone": {"1.0x": 1024},
    "build_repvgg_backbone": {"A0": 1280, "B1g2": 2048},
}


def check_config(cfg, world_size: int = 1, resume: bool = False) -> None:
    """Check a merged configuration before anything is built.

    Args:
        cfg: the configuration.
        world_size: processes in all.
        resume: whether training goes on from OUTPUT_DIR's last checkpoint, if there is one: MODEL.WEIGHTS is not read.

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
        for check in (_values, _device, _optimizer, _batches, _architecture, _files)
        for problem in check(cfg, world_size)
    ]
    if not (resume and os.path.exists(os.path.join(cfg.OUTPUT_DIR, "last_checkpoint"))):
        problems += _weights(cfg)
    if problems:
        raise UserError("Correct these settings:\n  " + "\n  ".join(problems))


def value_of(cfg, key: str):
    """The value at a key of several parts, such as "MODEL.HEADS.NORM"."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def _values(cfg, world_size):
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


def _device(cfg, world_size):
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


def _optimizer(cfg, world_size):
    steps = list(cfg.SOLVER.STEPS)
    if any(type(step) is not int or step < 1 for step in steps) or steps != sorted(set(steps)):
        yield f"SOLVER.STEPS {steps}: expected whole numbers of epochs from 1, each larger than the one before"
    base = torch.optim.Optimizer
    known = [name for name, value in vars(torch.optim).items() if isinstance(value, type) and issubclass(value, base)]
    known = sorted(set(known) - set(UNFIT_OPTIMIZERS))
    if cfg.SOLVER.OPT not in known:
        yield f"SOLVER.OPT {cfg.SOLVER.OPT!r}: expected one of {', '.join(known)}"


def _batches(cfg, world_size):
    batch, solver = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER
    if batch % world_size:
        yield f"SOLVER.IMS_PER_BATCH {batch}: expected a multiple of the {world_size} processes"
    if world_size > cfg.TEST.IMS_PER_BATCH:
        yield f"TEST.IMS_PER_BATCH {cfg.TEST.IMS_PER_BATCH}: expected at least the {world_size} processes"
    if cfg.DATALOADER.SAMPLER_TRAIN in IDENTITY_SAMPLERS:
        instances = cfg.DATALOADER.NUM_INSTANCE
        if instances < 1 or (batch // world_size) % instances or batch // world_size < instances:
            yield (
                f"DATALOADER.NUM_INSTANCE {instances}: expected a divisor of {batch // world_size} images a process "
                f"(SOLVER.IMS_PER_BATCH {batch} over {world_size})"
            )
    if cfg.MODEL.META_ARCHITECTURE == "MoCo" and cfg.MODEL.QUEUE_SIZE % solver.IMS_PER_BATCH:
        yield f"MODEL.QUEUE_SIZE {cfg.MODEL.QUEUE_SIZE}: expected a multiple of SOLVER.IMS_PER_BATCH {batch}"


def _architecture(cfg, world_size):
    name, backbone, losses = cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.BACKBONE, cfg.MODEL.LOSSES.NAME
    if name in STOCK_LOSSES:
        unknown = [loss for loss in losses if loss not in STOCK_LOSSES[name]]
        if unknown or not losses:
            known = ", ".join(STOCK_LOSSES[name])
            yield f"MODEL.LOSSES.NAME {tuple(losses)}: {name} knows {known}, and would leave out any other silently"
    if cfg.MODEL.HEADS.NAME == "EmbeddingHead" and cfg.MODEL.HEADS.POOL_LAYER == "Flatten":
        yield "MODEL.HEADS.POOL_LAYER Flatten: EmbeddingHead needs a pooling layer that keeps four dimensions"
    if name == "MGN" and (backbone.NAME, backbone.DEPTH) not in {("build_resnet_backbone", d) for d in ("50x", "101x")}:
        yield f"MODEL.BACKBONE {backbone.NAME} {backbone.DEPTH}: MGN needs build_resnet_backbone 50x or 101x"
    if name == "Distiller" and not cfg.KD.MODEL_CONFIG and not cfg.KD.EMA.ENABLED:
        yield "KD.MODEL_CONFIG (): Distiller needs a teacher's configuration, or KD.EMA.ENABLED True"
    expected = FEATURE_DIMENSIONS.get(backbone.NAME, {}).get(backbone.DEPTH)
    if expected and expected != backbone.FEAT_DIM:
        yield f"MODEL.BACKBONE.FEAT_DIM {backbone.FEAT_DIM}: {backbone.NAME} {backbone.DEPTH} has {expected}"


def _weights(cfg):
    if cfg.MODEL.WEIGHTS and not os.path.exists(cfg.MODEL.WEIGHTS):  # reading it says what else it is
        yield (
            f"MODEL.WEIGHTS {cfg.MODEL.WEIGHTS}: there is no such file{looked_for(cfg.MODEL.WEIGHTS)}; the starting "
            "weights of configs/Synthetic and configs/SyntheticSmall are made by training their pretrain.yml there"
        )


def _files(cfg, world_size):
    path = cfg.MODEL.BACKBONE.PRETRAIN_PATH
    if cfg.MODEL.BACKBONE.PRETRAIN and path and not os.path.exists(path):
        yield f"MODEL.BACKBONE.PRETRAIN_PATH {path}: there is no such file{looked_for(path)}"


# Keys that hold a list of names, and those where a name twice would count twice.
EACH_ONCE = ("DATASETS.NAMES", "DATASETS.TESTS", "MODEL.LOSSES.NAME")
NAMES = (*EACH_ONCE, "IMPORTS", "MODEL.FREEZE_LAYERS", "KD.MODEL_CONFIG", "KD.MODEL_WEIGHTS")


def check_values(cfg: CfgNode) -> None:
    """Check this package's keys.

    Raises:
        ValueError: with every wrong key, its value and what was expected.
    """
    empty = [key for key in _keys(cfg) if value_of(cfg, key) is None]
    if empty:
        raise UserError(f"Expected values of {', '.join(empty)} in the configuration, got none: give or remove them.")
    _check_lists_and_numbers(cfg)
    labels, memory, pplr = cfg.PSEUDO_LABELS, cfg.MEMORY, cfg.PPLR
    ice, blur = cfg.ICE, cfg.INPUT.BLUR
    eps, precision, least = labels.EPS, cfg.MODEL.PRECISION, 2 if labels.ALGORITHM == "hdbscan" else 1
    backbone = cfg.MODEL.BACKBONE
    uses_timm = backbone.NAME.endswith("_timm_backbone")
    fits = cfg.MODEL.META_ARCHITECTURE != "SpCL" or isinstance(eps, str) or min(eps, 1 - eps) > cfg.SPCL.GAP
    checks = [
        ("MODEL.PRECISION", precision in ("float32", "bfloat16"), "auto, float32 or bfloat16"),
        ("MODEL.PRECISION", not (cfg.SOLVER.AMP.ENABLED and precision == "bfloat16"), "float32 beside SOLVER.AMP"),
        ("MODEL.BACKBONE.TIMM", uses_timm or not backbone.TIMM, "empty, or with NAME build_timm_backbone"),
        ("MODEL.BACKBONE.TIMM", not uses_timm or backbone.TIMM, f"timm's name of a model, with {backbone.NAME}"),
        ("MODEL.BACKBONE.BATCHNORM", backbone.BATCHNORM in MODES, " or ".join(MODES)),
        ("MODEL.BATCHNORM_GROUPS", cfg.MODEL.BATCHNORM_GROUPS >= 1, "at least 1"),
        ("SOLVER.MICRO_BATCHES", cfg.SOLVER.MICRO_BATCHES >= 1, "at least 1"),
        ("PSEUDO_LABELS.ALGORITHM", labels.ALGORITHM in ("dbscan", "hdbscan", "oracle"), "dbscan, hdbscan or oracle"),
        ("PSEUDO_LABELS.K1", labels.K1 >= 1, "at least 1"),
        ("PSEUDO_LABELS.K2", labels.K2 >= 1, "at least 1"),
        ("PSEUDO_LABELS.EPS", eps == "auto" if isinstance(eps, str) else 0 < eps < 1, "auto or between 0 and 1"),
        ("PSEUDO_LABELS.MIN_SAMPLES", least <= labels.MIN_SAMPLES, f"at least {least}"),
        ("PSEUDO_LABELS.DEVICE", labels.DEVICE in ("", "cpu", cfg.MODEL.DEVICE), "empty, cpu or MODEL.DEVICE"),
        ("PSEUDO_LABELS.BLOCK_GIB", 2**-20 <= labels.BLOCK_GIB <= 2**20, "a KiB (2**-20) at least, 2**20 at most"),
        ("MEMORY.TEMPERATURE", memory.TEMPERATURE > 0, "above 0"),
        ("MEMORY.MOMENTUM", 0 <= memory.MOMENTUM <= 1, "between 0 and 1"),
        ("MEMORY.UPDATE", memory.UPDATE in ("mean", "hard"), "mean or hard"),
        ("DATALOADER.NUM_INSTANCE", cfg.DATALOADER.NUM_INSTANCE >= 1, "at least 1"),
        ("FANA.RATIO", 0 <= cfg.FANA.RATIO <= 1, "between 0 and 1"),
        # Around any radius of the sweep, for EPS auto or the guard, it stays where distances are stored.
        ("SPCL.GAP", 0 <= cfg.SPCL.GAP < 0.05, "at least 0 and below 0.05"),
        ("SPCL.GAP", fits, "less than PSEUDO_LABELS.EPS and than 1 - EPS"),
        ("JCL.INSTANCE_WEIGHT", cfg.JCL.INSTANCE_WEIGHT >= 0, "at least 0"),
        ("JCL.NEGATIVES", cfg.JCL.NEGATIVES >= 1, "at least 1"),
        ("ICE.MOMENTUM", 0 <= ice.MOMENTUM <= 1, "between 0 and 1"),
        ("ICE.LABEL_SMOOTHING", 0 <= ice.LABEL_SMOOTHING <= 1, "between 0 and 1"),
        *((f"ICE.{key}", ice[key] > 0, "above 0") for key in ice if key.endswith(("TEMPERATURE", "SCALE"))),
        *((f"ICE.{key}", ice[key] >= 0, "0 or more") for key in ice if key.endswith(("WEIGHT", "NEGATIVES"))),
        ("INPUT.BLUR.PROB", 0 <= blur.PROB <= 1, "between 0 and 1"),
        ("INPUT.BLUR.SIGMA", Range(0, length=2, rising=True).holds(blur.SIGMA), "[lowest, highest], from 0"),
        ("PPLR.K", pplr.K >= 1, "at least 1"),
        ("PPLR.BETA", 0 <= pplr.BETA <= 1, "between 0 and 1"),
        ("PPLR.AALS_EPOCH", pplr.AALS_EPOCH >= 0, "0 or more"),
        ("PPLR.LABEL_SMOOTHING", 0 <= pplr.LABEL_SMOOTHING <= 1, "between 0 and 1"),
        ("PPLR.MAX_CLUSTERS", pplr.MAX_CLUSTERS >= 1, "at least 1"),
        ("PPLR.CAMERA_WEIGHT", pplr.CAMERA_WEIGHT >= 0, "0 (no contrast between cameras) or more"),
        ("PPLR.CAMERA_TEMPERATURE", pplr.CAMERA_TEMPERATURE > 0, "above 0"),
        ("PPLR.CAMERA_NEGATIVES", pplr.CAMERA_NEGATIVES >= 1, "at least 1"),
        ("PARTS.NUMBER", cfg.PARTS.NUMBER >= 1, "at least 1"),
        ("PARTS.AXIS", cfg.PARTS.AXIS in ("height", "width"), "height or width"),
        ("PARTS.DIM", cfg.PARTS.DIM >= 0, "0 (no reduction) or more"),
        ("DATALOADER.CACHE_GIB", cfg.DATALOADER.CACHE_GIB >= 0, "0 (decode each time) or more"),
        ("DATASETS.ON_BAD_IMAGE", cfg.DATASETS.ON_BAD_IMAGE in ("stop", "skip"), "stop or skip"),
        ("SOLVER.ITERS_PER_EPOCH", cfg.SOLVER.ITERS_PER_EPOCH >= 0, "0 (one pass over the images) or more"),
        ("SEED", cfg.SEED >= 0, "0 or more"),
    ]
    wrong = [f"{key} {value_of(cfg, key)!r}: expected {expected}" for key, right, expected in checks if not right]
    if wrong:
        raise UserError("Correct these values of the configuration:\n  " + "\n  ".join(wrong))


def _check_lists_and_numbers(cfg: CfgNode) -> None:
    """Check what holds for every key of a kind: numbers are finite, lists of names hold names, each once.

    Raises:
        ValueError: with every wrong key.
    """
    wrong = [
        f"{key} {value_of(cfg, key)}: expected numbers of at most {LARGEST}, and finite ones"
        for key in _keys(cfg)
        if key != "SOLVER.CLIP_GRADIENTS.NORM_TYPE" and unbounded(value_of(cfg, key))
    ]
    for key in NAMES:
        names = value_of(cfg, key)
        if not all(isinstance(name, str) and name.strip() for name in names):
            wrong.append(f"{key} {tuple(names)}: expected names, each of one letter or more")
        elif key in EACH_ONCE and len({posixpath.normpath(name) for name in names}) < len(names):
            wrong.append(f"{key} {tuple(names)}: expected each name once")
    if wrong:
        raise UserError("Correct these values of the configuration:\n  " + "\n  ".join(wrong))


def _keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    own = [prefix + key for key in cfg]
    below = [_keys(value, f"{prefix}{key}.") for key, value in cfg.items() if isinstance(value, CfgNode)]
    return own + [key for keys in below for key in keys]
