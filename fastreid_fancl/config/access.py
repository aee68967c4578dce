"""Keys of several parts, such as "MODEL.HEADS.NORM", and their values."""

from typing import Any

from fastreid.config import CfgNode


def value_of(cfg: CfgNode, key: str) -> Any:
    """The value at a key."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def all_keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    """The full names of all keys and sections of a configuration."""
    own = [prefix + key for key in cfg]
    below = [all_keys(value, f"{prefix}{key}.") for key, value in cfg.items() if isinstance(value, CfgNode)]
    return own + [key for keys in below for key in keys]
