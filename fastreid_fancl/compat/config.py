"""Configuration files: types that yacs takes for wrong, and several bases of a file."""

import os

import yacs.config
import yaml
from fastreid.config import CfgNode
from fastreid.utils.file_io import PathManager

from ..errors import UserError
from ..files import looked_for

NUMBER_OR_WORD: set[str] = set()
"""Keys that hold a number or a word, by their full names; `config.keys`, which stands above, enters its own."""

URLS = ("https://", "http://")


def holds_words(value) -> bool:
    """Whether a value is a list of words, or an empty list."""
    return isinstance(value, (tuple, list)) and all(isinstance(entry, str) for entry in value)


def coerce(replacement, original, key, full_key, stock=yacs.config._check_and_coerce_cfg_value_type):
    """Symptom: ``Type mismatch`` for `EPS: auto` over 0.5, `BASE_LR: 1` over 0.1 and `TESTS: mine` over a list.

    Cause: yacs/config.py knows one type per key, and takes neither an integer for a float nor a word for a list of one.
    Fix: it takes these. Entries of lists of words may be numbers, such as data sets named 2024.
    """
    if full_key in NUMBER_OR_WORD and isinstance(replacement, (int, float, str)):
        return replacement
    if isinstance(original, float) and type(replacement) is int:
        return float(replacement)
    if holds_words(original) and isinstance(replacement, str) and not replacement.startswith(("(", "[")):
        return type(original)((replacement,))
    if original and holds_words(original) and not isinstance(replacement, str):
        entries = replacement if isinstance(replacement, (tuple, list)) else (replacement,)
        replacement = type(original)(str(entry) if type(entry) is int else entry for entry in entries)
    return stock(replacement, original, key, full_key)


def load_yaml_with_base(filename: str, allow_unsafe: bool = False, above: tuple[str, ...] = ()) -> dict:
    """Symptom: ``'list' object has no attribute 'startswith'`` for a list under _BASE_; RecursionError for a circle.

    Cause: config/config.py:71 accepts a single base and does not check for circles.
    Fix: bases merge in their order, later ones win, the file itself wins over all. A circle, a missing base and a file
    that is not a configuration are ValueErrors that name the files. `above` has the files that led to this one.
    """
    place = os.path.realpath(filename)
    if place in above:
        circle = " -> ".join([*above[above.index(place) :], place])
        raise UserError(f"{filename} is a _BASE_ of itself: {circle}. Remove one of these _BASE_.")
    content = _read(filename, allow_unsafe)
    merged: dict = {}
    for base in bases_of(content, filename):
        if os.path.exists(base) and not os.path.isfile(base):  # a pipe would be waited for, and /dev/zero never ends
            raise UserError(f"{base} is not a regular file: correct the _BASE_ of {filename}.")
        try:
            below = load_yaml_with_base(base, allow_unsafe, (*above, place))
        except FileNotFoundError as error:
            raise UserError(
                f"There is no configuration file {base}{looked_for(base)}: correct the _BASE_ of {filename}."
            ) from error
        _merge(below, merged, base)
    content.pop("_BASE_", None)
    _merge(content, merged, filename)
    return merged


def bases_of(content: dict, filename: str) -> list[str]:
    """The files that _BASE_, a path or a list of paths, names in the content of a file; relative ones lie beside it.

    Raises:
        ValueError: on anything else under _BASE_.
    """
    named = content.get("_BASE_", [])
    paths = [named] if isinstance(named, str) else named
    if not isinstance(paths, list) or not all(isinstance(path, str) and path for path in paths):
        raise UserError(f"Expected _BASE_ of {filename} to be a path or a list of paths, got {named!r}.")
    folder = os.path.dirname(filename)
    return [path if path.startswith(URLS) else os.path.join(folder, os.path.expanduser(path)) for path in paths]


def _read(filename: str, allow_unsafe: bool) -> dict:
    with PathManager.open(filename, "r") as file:
        text = file.read()
    try:
        content = yaml.safe_load(text)
    except yaml.constructor.ConstructorError:
        if not allow_unsafe:
            raise
        content = yaml.unsafe_load(text)
    if not isinstance(content, dict):
        raise UserError(f"{filename} is not a configuration file: expected lines of KEY: value, got {content!r:.40}.")
    return content


def _merge(upper: dict, lower: dict, filename: str) -> None:
    """Put what a file sets into what its bases set."""
    for key, value in upper.items():
        if not isinstance(value, dict) or key not in lower:
            lower[key] = value
        elif isinstance(lower[key], dict):
            _merge(value, lower[key], filename)
        else:
            raise UserError(f"{filename} has a section {key}, which an earlier file sets to {lower[key]!r:.40}.")


yacs.config._check_and_coerce_cfg_value_type = coerce
CfgNode.load_yaml_with_base = staticmethod(load_yaml_with_base)
