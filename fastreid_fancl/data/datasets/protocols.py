"""Evaluation protocols: leave-one-out, or separate queries and gallery.

Leave-one-out: every photograph of an animal with two or more test photographs is a query against all other test
photographs. The only photograph of an animal is in the gallery but is not a query. The query itself does not count,
and neither do photographs of the same animal from the same sequence.

The evaluator's Market-1501 rule implements this: it drops gallery photographs with the identity and the camera of the
query. So each photograph gets the number of its sequence as its "camera", or a number of its own if it has no sequence.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from .photos import Photo

TestItem = tuple[str, int, int]


class Protocol(NamedTuple):
    """Queries and gallery of an evaluation.

    Attributes:
        query: (path, pid, camid) of each query.
        gallery: (path, pid, camid) of each gallery photograph. With leave-one-out it includes the queries.
        names: names of the identities, ``names[pid]``; empty if a data set has only numbers.
        strangers: pids of no one animal, such as 0 in Market1501, its background; scores of groups leave these out.
    """

    query: list[TestItem]
    gallery: list[TestItem]
    names: list[str]
    strangers: Sequence[int] = ()

    @property
    def photographs(self) -> list[TestItem]:
        """Each photograph once: the queries, then the rest of the gallery."""
        return list(dict.fromkeys([*self.query, *self.gallery]))

    @property
    def rows(self) -> list[int]:
        """Position in `photographs` of each query, and then of each gallery photograph."""
        number = {item: row for row, item in enumerate(self.photographs)}
        return [number[item] for item in (*self.query, *self.gallery)]

    def labels(self) -> list[np.ndarray]:
        """The pids of queries (Q,) and gallery (G,), then their camids, in the order of `ranking.market1501`."""
        return [np.array([item[column] for item in items]) for column in (1, 2) for items in (self.query, self.gallery)]

    @property
    def leaves_one_out(self) -> bool:
        """Whether the gallery includes queries."""
        return not set(self.query).isdisjoint(self.gallery)


def leave_one_out(photos: Iterable[Photo]) -> Protocol:
    """Make the leave-one-out protocol of photographs with identities; the result is sorted by path."""
    photos = sorted(photos, key=lambda photo: photo.path)
    names = sorted({photo.identity for photo in photos})
    pids = {name: pid for pid, name in enumerate(names)}
    known = sorted({photo.sequence for photo in photos if photo.sequence is not None})
    camids = {name: camid for camid, name in enumerate(known)}
    gallery = [
        (photo.path, pids[photo.identity], camids.get(photo.sequence, len(known) + n)) for n, photo in enumerate(photos)
    ]
    images = Counter(pid for _, pid, _ in gallery)
    return Protocol([item for item in gallery if images[item[1]] > 1], gallery, names)


def market1501(photos: Sequence[Photo]) -> Protocol:
    """Make the protocol of photographs of the splits query and gallery, in their order.

    An unknown camera has one number in the query and another in the gallery, so its matches count.
    """
    names = sorted({photo.identity for photo in photos})
    pids = {name: pid for pid, name in enumerate(names)}
    camids = {name: n for n, name in enumerate(sorted({p.camera for p in photos if p.camera is not None}))}

    def items(split: str, unknown: int) -> list[TestItem]:
        own = (photo for photo in photos if photo.split == split)
        return [(photo.path, pids[photo.identity], camids.get(photo.camera, unknown)) for photo in own]

    return Protocol(items("query", len(camids)), items("gallery", len(camids) + 1), names)


def counted_mates(photos: Sequence[Photo]) -> list[str]:
    """The paths of the queries that `market1501` lets match a gallery photograph of their animal and sequence.

    Its rule knows cameras, not sequences.
    """
    cameras = defaultdict(set)
    for photo in photos:
        if photo.split == "gallery" and photo.sequence is not None:
            cameras[photo.identity, photo.sequence].add(photo.camera)
    return [
        photo.path
        for photo in photos
        if photo.split == "query"
        and any(camera is None or camera != photo.camera for camera in cameras[photo.identity, photo.sequence])
    ]
