"""Load the weights of a file into a model, and report what is left or missing.

A part that "starts fresh" is one that a backbone adds to a known network on purpose, and that keeps its random weights.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace

from torch import Tensor, nn

from ..errors import UserError
from .architecture import architecture, torchvision_name
from .contents import is_mean
from .names import Fit, fit
from .positions import resampled
from .values import require_usable

logger = logging.getLogger(__name__)

# The block of a network that a weight is in: .22 in layer3.22.conv1.weight, .b12 in s3.b12.conv1.conv.weight.
BLOCK = re.compile(r"\.(\w*?)(\d+)(?=\.)")
# Tables that timm computes itself, and JCL's attention, which a plain network may leave out.
OPTIONAL = re.compile(r"\.(attn_mask|relative_coords_table)$|\.attention\.(channel|spatial)\.")
# The tokens of a vision transformer beside its pos_embed that belong to no patch and no class.
REGISTERS = re.compile(r"(^|\.)(?:reg_token|register_tokens)$")
FINAL_NORM = re.compile(r"\bnorm\.(?=\w+$)")
# What a normalisation layer cannot do without; a bias that a file lacks is 0.
NORMALISATION = (".weight", ".gamma", ".running_mean", ".running_var")


def lost_layers(state: dict, missing: Iterable[str], others: Collection[str]) -> list[str]:
    """Return the missing weights without which a network does not work.

    They are the matrices and filters; if none is missing, the scales and statistics of normalisation layers. Two of
    these may keep their initial values: an instance normalisation `IN` beside BatchNorm, and the `norm` of a
    transformer whose file has `fc_norm`, which normalises after the pooling that a backbone leaves out.

    Args:
        state: of the model.
        missing: names of the model that the file lacks.
        others: names of the file that the model lacks.
    """
    missing = list(missing)
    return [key for key in missing if state[key].dim() > 1] or [
        key
        for key in missing
        if key.endswith(NORMALISATION) and "IN" not in key.split(".") and FINAL_NORM.sub("fc_norm.", key) not in others
    ]


def surplus_layers(weights: dict[str, Tensor], state: dict[str, Tensor]) -> list[str]:
    """Return the weights of a file that the model lacks although it has numbered blocks of the same name.

    They come from a deeper network or from blocks of another kind. A head or a second encoder shares no block with the
    model. The register tokens of a vision transformer are such weights, too.
    """
    blocks = {block for key in state for block in _blocks(key)}
    registers = {REGISTERS.sub(r"\1pos_embed", key): key for key in weights if REGISTERS.search(key)}
    without = [key for place, key in registers.items() if place in state and key not in state]
    return without + [
        key
        for key, value in weights.items()
        if key not in state
        and value.is_floating_point()  # others count or index
        and not OPTIONAL.search(key)
        and not blocks.isdisjoint(_blocks(key))
    ]


def _blocks(key: str) -> Iterator[str]:
    """Yield the names of the blocks around a weight, without their numbers."""
    for match in BLOCK.finditer(key):
        if not match[1] or key.count(".", match.end()) > 1:  # .fc2 in head.fc2.weight is a layer
            yield key[: match.start(2)]


def fresh_parts(model: nn.Module, present: Iterable[str]) -> tuple[str, ...]:
    """Return the prefixes of the weights that may start fresh if the file holds the `present` ones.

    The attribute `fresh_parts` of a backbone is a tuple of the names of modules that it adds to a known network. They
    start fresh if the file holds none of them; a file that holds one of them must hold all.
    """
    parts = tuple(
        f"{name}.{part}".strip(".") + "."
        for name, module in model.named_modules()
        for part in getattr(module, "fresh_parts", ())
    )
    return () if any(key.startswith(parts) for key in present) else parts


def summarise_names(names: Iterable[str], most: int = 20) -> str:
    """List names for a message; if there are more than `most`, only their first parts with counts."""
    names = sorted(names)
    if len(names) > most:
        parts = Counter(name.partition(".")[0] for name in names)
        names = [f"{part}.* ({count})" for part, count in parts.items()]
    return ", ".join(names) or "nothing"


def architectures(weights: dict, state: dict) -> str:
    """Say " The file has a ResNet-50, the model a ResNet-18." if both are recognised and differ, else ""."""
    actual, expected = architecture(weights), architecture(state)
    if actual and expected and actual != expected:
        return f" The file has a {actual}, the model a {expected}."
    return ""


def load_backbone(
    backbone: nn.Module,
    weights: dict[str, Tensor],
    source: str,
    key_filter: Callable[[dict, nn.Module], dict] | None = None,
) -> None:
    """Copy weights into a backbone, from a bare network or from a whole model that has the network under any prefix.

    It logs which weights of the file are not used, such as a classifier, and which parts start fresh.

    Args:
        backbone: changed in place.
        weights: as `read` returns them.
        source: how messages call the weights, usually the path of their file. If a run wrote it, the config.yaml
            beside it tells the grid of its position embeddings.
        key_filter: (weights without their prefix, backbone) -> weights, renamed or resized. It is called only if some
            weights do not fit; timm's `checkpoint_filter_fn` is such a filter.

    Raises:
        ValueError: if nothing fits, a layer is missing, a weight has a different shape than in the backbone, the file
            has other layers in the backbone's blocks, or its values are no finite floating-point numbers.
    """
    state = backbone.state_dict()
    best = fit(weights, state)
    best = replace(best, weights=resampled(best.weights, backbone, source))
    if key_filter and _misfit(backbone, best, source):
        best = _filtered(backbone, weights, best, key_filter, source)
    problem = _misfit(backbone, best, source)
    if problem:
        raise UserError(problem)
    fitting = {key: value for key, value in best.weights.items() if key in state}
    require_usable(fitting, state, source)
    backbone.load_state_dict(fitting, strict=False)
    backbone.pretrained_names = frozenset(fitting)
    unused = summarise_names([*best.unused, *(best.weights.keys() - fitting.keys())])
    logger.info("Loaded %d weights from %s, %s; not used of it: %s", len(fitting), source, best, unused)
    fresh, missing = _missing(backbone, fitting)
    if fresh:
        names = summarise_names(fresh)
        logger.info("These parts are not in %s and start fresh, as the backbone asks: %s", source, names)
    if missing:
        names = summarise_names(missing)
        logger.warning("%d weights keep their random start, %s lacks them: %s", len(missing), source, names)


def _missing(model: nn.Module, present: dict) -> tuple[set[str], list[str]]:
    """Return the parts of a model that start fresh on purpose, and the other weights that are missing."""
    missing = [key for key in model.state_dict() if key not in present and not key.endswith("num_batches_tracked")]
    parts = fresh_parts(model, present)
    return {part for part in parts if any(key.startswith(part) for key in missing)}, sorted(
        key for key in missing if not key.startswith(parts)
    )


def _misfit(backbone: nn.Module, attempt: Fit, source: str) -> str | None:
    """Say why the weights do not fit the backbone; None if they do."""
    problem = _mismatch(backbone, attempt.weights, source)
    name = torchvision_name([attempt.removed, *attempt.unused, *attempt.weights])
    if problem and name and not torchvision_name(backbone.state_dict()):
        return (
            f"{source} has the names of torchvision, such as {name}, for which there is no conversion to the backbone: "
            "give timm's weights of the same network by MODEL.BACKBONE.PRETRAIN_PATH."
        )
    return problem


def _mismatch(backbone: nn.Module, weights: dict[str, Tensor], source: str) -> str | None:
    """Say which weights, under the backbone's names, do not fit it; None if all do."""
    state = backbone.state_dict()
    fitting = {key: value for key, value in weights.items() if key in state}
    which = architectures(weights, state)
    if not fitting:
        return (
            f"No weight of {source} fits the backbone: the file has {list(weights)[:3]}..., the backbone "
            f"{list(state)[:3]}....{which} Check MODEL.BACKBONE and PRETRAIN_PATH."
        )
    lost = lost_layers(state, _missing(backbone, fitting)[1], weights.keys() - fitting.keys())
    if lost:
        layers = len({key.rpartition(".")[0] for key in lost})
        return (
            f"{source} is of another architecture: it lacks {layers} layers of the backbone, such as {lost[0]}, "
            f"which would stay untrained.{which} Check MODEL.BACKBONE and PRETRAIN_PATH, or name what a backbone of "
            "your own adds on purpose in its attribute `fresh_parts`."
        )
    surplus = surplus_layers(weights, state)  # a deeper network has all layers of a shallower one
    wrong = next((key for key, value in fitting.items() if value.shape != state[key].shape), None)
    what = ""
    if surplus:
        what = f": the backbone lacks {len(surplus)} weights of the file's network, such as {surplus[0]}"
    elif wrong:
        shape, expected = tuple(fitting[wrong].shape), tuple(state[wrong].shape)
        what = f": {wrong} has the shape {shape}, the backbone's has {expected}"
    if what or which:
        return f"{source} is of another architecture{what}.{which} Check MODEL.BACKBONE and PRETRAIN_PATH."
    return None


def _filtered(backbone: nn.Module, weights: dict, unfiltered: Fit, key_filter: Callable, source: str) -> Fit:
    """Apply `key_filter` to the weights under each prefix until all fit; if they never do, return `unfiltered`.

    It logs which weights the filter has resized.
    """
    for prefix in dict.fromkeys([unfiltered.removed, *_large_prefixes(weights)]):
        inside = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        try:
            renamed = key_filter(inside, backbone)
            again = fit(renamed, backbone.state_dict())
        except Exception as error:  # a filter for one architecture may fail on the keys of another
            logger.info("The backbone's key filter does not know the names under %r (%r).", prefix, error)
            continue
        if _misfit(backbone, again, "") is None:
            _log_resized(inside, renamed, source)
            outside = [key for key in weights if not key.startswith(prefix)]
            return replace(again, unused=(*outside, *again.unused), removed=prefix + again.removed)
    return unfiltered


def _log_resized(before: dict[str, Tensor], after: dict[str, Tensor], source: str) -> None:
    """Log which weights differ in size; those of patches of another size have lost details."""
    resized = [key for key, value in after.items() if key in before and before[key].numel() != value.numel()]
    if resized:
        logger.info("Resized to the backbone's shapes, from %s: %s", source, summarise_names(resized))
    patches = next((key for key in resized if key.startswith("patch_embed.")), None)
    if patches:
        logger.warning(
            "%s is of a network with patches of another size than the backbone's: %s is resized from %s to %s. Take "
            "the model with the file's patches as MODEL.BACKBONE.TIMM, or expect worse features.",
            source,
            patches,
            tuple(before[patches].shape),
            tuple(after[patches].shape),
        )


def _large_prefixes(weights: dict) -> list[str]:
    """Return the prefixes of at least half of the names: longer ones first, those of a moving average last."""
    leading = ("".join(f"{part}." for part in key.split(".")[:n]) for key in weights for n in range(key.count(".") + 1))
    prefixes = Counter(leading)
    large = [prefix for prefix, count in prefixes.items() if 2 * count >= len(weights)]
    return sorted(large, key=lambda prefix: (is_mean(prefix), -prefix.count("."), prefix))
