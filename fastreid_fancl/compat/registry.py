"""Names: an unknown one lists the known ones."""

import difflib

from fastreid.utils.registry import Registry

from ..errors import UserError


class UnknownNameError(UserError, KeyError):
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
