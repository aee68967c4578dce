"""Every key that this package adds to fast-reid's configuration, and the loading of configuration files."""

import difflib
import importlib.util
import logging
import posixpath
import re
import shlex
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import torch
import yacs.config
import yaml
from fastreid.config import CfgNode, get_cfg
from llvmlite.binding import get_host_cpu_features

from ..batchnorm import MODES
from ..files import looked_for
from .checks import FEATURE_DIMENSIONS, value_of
from .ranges import LARGEST, Range, unbounded
from .repeated_keys import refuse_repeated_keys_with_bases

logger = logging.getLogger(__name__)

# Keys that hold a number or a word; yacs knows keys of one type only.
NUMBER_OR_WORD = {"PSEUDO_LABELS.EPS"}
# Keys that hold a list of names, and those where a name twice would count twice.
EACH_ONCE = ("DATASETS.NAMES", "DATASETS.TESTS", "MODEL.LOSSES.NAME")
NAMES = (*EACH_ONCE, "IMPORTS", "MODEL.FREEZE_LAYERS", "KD.MODEL_CONFIG", "KD.MODEL_WEIGHTS")
NUMBER = re.compile(r"[\d_.+-]+")


def add_fancl_config(cfg: CfgNode) -> None:
    """Add the keys below, with the paper's symbols and values (FANCL, Section IV-B), to fast-reid's defaults."""
    # Seed of every random choice: weights, batches, augmentation, synthetic data.
    cfg.SEED = 0
    # Python files or modules to import first: they register methods, backbones, heads or data sets of your own.
    cfg.IMPORTS = ()
    # "auto" is "cuda" where PyTorch sees a GPU and "cpu" elsewhere.
    cfg.MODEL.DEVICE = "auto"
    # Arithmetic of the backbones, in training and afterwards: "float32", or "bfloat16", which needs no loss scaling and
    # takes about 0.6 of the time where the hardware has it. "auto" is "bfloat16" there, and "float32" elsewhere and
    # beside fast-reid's SOLVER.AMP, which is float16 with loss scaling, on GPUs only.
    cfg.MODEL.PRECISION = "auto"
    # Activations with the channels innermost, equal to rounding and faster.
    cfg.MODEL.CHANNELS_LAST = True
    # timm's name of the model that build_timm_backbone builds, such as "tf_efficientnet_lite0" or "hf-hub:owner/name".
    cfg.MODEL.BACKBONE.TIMM = ""
    # BatchNorm of the backbones in training. "train" normalises by the statistics of the batch, as usual; "eval" by the
    # running statistics that came with the weights, and still trains scale and shift; "frozen" keeps these two as well.
    cfg.MODEL.BACKBONE.BATCHNORM = "train"
    # Virtual processes: BatchNorm takes the statistics of so many equal parts of each process's batch, part by part.
    cfg.MODEL.BATCHNORM_GROUPS = 1
    # Parts of a process's batch that go through a backbone one by one, for GPUs too small for the whole batch. It costs
    # a second forward pass; losses and memories see the whole batch.
    cfg.SOLVER.MICRO_BATCHES = 1
    # The optimiser's fused step, equal to rounding and faster.
    cfg.SOLVER.FUSED = True
    # Iterations an epoch; 0 is one pass, the number of training images over the batch size.
    cfg.SOLVER.ITERS_PER_EPOCH = 0
    # What to do about an unreadable image: "stop" before training with the list of them, or "skip" them.
    cfg.DATASETS.ON_BAD_IMAGE = "stop"
    # Score the photographs that are trained on, by leave-one-out: those of DATASETS.TESTS that have an identity. For
    # grouping one's own photographs: unsupervised methods train on them without reading the identities.
    cfg.TEST.TRANSDUCTIVE = False
    # GiB of disk, in the user's cache folder, for photographs that are decoded and resized once for all epochs and
    # runs, equal to the bit. Used where INPUT begins with the same resizing in training and test. 0 switches it off.
    cfg.DATALOADER.CACHE_GIB = 4.0
    # Gaussian blur of a training image with this probability; SIGMA is a range, in pixels of SIZE_TRAIN.
    cfg.INPUT.BLUR = CfgNode()
    cfg.INPUT.BLUR.ENABLED = False
    cfg.INPUT.BLUR.PROB = 0.5
    cfg.INPUT.BLUR.SIGMA = [0.1, 2.0]

    cfg.PSEUDO_LABELS = CfgNode()
    # "dbscan" or "hdbscan" on the Jaccard distance, or "oracle": the true identities, any clustering's upper bound.
    cfg.PSEUDO_LABELS.ALGORITHM = "dbscan"
    # Neighbours of the k-reciprocal Jaccard distance: k1 of the reciprocal sets, k2 of the query expansion.
    cfg.PSEUDO_LABELS.K1 = 30
    cfg.PSEUDO_LABELS.K2 = 6
    # DBSCAN's radius as a Jaccard distance in (0, 1), or "auto": chosen each epoch from the data.
    cfg.PSEUDO_LABELS.EPS = 0.5
    # Images within eps, the image itself included, that make a core point; HDBSCAN's smallest cluster too.
    cfg.PSEUDO_LABELS.MIN_SAMPLES = 4
    # Where neighbours and distances are computed: "" is MODEL.DEVICE; set "cpu" where its memory is too small for them.
    cfg.PSEUDO_LABELS.DEVICE = ""
    # GiB of a GPU that a step of it takes at once, beside the features, the lists of neighbours and its result.
    cfg.PSEUDO_LABELS.BLOCK_GIB = 1.0

    cfg.MEMORY = CfgNode()
    # tau, Eq. 4.
    cfg.MEMORY.TEMPERATURE = 0.05
    # alpha, Eq. 9: the share of the old centroid that stays.
    cfg.MEMORY.MOMENTUM = 0.1
    # "mean": Eq. 9 for every query; "hard": for each cluster's least similar query only (Cluster Contrast).
    cfg.MEMORY.UPDATE = "mean"

    cfg.FANA = CfgNode()
    # W and b of Eq. 1: the backbone's module whose output becomes A(x). "auto" is its first convolution: the paper's
    # conv1 on a ResNet, the patch embedding on a vision transformer.
    cfg.FANA.LAYER = "auto"
    # Noised share of the image area, Fig. 3; it sets gamma of Eq. 2 for each image.
    cfg.FANA.RATIO = 0.1

    cfg.CONSISTENCY = CfgNode()
    # The two terms of Eq. 7, -sim(f_q, f~_q) and -sim(f_q, m~_+).
    cfg.CONSISTENCY.INSTANCE = True
    cfg.CONSISTENCY.CLUSTER = True

    # ICE (Chen et al., ICCV 2021), the values of its released code.
    cfg.ICE = CfgNode()
    # alpha: the share of the old teacher that stays at each step.
    cfg.ICE.MOMENTUM = 0.999
    # tau_c of the cluster proxies, and the share of a target that is spread over all clusters.
    cfg.ICE.CLUSTER_TEMPERATURE = 0.5
    cfg.ICE.LABEL_SMOOTHING = 0.1
    # tau_v of the hard instance contrast.
    cfg.ICE.INSTANCE_TEMPERATURE = 0.1
    # Temperature of the similarity consistency, and its weight in the sum of the losses.
    cfg.ICE.CONSISTENCY_SCALE = 0.4
    cfg.ICE.CONSISTENCY_WEIGHT = 10.0
    # beta of the camera proxies, their hard negatives an image, and the weight in the sum of the losses.
    cfg.ICE.CAMERA_TEMPERATURE = 0.07
    cfg.ICE.CAMERA_NEGATIVES = 50
    cfg.ICE.CAMERA_WEIGHT = 0.5

    cfg.SPCL = CfgNode()
    # By how much SpCL's reliability test tightens and loosens eps.
    cfg.SPCL.GAP = 0.02

    cfg.JCL = CfgNode()
    # Weight of the instance loss beside the cluster loss, and its hard negatives a query.
    cfg.JCL.INSTANCE_WEIGHT = 1.0
    cfg.JCL.NEGATIVES = 50

    cfg.PPLR = CfgNode()
    # k neighbours, without the image itself, of the cross agreement.
    cfg.PPLR.K = 20
    # beta, the share of the pseudo-label in the refined label of the global feature.
    cfg.PPLR.BETA = 0.5
    # The first epoch, from 0, that smooths the labels of the parts by the cross agreement, and the smoothing before.
    cfg.PPLR.AALS_EPOCH = 5
    cfg.PPLR.LABEL_SMOOTHING = 0.1
    # Rows of a classifier, of which an epoch uses one a cluster.
    cfg.PPLR.MAX_CLUSTERS = 3000
    # The contrast between cameras, where they are known: lambda_cam, tau, hard negatives a query.
    cfg.PPLR.CAMERA_WEIGHT = 0.5
    cfg.PPLR.CAMERA_TEMPERATURE = 0.07
    cfg.PPLR.CAMERA_NEGATIVES = 50

    cfg.PARTS = CfgNode()
    # P stripes of the part head (PCB 6, PPLR 3), along "height" (one above the other) or "width" (side by side).
    cfg.PARTS.NUMBER = 6
    cfg.PARTS.AXIS = "height"
    # Dimensions of a stripe's feature after its 1x1 reduction; 0 for no reduction.
    cfg.PARTS.DIM = 256
    # Pool by a trained part classifier instead of stripes: the second phase of PCB (refined part pooling).
    cfg.PARTS.REFINED = False


def load_config(
    config_file: str = "", opts: list[str] | None = None, imports: Collection[str] | None = None
) -> CfgNode:
    """Read a configuration: fast-reid's defaults, then this package's keys, the file with its bases, the options.

    Args:
        config_file: path of a YAML file; empty for the defaults.
        opts: KEY VALUE KEY VALUE ..., as on the command line.
        imports: of a file by somebody else, those of its IMPORTS that may run; None for all.

    Returns:
        A frozen configuration with MODEL.DEVICE and MODEL.PRECISION resolved.

    Raises:
        ValueError: on a flag among the options, a missing file, an unknown key (with the nearest known ones) or a value
            of the wrong type, and on IMPORTS that do not exist or may not run.
    """
    opts = opts or []
    flags = [word for word in opts if str(word).startswith("--")]
    if flags:
        raise ValueError(f"{flags[0]} stands behind KEY VALUE options: give it before them.")
    if len(opts) % 2:
        raise ValueError(
            f"Expected options as KEY VALUE KEY VALUE ..., got {len(opts)} words: {' '.join(map(str, opts))}."
        )
    cfg = get_cfg()
    add_fancl_config(cfg)
    forget_encoder(cfg)
    try:
        if config_file:
            refuse_repeated_keys_with_bases(config_file)
            cfg.merge_from_file(config_file)
        cfg.merge_from_list(_words_kept(cfg, opts))
    except FileNotFoundError as error:
        raise ValueError(
            f"There is no configuration file {error.filename}{looked_for(error.filename)}: check --config-file and its "
            "_BASE_."
        ) from error
    except (KeyError, AssertionError) as error:
        raise ValueError(_explain_key(cfg, str(error))) from error
    except (yaml.YAMLError, TypeError, AttributeError, OSError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{config_file} or one of its _BASE_ is no configuration file: {error}.") from error
    if cfg.MODEL.DEVICE == "auto":
        cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    if cfg.MODEL.PRECISION == "auto":
        fast = has_bfloat16(cfg.MODEL.DEVICE) and not cfg.SOLVER.AMP.ENABLED
        cfg.MODEL.PRECISION = "bfloat16" if fast else "float32"
    check_values(cfg)
    if imports is not None and "IMPORTS" not in opts[::2]:
        check_imports(config_file, [name for name in cfg.IMPORTS if name not in imports])
    for name in cfg.IMPORTS:
        _import(name)
    describe_encoder(cfg)
    cfg.freeze()
    return cfg


def forget_encoder(cfg: CfgNode) -> None:
    """Make fast-reid's defaults for a ResNet-50 open: what nobody sets, `describe_encoder` takes from the backbone."""
    cfg.MODEL.BACKBONE.FEAT_DIM, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = 0, [], []


def describe_encoder(cfg: CfgNode) -> None:
    """Set FEAT_DIM, PIXEL_MEAN and PIXEL_STD by the backbone's own description where they are open.

    Raises:
        ValueError: if MODEL.BACKBONE.TIMM names no model, or one with another FEAT_DIM.
    """
    stock, model, backbone = get_cfg().MODEL, cfg.MODEL, cfg.MODEL.BACKBONE
    channels = FEATURE_DIMENSIONS.get(backbone.NAME, {}).get(backbone.DEPTH, stock.BACKBONE.FEAT_DIM)
    mean, std = stock.PIXEL_MEAN, stock.PIXEL_STD
    if backbone.TIMM:
        from ..backbones.timm import describe  # registers backbones, which IMPORTS may have replaced

        channels, mean, std = describe(backbone.TIMM, tuple(cfg.INPUT.SIZE_TRAIN))
        if backbone.FEAT_DIM not in (0, channels):
            raise ValueError(
                f"Expected MODEL.BACKBONE.FEAT_DIM {channels} with {backbone.TIMM}, got {backbone.FEAT_DIM}: "
                "leave it out."
            )
    backbone.FEAT_DIM = backbone.FEAT_DIM or channels
    model.PIXEL_MEAN, model.PIXEL_STD = list(model.PIXEL_MEAN or mean), list(model.PIXEL_STD or std)


def has_bfloat16(device: str) -> bool:
    """Whether the hardware multiplies in bfloat16: GPUs from NVIDIA's Ampere on, CPUs with AVX512_BF16 or AMX."""
    if device.startswith("cuda"):
        with suppress(RuntimeError, AssertionError, ValueError):  # no such GPU, which check_config says
            return torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= (8, 0)
        return False
    features = get_host_cpu_features()
    return any(features.get(name) for name in ("avx512bf16", "amx-bf16"))


def check_imports(config_file: str, names: Collection[str]) -> None:
    """Raise ValueError if there are names: IMPORTS of somebody else's file that nobody has allowed to run."""
    if names:
        flags = " ".join(f"--allow-imports={shlex.quote(str(name))}" for name in names)
        raise ValueError(
            f"{config_file} imports code by IMPORTS {', '.join(map(str, names))}, which would run here with all your "
            f"rights. Read it first, and if you trust it add: {flags}"
        )


def _import(name: str) -> None:
    """Import a module by its dotted name, or a file by its path, once in a process.

    Raises:
        ValueError: if there is none.
    """
    path = Path(name).resolve()
    if name.startswith(".") and path.suffix != ".py":
        raise ValueError(f"IMPORTS {name}: give a file's path, or the whole name of a module, not a relative one.")
    try:
        if path.suffix != ".py":
            importlib.import_module(name)
        elif str(path) not in sys.modules:
            spec = importlib.util.spec_from_file_location(path.stem, path)
            module = sys.modules[str(path)] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
    except (FileNotFoundError, ModuleNotFoundError) as error:
        sys.modules.pop(str(path), None)
        looked = looked_for(name) if path.suffix == ".py" else ""
        cure = "Give a file's path, or a module that Python finds."
        raise ValueError(f"IMPORTS {name}: {error}{looked}. {cure}") from error


def check_values(cfg: CfgNode) -> None:
    """Check this package's keys.

    Raises:
        ValueError: with every wrong key, its value and what was expected.
    """
    empty = [key for key in _keys(cfg) if value_of(cfg, key) is None]
    if empty:
        raise ValueError(f"Expected values of {', '.join(empty)} in the configuration, got none: give or remove them.")
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
        raise ValueError("Correct these values of the configuration:\n  " + "\n  ".join(wrong))


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
        raise ValueError("Correct these values of the configuration:\n  " + "\n  ".join(wrong))


def _keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    own = [prefix + key for key in cfg]
    below = [_keys(value, f"{prefix}{key}.") for key, value in cfg.items() if isinstance(value, CfgNode)]
    return own + [key for keys in below for key in keys]


def _explain_key(cfg: CfgNode, message: str) -> str:
    key = message.rpartition(":")[2].strip(" '\"")
    near = difflib.get_close_matches(key.upper(), _keys(cfg), n=3, cutoff=0.5)
    return f"Unknown configuration key {key!r}." + (f" Nearest known: {', '.join(near)}." if near else "")


def _words_kept(cfg: CfgNode, opts: list[str]) -> list[str]:
    """The options, with words such as 2024 quoted where a key takes words: yacs would read a number."""
    kept = list(opts)
    for n in range(0, len(opts), 2):
        with suppress(KeyError, TypeError):  # an unknown key, which yacs tells
            default = value_of(cfg, opts[n])
            words = opts[n] not in NUMBER_OR_WORD and (isinstance(default, str) or _holds_words(default))
            if words and NUMBER.fullmatch(str(opts[n + 1])):
                kept[n + 1] = repr(str(opts[n + 1]))
    return kept


def _holds_words(default) -> bool:
    return isinstance(default, (tuple, list)) and all(isinstance(entry, str) for entry in default)


def _coerce(replacement, original, key, full_key, strict=yacs.config._check_and_coerce_cfg_value_type):
    """yacs' type check, which refuses `EPS: auto` over 0.5, `BASE_LR: 1` over 0.1 and `TESTS: mine` over ("a", "b").

    Names of data sets that are numbers, such as 2024, are words, too.
    """
    if full_key in NUMBER_OR_WORD and isinstance(replacement, (int, float, str)):
        return replacement
    if isinstance(original, float) and type(replacement) is int:
        return float(replacement)
    if _holds_words(original) and isinstance(replacement, str) and not replacement.startswith(("(", "[")):
        return type(original)((replacement,))
    if original and _holds_words(original) and not isinstance(replacement, str):
        entries = replacement if isinstance(replacement, (tuple, list)) else (replacement,)
        replacement = type(original)(str(entry) if type(entry) is int else entry for entry in entries)
    return strict(replacement, original, key, full_key)


yacs.config._check_and_coerce_cfg_value_type = _coerce
