"""Where in a file the weights are: under which keys, and of which of several encoders.

One rule decides between encoders of one file: a trained one comes before a running mean of it, by its name.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping

import torch

from .formats import read_file

logger = logging.getLogger(__name__)

# Names of encoders that follow another one as a running mean.
MEAN = re.compile(r"(^|[._])(ema|teacher|encoder_k|key_encoder|target|momentum|mean|averaged?)([._]|$|\d)", re.I)


def is_mean(name: str) -> bool:
    """Whether a key or prefix names a running mean of weights."""
    return bool(MEAN.search(name))


def read(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """The weights in a file, under the names that they have there.

    Raises:
        ValueError: when the file cannot be read, or holds no weights.
    """
    return as_checkpoint(read_file(path), os.fspath(path))["model"]


def as_checkpoint(content: object, path: str) -> dict:
    """The content of a file as fast-reid's {"model": weights, ...}.

    The weights are those under "model" where that holds some, or else the largest mapping of names to tensors,
    wherever it is; a trained encoder comes before its running mean of the same size or nearly so.

    Raises:
        ValueError: when the file holds no weights.
    """
    found = dict(_mappings(content, ()))
    if not found:
        raise ValueError(f"Expected weights in {path}, as a state dict or under 'model', got {_describe(content)}.")
    most = max(map(len, found.values()))
    large = {keys for keys, weights in found.items() if 2 * len(weights) > most}
    chosen = ("model",) if ("model",) in found else min(large, key=lambda keys: _rank(keys, found[keys]))
    others = sorted(".".join(keys) for keys in large - {chosen})
    if others:
        logger.info(
            "Of the weights in %s those under %r are used, not those under %s: a trained encoder comes before its "
            "running mean, then the larger one.",
            path,
            ".".join(chosen),
            ", ".join(map(repr, others)),
        )
    rest = {key: value for key, value in content.items() if key not in chosen[:1]} if chosen else {}
    return {**rest, "model": found[chosen]}


def _rank(keys: tuple[str, ...], weights: dict) -> tuple:
    return is_mean(".".join(keys)), -len(weights), len(keys), keys


def _mappings(content: object, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, torch.Tensor]]]:
    """Each mapping that has tensors, under its keys."""
    if not isinstance(content, Mapping) or len(keys) > 4:
        return
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    tensors = {key: value for key, value in named.items() if isinstance(value, torch.Tensor)}
    if tensors:
        yield keys, tensors
    for key, value in named.items():
        yield from _mappings(value, (*keys, key))


def _describe(content: object) -> str:
    return f"the keys {list(content)[:5]}" if isinstance(content, dict) else str(type(content))
