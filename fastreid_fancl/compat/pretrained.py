"""ImageNet weights: downloads, with errors that say where to put the file by hand."""

import logging
import math
import os
import sys

import torch
from fastreid.modeling.backbones import build as backbones_build
from fastreid.modeling.backbones import vision_transformer
from fastreid.modeling.backbones.regnet import config as regnet_config
from torch import nn
from yacs.config import CfgNode

from .. import weights
from ..errors import UserError
from ..locks import exclusive_lock
from .imports import wrap

logger = logging.getLogger(__name__)

# The key of `model_urls` for each backbone, as fast-reid's builders compose it.
URL_KEYS = {
    "build_resnet_backbone": "{se}{ibn}{depth}",
    "build_waveblock_resnet_backbone": "{se}{ibn}{depth}",
    "build_resnext_backbone": "{ibn}{depth}",
    "build_osnet_backbone": "osnet_{ibn}{depth}",
    "build_resnest_backbone": "resnest{number}",
    "build_regnet_backbone": "{depth}",
    "build_effnet_backbone": "{depth}",
    "build_mobilenetv3_backbone": "{depth}",
}


@wrap(backbones_build.build_backbone)
def build_backbone(stock, cfg) -> nn.Module:
    """Symptom: PRETRAIN on: ``No module named 'gdown'``, a network error, or weights of another network half loaded.

    Cause: each backbone has its own loader (modeling/backbones/resnet.py:248, :339, ...), which imports gdown even
    when the file is there, runs `torch.load` unsafely before PyTorch 2.6 and takes a file of which nothing fits.
    Fix: the backbone is built without weights and `weights.load_backbone` fills it. Non-local blocks, which a
    plain ResNet lacks, start from random weights. An unknown DEPTH or NORM is a UserError.
    """
    options = cfg.MODEL.BACKBONE
    if not options.PRETRAIN:
        return _build(stock, cfg)
    if options.NAME.endswith("_timm_backbone"):
        from ..backbones.timm import load_pretrained_weights  # its module needs fast-reid fixed

        backbone = _build(stock, cfg)
        load_pretrained_weights(backbone, cfg)
        return backbone
    path = options.PRETRAIN_PATH or _cached_weights(cfg)
    content = weights.read(path)
    bare = cfg.clone()
    bare.defrost()
    bare.MODEL.BACKBONE.PRETRAIN = False
    backbone = _build(stock, bare)
    weights.load_backbone(backbone, content, path, _resized if options.NAME == "build_vit_backbone" else None)
    return backbone


def _build(stock, cfg) -> nn.Module:
    options = cfg.MODEL.BACKBONE
    try:
        backbone = stock(cfg)
    except KeyError as error:
        name = next((name for name in ("DEPTH", "NORM") if error.args == (options[name],)), None)
        if name is None:
            raise
        raise UserError(f"MODEL.BACKBONE.{name} {options[name]!r} is unknown to {options.NAME}.") from error
    nonlocal_blocks = tuple(name for name, _ in backbone.named_children() if name.startswith("NL_"))
    backbone.fresh_parts = (*getattr(backbone, "fresh_parts", ()), *nonlocal_blocks)
    return backbone


def _resized(weights: dict[str, torch.Tensor], backbone: nn.Module) -> dict[str, torch.Tensor]:
    """Convert a vision transformer's weights to another image size, and its patch matrix to convolution filters."""
    weights, state = dict(weights), backbone.state_dict()
    places, patches = weights["pos_embed"], weights["patch_embed.proj.weight"]
    if "dist_token" in weights:
        places = torch.cat([places[:, :1], places[:, 2:]], dim=1)
    grid, number = backbone.patch_embed, places.shape[1] - 1
    is_square = math.isqrt(number) ** 2 == number  # which may have as many patches as another grid
    if places.shape != state["pos_embed"].shape or is_square and grid.num_y != grid.num_x:
        places = vision_transformer.resize_pos_embed(places, state["pos_embed"], grid.num_y, grid.num_x)
    filters = patches.reshape(state["patch_embed.proj.weight"].shape)
    return {**weights, "pos_embed": places, "patch_embed.proj.weight": filters}


def _cached_weights(cfg) -> str:
    """The path of the configured backbone's ImageNet weights, which are downloaded unless they are in the cache."""
    # torch.hub.load_state_dict_from_url has no lock and no Google Drive, and a damaged file is an error without a name.
    options = cfg.MODEL.BACKBONE
    urls = vars(sys.modules[backbones_build.BACKBONE_REGISTRY.get(options.NAME).__module__]).get("model_urls", {})
    key = URL_KEYS.get(options.NAME, "").format(
        se="se_" if options.WITH_SE else "",
        ibn="ibn_" if options.WITH_IBN else "",
        depth=options.DEPTH,
        number=options.DEPTH[:-1],
    )
    if urls.get(key) is None:
        raise UserError(
            f"No ImageNet weights are known for {options.NAME} {options.DEPTH}: set MODEL.BACKBONE.PRETRAIN_PATH to a "
            "file, or MODEL.BACKBONE.PRETRAIN to False for random weights."
        )
    url = urls[key]
    name = f"{key}_imagenet.pth" if key.startswith("osnet") else url.rpartition("/")[2]
    hub = torch.hub.get_dir()
    folder = os.path.join(os.path.dirname(hub), "checkpoints")
    for place in (folder, os.path.join(hub, "checkpoints")):
        if os.path.isfile(os.path.join(place, name)):
            return os.path.join(place, name)
    path = os.path.join(folder, name)
    try:
        with exclusive_lock(f"{path}.lock"):  # the first process on a machine downloads
            if not os.path.isfile(path):
                _download(url, path)
    except OSError as error:
        raise UserError(_missing(url, path)) from error
    return path


def _download(url: str, path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    logger.info(f"Downloading {url} to {path}")
    try:
        if "drive.google.com" in url:
            import gdown

            gdown.download(url, path, quiet=False)
        else:
            check = torch.hub.HASH_REGEX.search(os.path.basename(path))
            torch.hub.download_url_to_file(url, path, hash_prefix=check and check.group(1))
    except Exception as error:  # no network, no gdown, no space: the cure is the same
        raise UserError(_missing(url, path)) from error
    if not os.path.isfile(path):
        raise UserError(_missing(url, path))


def _missing(url: str, path: str) -> str:
    return (
        f"Could not fetch ImageNet weights from {url}. Put the file at {path}, or set MODEL.BACKBONE.PRETRAIN_PATH to "
        "any state dict of this backbone (torchvision's fits ResNet). MODEL.BACKBONE.PRETRAIN False starts from random "
        "weights, which without labels learn next to nothing."
    )


def merge_from_package(cfg_filename: str) -> None:
    """Symptom: RegNet and EfficientNet: FileNotFoundError unless the working folder contains fastreid/.

    Cause: modeling/backbones/regnet/regnet.py:557 and effnet.py:245 name their YAML files relative to it.
    Fix: the path is relative to the installed package.
    """
    package = os.path.dirname(sys.modules["fastreid"].__file__)
    with open(os.path.join(os.path.dirname(package), cfg_filename)) as file:
        regnet_config.cfg.merge_from_other_cfg(CfgNode.load_cfg(file))


# object.__setattr__, as yacs would take the name for a key.
object.__setattr__(regnet_config.cfg, "merge_from_file", merge_from_package)
