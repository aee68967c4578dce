"""The defaults of this package's keys."""

from copy import deepcopy

from fastreid.config import CfgNode

from .keys import KEYS


def add_fancl_config(cfg: CfgNode) -> None:
    """Add every key of `keys.KEYS` with its default to fast-reid's configuration."""
    for key in KEYS:
        *sections, name = key.name.split(".")
        node = cfg
        for section in sections:
            node = node.setdefault(section, CfgNode())
        node[name] = deepcopy(key.default)
