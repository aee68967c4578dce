"""The split of data sets that have identities but no split.

The rule, a function of the names alone, so that everybody gets the same split of the same folder:

1. An identity can be tested if it has two photographs, or where cameras are known photographs of two cameras. With
   fewer than four such identities everything is for training.
2. In the order of the SHA-256 of their names, the first half of these (rounded up) is for training and the second for
   testing. Identities that cannot be tested and photographs without an identity are for training. No identity is
   in both.
3. Of each test identity, in the order of the SHA-256 of the file's name, the queries are the first tenth of the
   photographs (rounded down, at least one); where cameras are known, only those of the first photograph's camera, so
   that every query has a match from another camera. The rest is the gallery.
"""

import hashlib
import os
from collections import defaultdict
from dataclasses import replace

from .photos import Photo

MIN_IDENTITIES = 4
QUERY_SHARE = 10


def assign_splits(photos: list[Photo]) -> list[Photo]:
    """Give every photograph a split by the rule above; photographs that have splits are returned as they are."""
    if any(photo.split for photo in photos):
        return photos
    by_identity: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        if photo.identity is not None:
            by_identity[photo.identity].append(photo)
    testable = sorted((name for name, own in by_identity.items() if _can_be_tested(own)), key=_digest)
    tested = testable[-(-len(testable) // 2) :] if len(testable) >= MIN_IDENTITIES else []
    splits = {photo.path: split for name in tested for photo, split in _query_and_gallery(by_identity[name])}
    return [replace(photo, split=splits.get(photo.path, "train")) for photo in photos]


def why_untested(photos: list[Photo]) -> str | None:
    """What the rule above lacks to split photographs of known identities for a test; None without identities."""
    by_identity: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        if photo.identity is not None:
            by_identity[photo.identity].append(photo)
    if not by_identity:
        return None
    testable = sum(_can_be_tested(own) for own in by_identity.values())
    return (
        "without splits the test takes half of the identities that have two photographs or more (of two cameras, where "
        f"these are known), and there must be at least {MIN_IDENTITIES} of these: of {len(by_identity)} identities "
        f"{testable} have. "
        "Add photographs or a split column, or leave it out of DATASETS.TESTS"
    )


def _can_be_tested(photos: list[Photo]) -> bool:
    return len(photos) > 1 and (not _has_cameras(photos) or len({photo.camera for photo in photos}) > 1)


def _query_and_gallery(photos: list[Photo]) -> list[tuple[Photo, str]]:
    photos = sorted(photos, key=lambda photo: (_digest(os.path.basename(photo.path)), photo.path))
    candidates = photos
    if _has_cameras(photos):
        candidates = [photo for photo in photos if photo.camera == photos[0].camera]
    queries = {photo.path for photo in candidates[: max(1, len(photos) // QUERY_SHARE)]}
    return [(photo, "query" if photo.path in queries else "gallery") for photo in photos]


def _has_cameras(photos: list[Photo]) -> bool:
    return all(photo.camera is not None for photo in photos)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
