"""Identities without a split get one by a rule that everybody can repeat."""

from collections import defaultdict

from fastreid_fancl.data.datasets.photos import Photo
from fastreid_fancl.data.datasets.split import assign_splits


def photographs(identities, images, sequences=None):
    return [
        Photo(f"{name}/{n}.jpg", str(name), sequence=sequences and f"{name}{sequences[n % len(sequences)]}")
        for name in range(identities)
        for n in range(images)
    ]


def by_split(photos):
    found = defaultdict(list)
    for photo in assign_splits(photos):
        found[photo.split].append(photo)
    return found


def identities(photos):
    return {photo.identity for photo in photos}


def test_half_of_the_identities_train_and_none_is_in_both_halves():
    split = by_split(photographs(9, 20))
    assert len(identities(split["train"])) == 5 and len(identities(split["test"])) == 4
    assert not identities(split["train"]) & identities(split["test"])
    assert (len(split["train"]), len(split["test"])) == (100, 80)


def test_the_split_does_not_depend_on_the_order_of_the_rows():
    photos = photographs(8, 3)
    forward = {photo.path: photo.split for photo in assign_splits(photos)}
    assert {photo.path: photo.split for photo in assign_splits(photos[::-1])} == forward


def test_the_split_never_changes_between_versions():
    # the SHA-256 of "0", "1", "2", "3" begin with 5f, 6b, d4, 4e: in order 3, 0, 1, 2; so 3 and 0 train
    split = by_split(photographs(4, 2))
    assert identities(split["train"]) == {"3", "0"}
    assert [photo.path for photo in split["test"]] == ["1/0.jpg", "1/1.jpg", "2/0.jpg", "2/1.jpg"]


def test_too_few_identities_are_all_for_training():
    assert by_split(photographs(3, 5)).keys() == {"train"}
    # five, but only three of them could be tested
    assert by_split(photographs(3, 5) + [Photo("x", "x"), Photo("y", "y")]).keys() == {"train"}


def test_unlabelled_photographs_and_single_ones_are_for_training():
    split = by_split([*photographs(6, 2), Photo("loose"), Photo("single", "single")])
    assert {"loose", "single"} <= {photo.path for photo in split["train"]}


def test_every_test_photograph_has_a_match_from_another_sequence():
    split = by_split(photographs(8, 30, sequences="xyz"))
    for photo in split["test"]:
        others = {p.sequence for p in split["test"] if p.identity == photo.identity}
        assert others - {photo.sequence}
    assert len(split["test"]) == 4 * 30


def test_identities_of_one_sequence_cannot_be_tested():
    assert by_split(photographs(8, 4, sequences="x")).keys() == {"train"}
    # one more photograph of no known sequence, and each can
    assert by_split([*photographs(8, 4, sequences="x"), *photographs(8, 5)[4::5]]).keys() == {"train", "test"}


def test_photographs_that_have_a_split_keep_it():
    photos = [Photo("a", "1", "query"), Photo("b", "1", "gallery")]
    assert assign_splits(photos) == photos
