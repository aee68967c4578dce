"""Detect photographs that are equal byte for byte: a query that retrieves its own copy proves nothing."""

import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence, Set
from itertools import combinations

from ..files import content_hash
from ..logs import log_once
from . import display_name, plural, shorten
from .images import open_regular

logger = logging.getLogger(__name__)
Item = tuple[str, int, int]
TAIL = 4096  # bytes at the end of a file, where different photographs differ even if their headers are equal


def warn_of_copies(needed: Sequence[tuple[object, Sequence[str]]]) -> None:
    """Warn of copies between query and gallery, and between test and training photographs.

    Copies with the same identity and the same camera or sequence are ignored, as the evaluation ignores them. Test
    photographs on which their own data set also trains (DATASETS.COMBINEALL) are ignored as well; their scores are
    marked.

    Args:
        needed: data sets and their splits, as for `check.preflight`. Data sets with query and gallery are test data,
            all others are training data.
    """
    scored = [dataset for dataset, splits in needed if {"query", "gallery"} <= set(splits)]
    others = [(dataset, splits) for dataset, splits in needed if not {"query", "gallery"} <= set(splits)]
    trained = {item[0] for dataset, splits in others for split in splits for item in getattr(dataset, split)}
    for dataset in scored:
        name = display_name(dataset)
        warn_of_copies_in_test(name, dataset.query, dataset.gallery, trained)
        elsewhere = {
            item[0]
            for other, splits in others
            if other is not dataset
            for split in splits
            for item in getattr(other, split)
        }
        _warn_of_shared(name, sorted(elsewhere.intersection(item[0] for item in (*dataset.query, *dataset.gallery))))


def warn_of_copies_in_test(
    name: str, query: Sequence[Item], gallery: Sequence[Item], trained: Set[str] = frozenset()
) -> None:
    """Warn of copies between the queries and the gallery of one test, and between these and `trained` photographs.

    Args:
        name: of the data set.
        query, gallery: (path, pid, camid).
        trained: paths that are trained on. A photograph that is also tested is not its own copy, so a test of the
            photographs that are trained on passes none.
    """
    queries, others = ({item[0]: item[1:] for item in items} for items in (query, gallery))
    tested = queries | others
    compared, leaked = [], []
    for group in copies([*tested, *trained - tested.keys()]):
        for one, other in combinations(group, 2):
            if one in tested and other in tested:
                is_pair = (one in queries and other in others) or (other in queries and one in others)
                if is_pair and tested[one] != tested[other]:
                    compared.append(f"{one} = {other}")
            elif one in tested or other in tested:
                leaked.append(f"{one} = {other}")
    _warn(name, compared, "photographs that are compared with each other")
    _warn(name, leaked, "photographs, one trained on and one tested,")


def _warn_of_shared(name: str, shared: list[str]) -> None:
    if shared:
        tested = f"{plural(len(shared), 'test photograph')}, which another data set trains on"
        message = f"data set {name}: {tested}, so scores will be too high\n{shorten(shared, limit=2)}"
        log_once(logger, logging.WARNING, f"{message}\nTake them out of one of the two data sets.")


def _warn(name: str, pairs: list[str], what: str) -> None:
    if pairs:
        message = f"{len(pairs)} pairs of {what} are identical files, so scores will be too high"
        log_once(logger, logging.WARNING, f"data set {name}: {message}\n{shorten(pairs, limit=2)}\nKeep one of each.")


def copies(paths: Iterable[str]) -> list[list[str]]:
    """Group paths whose files are equal byte for byte; files that cannot be read are left out.

    It opens only files of equal size, and reads whole files only if their ends are equal too.
    """
    groups = [list(paths)]
    for kind in (os.path.getsize, _digest_of_end, _digest_of_file):
        groups = [part for group in groups for part in _group_by(group, kind)]
    return groups


def _group_by(paths: list[str], kind: Callable[[str], Hashable]) -> list[list[str]]:
    """Group paths by `kind`; groups of a single path are left out."""
    groups = defaultdict(list)
    for path in paths:
        try:
            groups[kind(path)].append(path)
        except OSError:  # the check of all photographs reports it
            continue
    return [group for group in groups.values() if len(group) > 1]


def _digest_of_end(path: str) -> bytes:
    with open_regular(path) as file:
        file.seek(-min(TAIL, os.path.getsize(path)), os.SEEK_END)
        return hashlib.blake2b(file.read(), digest_size=16).digest()


def _digest_of_file(path: str) -> str:
    with open_regular(path) as file:
        return content_hash(file)
