"""Differences between the settings of runs."""

from collections.abc import Iterator
from typing import Any

from ..escape import visible

# Settings in which two runs of one system may differ; the number of classes is that of the data.
FREE_KEYS = (
    "SEED",
    "OUTPUT_DIR",
    "IMPORTS",
    "MODEL.DEVICE",
    "MODEL.HEADS.NUM_CLASSES",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.CACHE_GIB",
)


def differences(*configs: dict, free: tuple[str, ...] = FREE_KEYS) -> dict[str, tuple]:
    """The keys, except `free` ones, that all configurations have with different values; and these values."""
    flat = [dict(_leaves(config)) for config in configs]
    shared = [key for key in flat[0] if key not in free and all(key in other for other in flat)]
    values = {key: tuple(config[key] for config in flat) for key in shared}
    return {key: each for key, each in values.items() if any(value != each[0] for value in each)}


def _leaves(node: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def explain_differences(changed: dict[str, tuple]) -> str:
    """The first few differences in words."""
    words = [f"{visible(key)} ({' and '.join(map(visible, values))})" for key, values in list(changed.items())[:4]]
    return ", ".join(words) + (f" and {len(changed) - 4} more" if len(changed) > 4 else "")
