"""Makes the unmodified fast-reid 1.4.0 wheel work on today's Python, PyTorch and NumPy, with or without a GPU.

Each mend is one function or class whose docstring names the symptom, the cause in fast-reid's source and what the mend
does. Importing a module of this package puts its mends in place; `apply` imports them in the order they need.
"""

import importlib

from .imports import prepare_imports

# Shared seams of the package: `compat.check_config(cfg)` and so on.
_PUBLIC = {
    "check_config": ".checks",
    "choose_backend": ".launch",
    "stateful": ".engine",
    "torchrun_processes": ".launch",
}
_MENDS = (
    *("registry", "data", "samplers", "pretrained", "model"),
    *("evaluation", "checkpoint", "hooks", "logs", "engine", "launch"),
)

__all__ = ["apply", *_PUBLIC]


def apply() -> None:
    """Put every mend in place. A second call changes nothing. Call it before the first `import fastreid`."""
    prepare_imports()
    for name in _MENDS:
        importlib.import_module(f".{name}", __name__)


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
