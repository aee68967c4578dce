"""The split of data sets that have identities but no split.

The rule, a function of the names alone, so that everybody gets the same split of the same folder:

1. An identity can be tested if it has two photographs that are not of one sequence. With fewer than four such
   identities everything is for training.
2. In the order of the SHA-256 of their names, the first half of these (rounded up) is for training and the second for
   testing. Identities that cannot be tested and photographs without an identity are for training. No identity is
   in both.
3. Photographs of the identities for testing are of the split "test": scored by leave-one-out, see ``protocols``.
"""

import hashlib
from collections import defaultdict
from dataclasses import replace

from .photos import Photo

MIN_IDENTITIES = 4


def assign_splits(photos: list[Photo]) -> list[Photo]:
    """Give every photograph a split by the rule above; photographs that have splits are returned as they are."""
    if any(photo.split for photo in photos):
        return photos
    by_identity: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        if photo.identity is not None:
            by_identity[photo.identity].append(photo)
    testable = sorted((name for name, own in by_identity.items() if _can_be_tested(own)), key=_digest)
    tested = set(testable[-(-len(testable) // 2) :] if len(testable) >= MIN_IDENTITIES else [])
    return [replace(photo, split="test" if photo.identity in tested else "train") for photo in photos]


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
        "without splits the test takes half of the identities that have two photographs or more (of two sequences, "
        f"where these are known), and needs at least {MIN_IDENTITIES} of them: {testable} of {len(by_identity)} "
        "identities have. "
        "Add photographs or a split column, or leave it out of DATASETS.TESTS"
    )


def _can_be_tested(photos: list[Photo]) -> bool:
    return len({photo.sequence or photo.path for photo in photos}) > 1


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
