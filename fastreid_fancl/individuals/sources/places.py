"""Photographs by the names that other programs give them."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from ...data import plural
from ..rows import Photograph


class Places:
    """Photographs by the ends of their paths, as other programs name them from other folders.

    Attributes:
        of: the paths by each of their ends.
        roots: the folders from which a path begins.
        homes: names of the folder before a path: of its root, or of its season, as our exports write it.
        left_out: paths of files that are not used; a name that means one of them means no photograph.
    """

    def __init__(self, rows: Iterable[Photograph], left_out: Iterable[str] = ()):
        self.of: dict[str, set[str]] = defaultdict(set)
        self.roots: dict[str, set[str]] = defaultdict(set)
        self.homes: dict[str, set[str]] = defaultdict(set)
        self.left_out = {unicodedata.normalize("NFC", path) for path in left_out}
        for row in rows:
            parts = row.path.split("/")
            for n in range(len(parts)):
                self.of["/".join(parts[n:])].add(row.path)
            self.roots[row.path].add(row.root)
            self.homes[row.path] |= {unicodedata.normalize("NFC", os.path.basename(row.root)), row.season} - {""}

    def find(self, names: Iterable[str]) -> list[str | None]:
        """The photograph that each name of a file means, None for those of other files.

        A name means the longest path that it ends with, or else the only path that ends with it. A name and a path that
        differ in a folder are different photographs, because cameras reuse numbers; so are names of two seasons. If the
        file has the exact path, or names with the folder of the photographs, names with another folder mean other
        photographs.
        """
        found = [self._match(name) for name in names]
        exact = {path for path, before in found if path and before == ""}
        own = {before for path, before in found if path and before and before in self.homes[path]}
        return [None if path and self._is_other(path, before, exact, own) else path for path, before in found]

    def _match(self, name: str) -> tuple[str | None, str | None]:
        """The path, and the folder before it in the name: "" if there is none, None if the name is the shorter one."""
        plain = unicodedata.normalize("NFC", name).replace("\\", "/")
        parts = [part for part in plain.split("/") if part not in ("", ".")]
        for n in range(len(parts)):
            end = "/".join(parts[n:])
            if end in self.left_out:
                return None, None
            if end in self.of.get(end, ()):
                return end, parts[n - 1] if n else ""
        longer = self.of.get("/".join(parts), ())
        return (next(iter(longer)) if len(longer) == 1 else None), None

    def _is_other(self, path: str, before: str | None, exact: set[str], own: set[str]) -> bool:
        """Whether a name with this folder before a path, or a part of the path, means another file."""
        if before == "" or before in self.homes[path]:
            return False
        return path in exact or (before is not None and (bool(own & self.homes[path]) or self._is_beside(path, before)))

    def _is_beside(self, path: str, before: str) -> bool:
        """Whether the photographs' folder stands beside one of that name, which has a file of that path."""
        return any(_has_other(os.path.join(os.path.dirname(root), before), path, root) for root in self.roots[path])


def _has_other(folder: str, path: str, root: str) -> bool:
    """Whether a folder is another one than the root of photographs, and has a file of this path, too."""
    if not (root and os.path.exists(os.path.join(folder, path))):
        return False
    return not (os.path.exists(root) and os.path.samefile(folder, root))


def not_here(path: Path, number: int, what: str) -> str:
    """A sentence on what a file names and --photos does not have; "" if there is none."""
    return f" Not among the photographs: {plural(number, what)} of {path.name}." if number else ""
