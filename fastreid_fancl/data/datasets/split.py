"""Split data sets that have identities but no splits.

The rule depends only on names, so everybody gets the same split of the same folder:

1. An identity can be tested if it has two photographs from different sequences. If fewer than four identities can be
   tested, everything is for training.
2. These identities are sorted by the SHA-256 of their names. The first half (rounded up) is for training, the second
   half for testing. All other identities, and photographs without an identity, are for training. No identity is in
   both.
3. Photographs of the identities for testing have the split "test", which leave-one-out scores (see ``protocols``).
"""

import hashlib
from collections import defaultdict
from dataclasses import replace

from .photos import Photo

MIN_IDENTITIES = 4


def assign_splits(photos: list[Photo]) -> list[Photo]:
    """Assign splits by the rule above; if any photograph has a split, return all of them unchanged."""
    if any(photo.split for photo in photos):
        return photos
    testable = sorted((name for name, own in _by_identity(photos).items() if _can_be_tested(own)), key=_digest)
    tested = set(testable[-(-len(testable) // 2) :] if len(testable) >= MIN_IDENTITIES else [])
    return [replace(photo, split="test" if photo.identity in tested else "train") for photo in photos]


def no_test_reason(photos: list[Photo]) -> str | None:
    """Say why the rule above gives no test photographs; None if there are no identities."""
    by_identity = _by_identity(photos)
    if not by_identity:
        return None
    testable = sum(_can_be_tested(own) for own in by_identity.values())
    return (
        "without splits, half of the identities that have two photographs or more (from two sequences, "
        f"if these are known) are for testing, if there are at least {MIN_IDENTITIES} of them: {testable} of "
        f"{len(by_identity)} identities qualify. Add photographs or a split column, or leave it out of DATASETS.TESTS"
    )


def _by_identity(photos: list[Photo]) -> dict[str, list[Photo]]:
    by_identity: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        if photo.identity is not None:
            by_identity[photo.identity].append(photo)
    return by_identity


def _can_be_tested(photos: list[Photo]) -> bool:
    return len({photo.sequence or photo.path for photo in photos}) > 1


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
