"""Data sets, reading of photographs, sampling and loading.

This file imports nothing from fast-reid: `compat` uses this package while it fixes fast-reid.
"""

UNLABELLED = "unlabelled"
"""The pid of a training image whose identity is unknown."""

UNKNOWN_CAMERA = "_unknown"
"""The suffix of the camid of a training image whose camera is unknown."""


def display_name(dataset) -> str:
    """The name of a data set in messages: that of its folder, or else of its class."""
    return getattr(dataset, "dataset_name", "") or type(dataset).__name__


def plural(number: int, noun: str) -> str:
    """A number with its noun: 1 animal, 2 animals."""
    return f"{number} {noun}{'s' * (number != 1)}"


def shorten(lines: list[str], limit: int = 10) -> str:
    """Join the first ``limit`` lines, indented, and say how many more there are."""
    shown = [f"  {line}" for line in lines[:limit]]
    if len(lines) > limit:
        shown.append(f"  ... and {len(lines) - limit} more")
    return "\n".join(shown)
