"""Names: an unknown one lists the known ones."""

import difflib

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.utils.registry import Registry

from ..data import datasets


class UnknownNameError(ValueError, KeyError):
    """An unknown name; also a KeyError, which fast-reid's own callers may expect."""

    __str__ = ValueError.__str__


def nearest(name: str, known) -> str:
    """The words "Did you mean ...?", or none."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def get(self: Registry, name: str) -> object:
    """Symptom: ``KeyError: "No object named 'X' found in 'META_ARCH' registry!"``, and nothing about what there is.

    Cause: utils/registry.py:58.
    Mend: the error lists the registered names and the nearest one.
    """
    if name in self._obj_map:
        return self._obj_map[name]
    known = sorted(self._obj_map)
    hint = nearest(name, known)
    raise UnknownNameError(f"Expected a name of the registry {self._name}: {', '.join(known)}; got {name!r}.{hint}")


Registry.get = get


def get_dataset(name: str) -> type:
    """Symptom: ``KeyError: "No object named 'my_lynxes' found in 'DATASET' registry!"`` for a folder of photographs.

    Cause: data/build.py:37 asks the registry for the class of each name, which holds fast-reid's own data sets only.
    Mend: `data.datasets.resolve` answers for this registry, and knows the folders below FASTREID_DATASETS too.
    """
    return datasets.resolve(name)


DATASET_REGISTRY.get = get_dataset
