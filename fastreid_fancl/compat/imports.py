"""The fixes that `import fastreid` needs, and the two decorators that the other fixes use."""

import collections
import collections.abc
import functools
import importlib
import importlib.metadata
import sys
import types
import warnings
from collections.abc import Callable

import numpy as np

from ..packages import INSTALL_FAISS

# All modules with a name that a fix replaces, including those that fast-reid imports late, inside functions.
_FASTREID_MODULES = (
    "fastreid.engine",
    "fastreid.data.build",
    "fastreid.evaluation.rank",
    "fastreid.evaluation.roc",
    "fastreid.modeling.backbones.regnet.regnet",
    "fastreid.solver",
    "fastreid.utils.logger",
)


def prepare_imports() -> None:
    """Import fast-reid with the four fixes below around it."""
    add_torch_six()
    add_collections_mapping()
    add_numpy_bool()
    stub = stand_in_for_faiss()
    try:
        with warnings.catch_warnings():
            # compat.evaluation has its own fast ranking, so nobody needs to know that the compiled one is missing.
            warnings.filterwarnings("ignore", message="Cython (rank|roc) evaluation")
            for name in _FASTREID_MODULES:
                importlib.import_module(name)
    finally:
        if stub is not None and sys.modules.get("faiss") is stub:
            del sys.modules["faiss"]
    state_installed_version()


def add_torch_six() -> None:
    """Symptom: ``ModuleNotFoundError: No module named 'torch._six'``.

    Cause: data/build.py:11 imports `string_classes` from a module that PyTorch 2 removed.
    Fix: a module of that name that holds `string_classes`.
    """
    module = types.ModuleType("torch._six")
    module.string_classes = (str, bytes)
    sys.modules.setdefault("torch._six", module)


def add_collections_mapping() -> None:
    """Symptom: ``ImportError: cannot import name 'Mapping' from 'collections'``.

    Cause: data/build.py:12 and evaluation/testing.py:5 use the place that Python 3.10 emptied.
    Fix: the name is put back.
    """
    if not hasattr(collections, "Mapping"):
        collections.Mapping = collections.abc.Mapping


def add_numpy_bool() -> None:
    """Symptom: ``AttributeError: module 'numpy' has no attribute 'bool'`` in the CUHK03 protocol on NumPy 1.26.

    Cause: evaluation/rank.py:69; NumPy 1.24 removed the name, NumPy 2 has it again.
    Fix: the name is put back where it is missing.
    """
    if "bool" not in vars(np):  # `hasattr` would warn
        np.bool = np.bool_


class AbsentFaiss(types.ModuleType):
    """Has the names of faiss that fast-reid reads during its import; any other use raises an error with the cure."""

    METRIC_L2 = 1

    @staticmethod
    def get_num_gpus() -> int:
        return 0

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        raise ImportError(f"faiss.{name} is needed, but faiss is not installed: {INSTALL_FAISS}.")


def stand_in_for_faiss() -> AbsentFaiss | None:
    """Symptom: without faiss ``import fastreid`` fails, even when nothing is re-ranked.

    Cause: utils/compute_dist.py:10, utils/faiss_utils.py:49, evaluation/roc.py:9 import it unconditionally.
    Fix: a stand-in for as long as fast-reid is imported. It is taken out of `sys.modules` afterwards, so that other
    code still sees that faiss is missing; re-ranking then searches with PyTorch (compat.evaluation).
    """
    try:
        import faiss  # noqa: F401
    except ImportError:
        sys.modules["faiss"] = AbsentFaiss("faiss")
        return sys.modules["faiss"]
    return None


def state_installed_version() -> None:
    """Symptom: ``fastreid.__version__`` is "1.3" in the wheel of 1.4.0, and logs say so.

    Cause: __init__.py:8.
    Fix: the version of the installed distribution.
    """
    import fastreid

    try:
        fastreid.__version__ = importlib.metadata.version("fastreid")
    except importlib.metadata.PackageNotFoundError:
        return  # fast-reid from a source tree on the path


def replace(old: object) -> Callable:
    """Decorator: put the decorated class or function wherever fast-reid's modules hold `old`."""

    def decorate(new):
        for name, module in list(sys.modules.items()):
            if name == "fastreid" or name.startswith("fastreid."):
                for key, value in list(vars(module).items()):
                    if value is old:
                        setattr(module, key, new)
        return new

    return decorate


def wrap(old: Callable) -> Callable:
    """Decorator: like `replace`, for a function that takes the stock function as its first argument."""

    def decorate(function):
        @functools.wraps(old)
        def wrapped(*args, **kwargs):
            return function(old, *args, **kwargs)

        replace(old)(wrapped)
        return wrapped

    return decorate


prepare_imports()
