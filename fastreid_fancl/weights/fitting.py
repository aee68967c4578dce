"""Weights of a file into a model: which prefix of their names becomes which, what starts fresh, what does not fit."""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from torch import Tensor, nn

from .architecture import architecture
from .contents import is_mean

logger = logging.getLogger(__name__)

# Such as features.denseblock1.denselayer1.norm.1.weight.
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
NUMBERED = re.compile(r"((?:[A-Za-z_]\w*\.)*)(\d+)\.")
RESNET = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True)
class Fit:
    """The weights of a file, named as a model names its own.

    Attributes:
        weights: all that are under the chosen prefix, those that the model does not have too.
        unused: names in the file that are outside the prefix.
        removed, added: the prefix in the file, and what stands in its place in the model.
        rivals: other prefixes of the file that fit as well.
    """

    weights: dict[str, Tensor]
    unused: tuple[str, ...] = ()
    removed: str = ""
    added: str = ""
    rivals: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = f"its names {self.removed or '(without a prefix)'}* as {self.added or '(without a prefix)'}*"
        if self.rivals:
            what += f" (as well fit {', '.join(self.rivals)}: a trained encoder comes before its running mean)"
        return what


def fit(weights: dict[str, Tensor], state: dict[str, Tensor]) -> Fit:
    """Rename the weights by the one change of prefix by which most of them fit a model's `state`.

    A prefix is whole parts between the dots, or empty. Filters and matrices of one name and shape count first, then all
    weights; then a trained encoder comes before its running mean, then the shortest. Where fewer than half of the
    filters fit, names alone decide, so that a network of another depth can be told from a foreign one. Where these do
    not fit either the weights keep their names.
    """
    weights = _names_of_today(weights)
    for shapes in (True, False):
        pairs = _pairs(weights, state, shapes)
        if pairs:
            return _renamed(weights, pairs)
    return Fit(weights)


def _names_of_today(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's published DenseNets say norm.1 for norm1; a ResNet in an nn.Sequential, 0 for conv1."""
    weights = {OLD_DENSENET.sub(r"\1\2", key): value for key, value in weights.items()}
    children: dict[str, set[int]] = defaultdict(set)
    for match in filter(None, map(NUMBERED.match, weights)):
        children[match[1]].add(int(match[2]))
    for prefix, numbers in children.items():
        # That of open-reid, MMT, SpCL and cluster-contrast-reid; the modules between without weights have numbers too.
        is_stem = f"{prefix}0.weight" in weights and f"{prefix}1.running_mean" in weights
        if is_stem and weights[f"{prefix}0.weight"].dim() == 4 and len(numbers) in (6, 7):
            names = {f"{prefix}{n}.": f"{prefix}{name}." for n, name in zip(sorted(numbers), RESNET, strict=False)}
            weights = {_renamed_child(key, names): value for key, value in weights.items()}
    return weights


def _renamed_child(key: str, names: dict[str, str]) -> str:
    match = NUMBERED.match(key)
    return names.get(match[0], match[0]) + key[match.end() :] if match else key


def _pairs(weights: dict, state: dict, shapes: bool) -> Counter:
    """(prefix in the file, prefix in the model) -> (filters, weights) that fit; empty if fewer than half the filters.

    Each common end of two names makes a pair of prefixes fit once more.
    """
    kind = (lambda value: tuple(value.shape)) if shapes else (lambda value: None)
    alike = defaultdict(list)
    for key, value in state.items():
        alike[key.rpartition(".")[2], kind(value)].append((key.split("."), value.dim() > 1))
    filters, all_of = Counter(), Counter()
    for key, value in weights.items():
        parts = key.split(".")
        for other, is_filter in alike[parts[-1], kind(value)]:
            for prefixes in _prefixes(parts, other):
                all_of[prefixes] += 1
                filters[prefixes] += is_filter
    wanted = min(sum(value.dim() > 1 for value in group.values()) for group in (weights, state))
    return {pair: (count, all_of[pair]) for pair, count in filters.items() if wanted and 2 * count >= wanted and count}


def _prefixes(one: list[str], other: list[str]) -> Iterator[tuple[str, str]]:
    """The pairs of prefixes, ending in dots, before each common end of two names."""
    for length in range(1, min(len(one), len(other)) + 1):
        if one[-length] != other[-length]:
            return
        yield tuple("".join(f"{part}." for part in name[:-length]) for name in (one, other))


def _renamed(weights: dict, pairs: dict[tuple[str, str], tuple[int, int]]) -> Fit:
    def rank(pair: tuple[str, str]) -> tuple:
        removed, added = pair
        filters, count = pairs[pair]
        return -filters, -count, is_mean(removed), (removed + added).count("."), is_mean(added), removed, added

    removed, added = best = min(pairs, key=rank)
    rivals = sorted(pair[0] for pair in pairs if pairs[pair] == pairs[best] and pair[1] == added and pair != best)
    inside = {added + key.removeprefix(removed): value for key, value in weights.items() if key.startswith(removed)}
    unused = tuple(key for key in weights if not key.startswith(removed))
    return Fit(inside, unused, removed, added, tuple(rivals))


def lost_layers(state: dict, missing: Iterable[str]) -> list[str]:
    """Those of the missing weights that are matrices or filters.

    Without the others, such as those of an instance normalisation beside BatchNorm, a backbone is not random.
    """
    return [key for key in missing if state[key].dim() > 1]


def fresh_parts(model: nn.Module, present: Iterable[str]) -> tuple[str, ...]:
    """The prefixes of the weights that may start fresh beside the `present` ones.

    `fresh_parts`, an attribute of a backbone, is a tuple of the names of modules that it adds to a known network and
    that start fresh from weights of that network. Weights that hold any of them must hold all.
    """
    parts = tuple(
        f"{name}.{part}".strip(".") + "."
        for name, module in model.named_modules()
        for part in getattr(module, "fresh_parts", ())
    )
    return () if any(key.startswith(parts) for key in present) else parts


def listed(names: Iterable[str], most: int = 20) -> str:
    """Names for a message, by their first part where there are many."""
    names = sorted(names)
    if len(names) > most:
        parts = Counter(name.partition(".")[0] for name in names)
        names = [f"{part}.* ({count})" for part, count in parts.items()]
    return ", ".join(names) or "nothing"


def architectures(weights: dict, state: dict) -> str:
    """ " The file has a ResNet-50, the model a ResNet-18." where both can be told and differ, else nothing."""
    found, expected = architecture(weights), architecture(state)
    if found and expected and found != expected:
        return f" The file has a {found}, the model a {expected}."
    return ""


def start(
    backbone: nn.Module,
    weights: dict[str, Tensor],
    source: str,
    key_filter: Callable[[dict, nn.Module], dict] | None = None,
) -> None:
    """Copy weights into a backbone: a bare network's, or those of a whole model that has it under any prefix.

    What is not used of the file, a classifier for instance, and what starts fresh is logged.

    Args:
        weights: as `read` gives them.
        source: what the messages call them, the path of their file.
        key_filter: (weights without their prefix, backbone) -> weights, renamed or resized. It is asked when some do
            not fit; timm's `checkpoint_filter_fn` is one.

    Raises:
        ValueError: when nothing fits, when a layer is missing, or a weight has another shape than the backbone's.
    """
    state = backbone.state_dict()
    found = fit(weights, state)
    if key_filter and _misfit(backbone, found, source):
        found = _filtered(backbone, weights, found, key_filter)
    problem = _misfit(backbone, found, source)
    if problem:
        raise ValueError(problem)
    fitting = {key: value for key, value in found.weights.items() if key in state}
    backbone.load_state_dict(fitting, strict=False)
    unused = listed([*found.unused, *(found.weights.keys() - fitting.keys())])
    logger.info("Loaded %d weights from %s, %s; not used of it: %s", len(fitting), source, found, unused)
    fresh, missing = _missing(backbone, fitting)
    if fresh:
        logger.info("These parts are not in %s and start fresh, as the backbone asks: %s", source, listed(fresh))
    if missing:
        logger.warning("%d weights keep their random start, %s lacks them: %s", len(missing), source, listed(missing))


def _missing(model: nn.Module, present: dict) -> tuple[set[str], list[str]]:
    """The parts of a model that start fresh on purpose, and the other weights that are not there."""
    missing = [key for key in model.state_dict() if key not in present and not key.endswith("num_batches_tracked")]
    parts = fresh_parts(model, present)
    return {part for part in parts if any(key.startswith(part) for key in missing)}, sorted(
        key for key in missing if not key.startswith(parts)
    )


def _misfit(backbone: nn.Module, found: Fit, source: str) -> str | None:
    """Why the weights cannot start the backbone, if so."""
    state, weights = backbone.state_dict(), found.weights
    fitting = {key: value for key, value in weights.items() if key in state}
    which = architectures(weights, state)
    if not fitting:
        return (
            f"No weight of {source} fits the backbone: the file has {list(weights)[:3]}..., the backbone "
            f"{list(state)[:3]}....{which} Check MODEL.BACKBONE.NAME and PRETRAIN_PATH."
        )
    wrong = next((key for key, value in fitting.items() if value.shape != state[key].shape), None)
    if wrong:
        return (
            f"{source} is of another architecture: {wrong} has the shape {tuple(fitting[wrong].shape)}, the "
            f"backbone's has {tuple(state[wrong].shape)}.{which} Check MODEL.BACKBONE.DEPTH and PRETRAIN_PATH."
        )
    lost = lost_layers(state, _missing(backbone, fitting)[1])
    if which and not lost:  # a deeper one has all layers of a shallower one
        return f"{source} is of another architecture.{which} Check MODEL.BACKBONE.DEPTH and PRETRAIN_PATH."
    if lost:
        return (
            f"{source} is of another architecture: it lacks {len(lost)} layers of the backbone, such as {lost[0]}, "
            f"which would stay random.{which} Check MODEL.BACKBONE and PRETRAIN_PATH, or name what a backbone of your "
            "own adds on purpose in its attribute `fresh_parts`."
        )
    return None


def _filtered(backbone: nn.Module, weights: dict, found: Fit, key_filter: Callable) -> Fit:
    """The fit after `key_filter` below the first prefix where all then fits; without one, `found`."""
    for prefix in dict.fromkeys([found.removed, *_large_prefixes(weights)]):
        inside = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        try:
            again = fit(key_filter(inside, backbone), backbone.state_dict())
        except Exception as error:  # a filter of one architecture may trip over the keys of another
            logger.info("The names under %r are not those that the backbone's key filter knows (%r).", prefix, error)
            continue
        if _misfit(backbone, again, "") is None:
            outside = [key for key in weights if not key.startswith(prefix)]
            return replace(again, unused=(*outside, *again.unused), removed=prefix + again.removed)
    return found


def _large_prefixes(weights: dict) -> list[str]:
    """The prefixes of half of the names or more, those of a running mean last, longer ones first."""
    leading = ("".join(f"{part}." for part in key.split(".")[:n]) for key in weights for n in range(key.count(".") + 1))
    prefixes = Counter(leading)
    large = [prefix for prefix, count in prefixes.items() if 2 * count >= len(weights)]
    return sorted(large, key=lambda prefix: (is_mean(prefix), -prefix.count("."), prefix))
