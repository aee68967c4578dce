"""Read files of `torch.save` without running code from them, and tell how to convert those that need code."""

import argparse
import collections
import os
import pickletools
import re
import shlex
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from ..errors import UserError

# MultiStepLR keeps its milestones in a Counter, which PyTorch 2.4 does not consider safe yet.
torch.serialization.add_safe_globals([collections.Counter])

# How `torch.load(weights_only=True)` describes what it refuses.
UNSAFE = re.compile(r"Unsupported|not an allowed|unsupported|Can only|legacy .tar", re.IGNORECASE)

# Keeps tensors, arrays and the state of modules under their keys. It uses no double quotes: a shell command quotes it.
PLAIN = (
    "f = lambda v: v.state_dict() if isinstance(v, torch.nn.Module) else torch.as_tensor(v) if not isinstance(v, dict) "
    "else {k: f(w) for k, w in v.items() if isinstance(w, (dict, torch.nn.Module, torch.Tensor, numpy.ndarray))}"
)
CONVERSIONS = {
    "torch": f"{PLAIN}; torch.save(f(torch.load(sys.argv[1], weights_only=False, map_location='cpu')), sys.argv[2])",
    "pickle": f"{PLAIN}; torch.save(f(pickle.load(open(sys.argv[1], 'rb'), encoding='latin1')), sys.argv[2])",
    "jit": "torch.save(torch.jit.load(sys.argv[1], map_location='cpu').state_dict(), sys.argv[2])",
}


def conversion(path: str, kind: str) -> str:
    """Build the command line that converts a file of this `kind` to <name>.weights.pth, a file of plain tensors."""
    target = f"{os.path.splitext(path)[0]}.weights.pth"
    files = f"{shlex.quote(path)} {shlex.quote(target)}"
    return f'python -c "import pickle, sys, numpy, torch; {CONVERSIONS[kind]}" {files}'


def damaged(kind: str, error: Exception) -> str:
    """Describe a file of this `kind` that is not complete."""
    reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return f"is a truncated or damaged {kind}: copy or download it again. ({reason})"


def convert(path: str, kind: str) -> str:
    """Tell how to convert a file that can only be loaded by running code."""
    return (
        "Loading it could run code. If you trust its origin, convert it once, in an environment that can import what "
        f"it holds, and give the new file:\n{conversion(path, kind)}"
    )


def read_torch(path: str) -> object:
    """Read a file of `torch.save` onto the CPU.

    Raises:
        ValueError: if it is damaged, or holds objects that can only be restored by running code.
    """
    try:
        with _more_safe_globals():
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        if UNSAFE.search(str(error)) and _is_whole(path):
            what = f"holds Python objects besides tensors and plain values ({_refused(error)}). "
            what += convert(path, "torch")
        else:
            what = damaged("PyTorch checkpoint", error)
        raise UserError(f"{path} {what}") from error


def _is_whole(path: str) -> bool:
    """Whether all pickles of a file are complete; PyTorch also refuses a class whose name is cut off."""
    if zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
        return True
    return whole_pickles(path, 4)  # the fixed number, the version, sizes of types, the content


def whole_pickles(path: str, number: int) -> bool:
    """Whether a file begins with `number` complete pickles."""
    try:
        with open(path, "rb") as file:
            for _ in range(number):
                collections.deque(pickletools.genops(file), maxlen=0)
    except ValueError:
        return False
    return True


def _refused(error: Exception) -> str:
    """Name what PyTorch refused to load."""
    match = re.search(r"(GLOBAL|class|type) ([\w.]+)|Unsupported operand", str(error))
    return match and match.group(2) or "by another protocol of pickle"


class _NumpyType:
    """Stands in for numpy.dtype in a checkpoint."""

    def __init__(self, name: str, *flags: bool):
        self.name = name

    def __setstate__(self, state: tuple) -> None:
        self.name = f"{str(state[1]).replace('|', '')}{self.name}"


def _number(kind: _NumpyType, data: bytes) -> float | int | bool:
    """Stands in for NumPy's constructor of scalars."""
    dtype = np.dtype(kind.name)
    if dtype.kind not in "biuf":
        raise UserError(f"Expected a number, got NumPy's {dtype}.")
    return np.frombuffer(data, dtype)[0].item()


def _named(value, name: str):
    """Give `value` the name of the object that it stands in for in pickles."""
    value.__module__, _, value.__qualname__ = name.rpartition(".")
    return value


# NumPy's numbers, such as the best mAP in checkpoints of fast-reid and cluster-contrast-reid, and the arguments of a
# command line: neither can run code.
_SAFE = [
    argparse.Namespace,
    _named(_NumpyType, "numpy.dtype"),
    *(_named(partial(_number), f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]


@contextmanager
def _more_safe_globals() -> Iterator[None]:
    """Add `_SAFE` to PyTorch's list of safe globals, for a while."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals(_SAFE)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)
