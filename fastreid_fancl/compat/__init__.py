"""Makes the unmodified fast-reid 1.4.0 wheel work on today's Python, PyTorch and NumPy, with or without a GPU.

Importing this package fixes fast-reid, so import it before fast-reid. Each fix is one function or class; its docstring
names the symptom, the cause in fast-reid's source (file:line of the wheel) and the fix.
"""

# isort: off
from . import imports  # noqa: F401  (first: the others import fast-reid)
from . import config, registry, data, pretrained, model, evaluation, checkpoint, hooks, logs, engine, launch  # noqa: F401
from .engine import stateful

__all__ = ["stateful"]
