"""Data sets, reading of photographs, sampling and loading.

Imports nothing of fast-reid: `compat` takes `images` from here while it mends fast-reid.
"""

UNLABELLED = "unlabelled"
"""The pid of a training image whose identity is not known."""

UNKNOWN_CAMERA = "_unknown"
"""How the camid of a training image ends whose camera is not known."""


def shorten(lines: list[str], limit: int = 10) -> str:
    """The first ``limit`` lines, indented, and how many more there are."""
    shown = [f"  {line}" for line in lines[:limit]]
    if len(lines) > limit:
        shown.append(f"  ... and {len(lines) - limit} more")
    return "\n".join(shown)
