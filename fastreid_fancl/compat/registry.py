"""Errors on unknown names list the known ones."""

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.utils.registry import Registry

from ..data import datasets
from ..errors import UserError, did_you_mean


class UnknownNameError(UserError, KeyError):
    """An unknown name; it is also a KeyError, which fast-reid's own callers may expect."""

    __str__ = ValueError.__str__


def get(self: Registry, name: str) -> object:
    """Symptom: ``KeyError: "No object named 'X' found in 'META_ARCH' registry!"``, and nothing about what there is.

    Cause: utils/registry.py:58.
    Fix: the error lists the registered names and the nearest one.
    """
    if name in self._obj_map:
        return self._obj_map[name]
    known = sorted(self._obj_map)
    raise UnknownNameError(
        f"Expected a name of the registry {self._name}: {', '.join(known)}; got {name!r}."
        + did_you_mean(name, known, number=1)
    )


Registry.get = get


def get_dataset(name: str) -> type:
    """Symptom: ``KeyError: "No object named 'my_lynxes' found in 'DATASET' registry!"`` for a folder of photographs.

    Cause: data/build.py:37 asks the registry for the class of each name, which holds fast-reid's own data sets only.
    Fix: `data.datasets.resolve` answers for this registry, and knows the folders below FASTREID_DATASETS too.
    """
    return datasets.resolve(name)


DATASET_REGISTRY.get = get_dataset
