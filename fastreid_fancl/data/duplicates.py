"""Photographs that are equal byte for byte: a search that finds the query's own copy says nothing."""

import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import combinations

from ..logs import log_once
from . import shorten
from .images import open_regular

logger = logging.getLogger(__name__)
TAIL = 4096  # bytes: the ends of different photographs differ, if not their headers


def warn_of_copies(needed: Sequence[tuple[object, Sequence[str]]]) -> None:
    """Warn of copies among what a test compares, and between its photographs and those trained on.

    Copies that the test leaves out, those of one identity and one camera or sequence, are none.

    Args:
        needed: data sets and their splits, as for `check.preflight`: those of query and gallery together are scored,
            all others are trained on.
    """
    scored = [dataset for dataset, splits in needed if {"query", "gallery"} <= set(splits)]
    others = [(dataset, splits) for dataset, splits in needed if not {"query", "gallery"} <= set(splits)]
    trained = {item[0] for dataset, splits in others for split in splits for item in getattr(dataset, split)}
    for dataset in scored:
        name = getattr(dataset, "dataset_name", "") or type(dataset).__name__
        query, gallery = ({item[0]: item[1:] for item in items} for items in (dataset.query, dataset.gallery))
        tested = query | gallery
        compared, learnt = [], []
        for group in copies([*tested, *trained - tested.keys()]):
            for one, other in combinations(group, 2):
                if one in tested and other in tested:
                    of_split = (one in query and other in gallery) or (other in query and one in gallery)
                    if of_split and tested[one] != tested[other]:
                        compared.append(f"{one} = {other}")
                elif one in tested or other in tested:
                    learnt.append(f"{one} = {other}")
        _warn(name, compared, "photographs that are compared with each other")
        _warn(name, learnt, "photographs, one trained on and one tested,")


def _warn(name: str, pairs: list[str], what: str) -> None:
    if pairs:
        message = f"{len(pairs)} pairs of {what} are the same, byte for byte, so scores will flatter"
        log_once(logger, logging.WARNING, f"data set {name}: {message}\n{shorten(pairs, limit=2)}\nKeep one of each.")


def copies(paths: Iterable[str]) -> list[list[str]]:
    """Groups of paths whose files are equal byte for byte; files that cannot be read are in none.

    Only files of one size are opened, and only those whose ends are equal, too, are read.
    """
    groups = [list(paths)]
    for kind in (os.path.getsize, _end, _whole):
        groups = [part for group in groups for part in _parted(group, kind)]
    return groups


def _parted(paths: list[str], kind: Callable[[str], Hashable]) -> list[list[str]]:
    """Groups of two paths or more that are of one kind."""
    found = defaultdict(list)
    for path in paths:
        try:
            found[kind(path)].append(path)
        except OSError:  # the check of all photographs names it
            continue
    return [group for group in found.values() if len(group) > 1]


def _end(path: str) -> bytes:
    with open_regular(path) as file:
        file.seek(-min(TAIL, os.path.getsize(path)), os.SEEK_END)
        return hashlib.blake2b(file.read(), digest_size=16).digest()


def _whole(path: str) -> bytes:
    with open_regular(path) as file:
        return hashlib.blake2b(file.read(), digest_size=16).digest()
