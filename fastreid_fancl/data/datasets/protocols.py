"""What an evaluation compares: leave-one-out, or queries and a gallery of their own.

Leave-one-out: every photograph of an animal with two or more test photographs is a query against all other test
photographs. An animal's only photograph is in the gallery and no query. The query itself does not count, nor do
photographs of its animal from its own sequence.

The Market-1501 rule of the evaluator does the leaving out: it drops gallery photographs of the query's identity and
camera. So the "camera" of each photograph is the number of its sequence, one of its own where that is not known.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .photos import Photo

TestItem = tuple[str, int, int]


class Protocol(NamedTuple):
    """Queries and gallery of an evaluation.

    Attributes:
        query, gallery: (path, pid, camid) of each photograph. By leave-one-out the queries are in the gallery, too.
        names: of the identities, ``names[pid]``; empty where a data set has numbers only.
    """

    query: list[TestItem]
    gallery: list[TestItem]
    names: list[str]

    @property
    def photographs(self) -> list[TestItem]:
        """Each photograph once: the queries, then what else is in the gallery."""
        return list(dict.fromkeys([*self.query, *self.gallery]))

    @property
    def rows(self) -> list[int]:
        """Where in `photographs` each query is, and then each of the gallery."""
        number = {item: row for row, item in enumerate(self.photographs)}
        return [number[item] for item in (*self.query, *self.gallery)]

    @property
    def leaves_one_out(self) -> bool:
        """Whether queries are in the gallery."""
        return not set(self.query).isdisjoint(self.gallery)


def leave_one_out(photos: Iterable[Photo]) -> Protocol:
    """The protocol above over photographs with identities, in the order of their paths, whatever order they come in."""
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
    """The protocol of photographs of the splits query and gallery, in their order.

    An unknown camera has one number in the query and another in the gallery, so that its matches count.
    """
    names = sorted({photo.identity for photo in photos})
    pids = {name: pid for pid, name in enumerate(names)}
    camids = {name: n for n, name in enumerate(sorted({p.camera for p in photos if p.camera is not None}))}

    def items(split: str, unknown: int) -> list[TestItem]:
        own = (photo for photo in photos if photo.split == split)
        return [(photo.path, pids[photo.identity], camids.get(photo.camera, unknown)) for photo in own]

    return Protocol(items("query", len(camids)), items("gallery", len(camids) + 1), names)
