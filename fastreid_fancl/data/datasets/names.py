"""Names as people write them: for missing values, in several spellings, or with characters that no table can hold."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

# In any letter case. People write UNKNOWN on purpose; R, pandas, databases and spreadsheets write the others.
UNKNOWN = frozenset(("", "unknown", "unlabelled", "unlabeled"))
MISSING = UNKNOWN | frozenset(
    (
        *("na", "<na>", "n/a", "n.a.", "n.a", "n/k", "#n/a", "#na", "#n/a n/a", "-nan", "+nan", "1.#qnan", "-1.#ind"),
        *(
            "nan",
            "none",
            "null",
            "(null)",
            "<null>",
            "#null!",
            "nil",
            "undefined",
        ),
        *("missing", "not available", "unidentified", "not identified"),
        *("#ref!", "#value!", "#name?", "#div/0!", "#num!", "\\n"),
        *(".", "?", "??", "???", "-", "--", "---", "\N{EN DASH}", "\N{EM DASH}"),
    )
)


def clean_name(name: str) -> str | None:
    """Return the name in Unicode's composed form (NFC) without surrounding spaces; None if it means a missing value."""
    name = _composed(name).strip()
    return None if name.lower() in MISSING else name


def is_guessed_missing(name: str) -> bool:
    """Whether :func:`clean_name` drops a name that could be intended, one in ``MISSING`` but not in ``UNKNOWN``."""
    return name.strip().lower() in MISSING - UNKNOWN


def has_break(name: str) -> bool:
    """Whether a name has several lines, or a NUL, which no path can contain."""
    return len(name.splitlines()) > 1 or "\0" in name


def near_duplicates(names: Iterable[str]) -> list[list[str]]:
    """Group names that differ only in letter case, leading zeros, spaces or a decimal ".0"."""
    groups = defaultdict(set)
    for name in names:
        groups[_canonical(name)].add(name)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def _canonical(name: str) -> str:
    """Remove everything in which near duplicates may differ."""
    name = unicodedata.normalize("NFKC", name).casefold()
    name = "".join(c for c in name if not c.isspace() and unicodedata.category(c) != "Cf")
    return re.sub(r"(?<![\d.])0+(?=\d)", "", re.sub(r"^(-?\d+)\.0+$", r"\1", name))


class FileIndex:
    """Finds files whose names are composed (NFC) in a table but decomposed on disk, as on macOS, or vice versa.

    It lists each folder once, which is faster than a million look-ups.
    """

    def __init__(self):
        """Start without any folders; they are listed when needed."""
        self._folders: dict[str, _Folder] = {}

    def find(self, path: str) -> str | None:
        """Return the path as it is on disk; None if there is no file, or several that differ only in composition."""
        folder, name = os.path.split(path)
        listed = self._list(folder)
        own = name if name in listed.names else listed.composed.get(_composed(name))
        return os.path.join(listed.path, own) if own else None

    def hint(self, path: str) -> str:
        """Say, as the end of a sentence, which similar file is on disk instead of a missing one; "" if none is."""
        folder, name = os.path.split(path)
        other = self._list(folder).lower.get(_composed(name).lower())
        return f" (there is {other}: letter case matters)" if other else ""

    def _list(self, folder: str) -> "_Folder":
        if folder not in self._folders:
            self._folders[folder] = self._listed(folder)
        return self._folders[folder]

    def _listed(self, folder: str) -> "_Folder":
        try:
            return _Folder(folder, frozenset(os.listdir(folder or ".")))
        except OSError:
            elsewhere = self.find(folder) if os.path.dirname(folder) != folder else None
            return self._list(elsewhere) if elsewhere not in (None, folder) else _Folder(folder, frozenset())


@dataclass(frozen=True)
class _Folder:
    """A folder's path on disk and the names in it."""

    path: str
    names: frozenset[str]

    @cached_property
    def composed(self) -> dict[str, str | None]:
        """Names by their composed form; None if several names share it."""
        names: dict[str, str | None] = {}
        for name in self.names:
            names[_composed(name)] = None if _composed(name) in names else name
        return names

    @cached_property
    def lower(self) -> dict[str, str]:
        return {_composed(name).lower(): name for name in sorted(self.names)}


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def is_hidden(name: str) -> bool:
    """Whether a file or folder belongs to the system and not to the photographs."""
    return name.startswith((".", "__MACOSX")) or name in ("Thumbs.db", "desktop.ini")
