"""Find the weights in the content of a file: under which keys they are, and which of several encoders to take.

If a file holds several encoders, a trained one is preferred to its moving average (EMA), which is recognised by its
name.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping

import torch

from ..errors import UserError
from .formats import read_file

logger = logging.getLogger(__name__)

# Names of encoders that are the moving average of another encoder.
MEAN = re.compile(r"(^|[._])(ema|teacher|encoder_k|key_encoder|target|momentum|mean|averaged?)([._]|$|\d)", re.I)


def is_mean(name: str) -> bool:
    """Whether a key or prefix names a moving average of weights."""
    return bool(MEAN.search(name))


def read(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Read the weights in a file, under the names that they have there.

    Raises:
        ValueError: if the file cannot be read or holds no weights.
    """
    return as_checkpoint(read_file(path), os.fspath(path))["model"]


def as_checkpoint(content: object, path: str) -> dict:
    """Bring the content of a file into fast-reid's form {"model": weights, ...}.

    The weights are the largest mapping of names to tensors anywhere in the content. Of several of about the same size,
    the one under "model" is preferred, then a trained encoder to its moving average.

    Raises:
        ValueError: if the file holds no weights.
    """
    mappings = dict(_mappings(content, ()))
    if not mappings:
        raise UserError(f"Expected weights in {path}, as a state dict or under 'model', got {_describe(content)}.")
    most = max(map(len, mappings.values()))
    large = {keys for keys, weights in mappings.items() if 2 * len(weights) > most}
    chosen = ("model",) if ("model",) in large else min(large, key=lambda keys: _rank(keys, mappings[keys]))
    others = sorted(".".join(keys) for keys in large - {chosen})
    if others:
        logger.info(
            "%s holds several sets of weights: those under %r are used, not those under %s. A trained encoder is "
            "preferred to its moving average, then the larger one.",
            path,
            ".".join(chosen),
            ", ".join(map(repr, others)),
        )
    rest = {key: value for key, value in content.items() if key not in chosen[:1]} if chosen else {}
    return {**rest, "model": mappings[chosen]}


def _rank(keys: tuple[str, ...], weights: dict) -> tuple:
    return is_mean(".".join(keys)), -len(weights), len(keys), keys


def _mappings(content: object, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, torch.Tensor]]]:
    """Yield each mapping that contains tensors, with the keys that lead to it."""
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
