"""Identities without a split get one by a rule that everybody can repeat."""

from collections import defaultdict

from fastreid_fancl.data.datasets.photos import Photo
from fastreid_fancl.data.datasets.split import assign_splits


def photographs(identities, images, cameras=None):
    return [
        Photo(f"{name}/{n}.jpg", str(name), camera=cameras and cameras[n % len(cameras)])
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
    assert len(identities(split["train"])) == 5 and len(identities(split["gallery"])) == 4
    assert not identities(split["train"]) & identities(split["gallery"])
    assert identities(split["query"]) == identities(split["gallery"])
    # a tenth of 4 x 20
    assert (len(split["train"]), len(split["query"]), len(split["gallery"])) == (100, 8, 72)


def test_the_split_does_not_depend_on_the_order_of_the_rows():
    photos = photographs(8, 3)
    forward = {photo.path: photo.split for photo in assign_splits(photos)}
    assert {photo.path: photo.split for photo in assign_splits(photos[::-1])} == forward


def test_the_split_never_changes_between_versions():
    # the SHA-256 of "0", "1", "2", "3" begin with 5f, 6b, d4, 4e: in order 3, 0, 1, 2; so 3 and 0 train
    split = by_split(photographs(4, 2))
    assert identities(split["train"]) == {"3", "0"}
    # that of "0.jpg" begins with 39, that of "1.jpg" with 4c
    assert [photo.path for photo in split["query"]] == ["1/0.jpg", "2/0.jpg"]


def test_too_few_identities_are_all_for_training():
    assert by_split(photographs(3, 5)).keys() == {"train"}
    # five, but only three of them could be tested
    assert by_split(photographs(3, 5) + [Photo("x", "x"), Photo("y", "y")]).keys() == {"train"}


def test_unlabelled_photographs_and_single_ones_are_for_training():
    split = by_split([*photographs(6, 2), Photo("loose"), Photo("single", "single")])
    assert {"loose", "single"} <= {photo.path for photo in split["train"]}


def test_with_cameras_every_query_has_a_match_from_another_camera():
    split = by_split(photographs(8, 30, cameras="xyz"))
    for query in split["query"]:
        others = {p.camera for p in split["gallery"] if p.identity == query.identity}
        assert others - {query.camera}
    assert len(split["query"]) == 4 * 3


def test_identities_of_one_camera_cannot_be_tested():
    assert by_split(photographs(8, 4, cameras="x")).keys() == {"train"}


def test_photographs_that_have_a_split_keep_it():
    photos = [Photo("a", "1", "query"), Photo("b", "1", "gallery")]
    assert assign_splits(photos) == photos
