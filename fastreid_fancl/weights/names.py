"""Rename the weights of a file as a model names its own, by exchanging one prefix."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from .contents import is_mean

# Matches names such as features.denseblock1.denselayer1.norm.1.weight.
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
NUMBERED = re.compile(r"((?:[A-Za-z_]\w*\.)*)(\d+)\.")
RESNET = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True)
class Fit:
    """The weights of a file, renamed as a model names its own.

    Attributes:
        weights: all weights under the chosen prefix, including those that the model does not have.
        unused: names in the file that are not under the prefix.
        removed: the prefix in the file.
        added: the prefix that replaces it, as in the model.
        rivals: other prefixes in the file that fit equally well.
    """

    weights: dict[str, Tensor]
    unused: tuple[str, ...] = ()
    removed: str = ""
    added: str = ""
    rivals: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = f"its names {self.removed or '(without a prefix)'}* as {self.added or '(without a prefix)'}*"
        if self.rivals:
            what += (
                f" ({', '.join(self.rivals)} would fit as well: a trained encoder is preferred to its moving average)"
            )
        return what


def fit(weights: dict[str, Tensor], state: dict[str, Tensor]) -> Fit:
    """Rename the weights by exchanging one prefix, so that as many as possible fit a model's `state`.

    A prefix is empty or consists of whole parts between dots. The best pair of prefixes has the most filters and
    matrices of equal name and shape, then the most weights; then a trained encoder is preferred to its moving average,
    then the shortest prefix wins. If fewer than half of the filters fit, names and numbers of dimensions decide, which
    distinguishes a network of another depth from an unrelated one. If two filters do not fit by these either, the
    weights keep their names.
    """
    weights = _names_of_today(weights)
    for shapes in (True, False):
        pairs = _pairs(weights, state, shapes)
        if pairs:
            return _renamed(weights, pairs)
    return Fit(weights)


def _names_of_today(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's published DenseNets (norm.1 to norm1) and ResNets in an nn.Sequential (0 to conv1)."""
    weights = {OLD_DENSENET.sub(r"\1\2", key): value for key, value in weights.items()}
    children: dict[str, set[int]] = defaultdict(set)
    for match in filter(None, map(NUMBERED.match, weights)):
        children[match[1]].add(int(match[2]))
    for prefix, numbers in children.items():
        # open-reid, MMT, SpCL and cluster-contrast-reid build such ResNets; modules without weights take numbers, too.
        is_stem = f"{prefix}0.weight" in weights and f"{prefix}1.running_mean" in weights
        if is_stem and weights[f"{prefix}0.weight"].dim() == 4 and len(numbers) in (6, 7):
            names = {f"{prefix}{n}.": f"{prefix}{name}." for n, name in zip(sorted(numbers), RESNET, strict=False)}
            weights = {_renamed_child(key, names): value for key, value in weights.items()}
    return weights


def _renamed_child(key: str, names: dict[str, str]) -> str:
    match = NUMBERED.match(key)
    return names.get(match[0], match[0]) + key[match.end() :] if match else key


def _pairs(weights: dict, state: dict, shapes: bool) -> Counter:
    """Count (filters, weights) that fit for each pair (prefix in the file, prefix in the model).

    Each common end of two names adds one to a pair. Pairs that fit fewer than half of the filters are left out, and
    without shapes those that fit a single one: two weights of unrelated networks may end alike.
    """
    kind = (lambda value: tuple(value.shape)) if shapes else Tensor.dim
    by_kind = defaultdict(list)
    for key, value in state.items():
        by_kind[key.rpartition(".")[2], kind(value)].append((key.split("."), value.dim() > 1))
    filters, totals = Counter(), Counter()
    for key, value in weights.items():
        parts = key.split(".")
        for other, is_filter in by_kind[parts[-1], kind(value)]:
            for prefixes in _prefixes(parts, other):
                totals[prefixes] += 1
                filters[prefixes] += is_filter
    wanted = min(sum(value.dim() > 1 for value in group.values()) for group in (weights, state))
    least = max(wanted / 2, 1 if shapes else 2)
    return {pair: (count, totals[pair]) for pair, count in filters.items() if wanted and count >= least}


def _prefixes(one: list[str], other: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of prefixes, with their last dot, that precede each common end of two names."""
    for length in range(1, min(len(one), len(other)) + 1):
        if one[-length] != other[-length]:
            return
        yield tuple("".join(f"{part}." for part in name[:-length]) for name in (one, other))


def _renamed(weights: dict, pairs: dict[tuple[str, str], tuple[int, int]]) -> Fit:
    """Rename the weights by the best pair of prefixes."""

    def rank(pair: tuple[str, str]) -> tuple:
        removed, added = pair
        filters, count = pairs[pair]
        return -filters, -count, is_mean(removed), (removed + added).count("."), is_mean(added), removed, added

    removed, added = best = min(pairs, key=rank)
    rivals = sorted(pair[0] for pair in pairs if pairs[pair] == pairs[best] and pair[1] == added and pair != best)
    inside = {added + key.removeprefix(removed): value for key, value in weights.items() if key.startswith(removed)}
    unused = tuple(key for key in weights if not key.startswith(removed))
    return Fit(inside, unused, removed, added, tuple(rivals))
