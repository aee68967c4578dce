"""Local matches on drawn coats: a coat of spots is one animal, however the camera is turned."""

import logging
import os
import sys
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from support.coats import SIZE, coat, under_text
from support.pages import block

from fastreid_fancl import local
from fastreid_fancl.errors import UserError
from fastreid_fancl.local import candidates, store
from fastreid_fancl.local.calibrate import OTHERS, Calibration, burst_mates, calibration, simultaneous_pairs
from fastreid_fancl.local.match import fit_affine, is_plausible
from fastreid_fancl.local.pairs import pair_keys, pairs_of, unique_pairs, unordered_pairs
from fastreid_fancl.local.repeats import is_in, spread

TURN = cv2.getRotationMatrix2D((100, 75), 20, 0.85)  # 20 degrees, to 0.85 of the size


def turned(picture: np.ndarray) -> np.ndarray:
    return cv2.warpAffine(picture, TURN, SIZE, borderMode=cv2.BORDER_CONSTANT, borderValue=128)


def features_of(picture: np.ndarray, tmp_path: Path, name: str, **options) -> local.LocalFeatures:
    Image.fromarray(picture).save(tmp_path / f"{name}.png")
    return local.extract(tmp_path / f"{name}.png", digest=name, **options)


@pytest.fixture(scope="module")
def herd(tmp_path_factory) -> list[local.LocalFeatures]:
    """Two photographs of each of three animals: 0 and 1, 2 and 3, 4 and 5."""
    folder = tmp_path_factory.mktemp("herd")
    pictures = [view(coat(animal)) for animal in range(3) for view in (np.asarray, turned)]
    return [features_of(picture, folder, f"photo{n}") for n, picture in enumerate(pictures)]


def test_a_turned_and_smaller_copy_matches_where_the_map_says(herd):
    matches = local.verified_matches(herd[0], herd[1])
    assert len(matches) > 25
    expected = herd[0].pixels[matches.first] @ TURN[:, :2].T + TURN[:, 2]
    assert np.abs(expected - herd[1].pixels[matches.second]).max() < 4.5, "2% of 200 pixels, and some for rounding"


def test_the_example_of_the_docs_finds_the_spots_on_both_photographs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, picture in (("first.jpg", coat(0)), ("second.jpg", turned(coat(0)))):
        Image.fromarray(picture).save(name)
    names: dict[str, np.ndarray] = {}
    exec(block("local.md", "python"), names)
    assert names["a"].shape == names["b"].shape and len(names["a"]) > 25


def test_another_pattern_does_not_match(herd):
    assert [len(local.verified_matches(herd[0], other)) for other in herd[2:]] == [0, 0, 0, 0]


def test_a_mirrored_flank_does_not_match(herd, tmp_path):
    mirrored = features_of(np.fliplr(coat(0)), tmp_path, "mirrored")
    assert len(local.verified_matches(herd[0], mirrored)) == 0


def test_matches_of_a_mirrored_place_are_refused_by_their_geometry(herd):
    """The same descriptors at mirrored places: they match, and the only map between them turns the flank inside out."""
    places = herd[0].points * np.array([-1, 1]) + np.array([1, 0])
    inside_out = herd[0]._replace(points=places.astype(np.float16), digest="z")
    ratio = local.ratio_matches(herd[0].descriptors, inside_out.descriptors)
    _, inliers = fit_affine(herd[0].pixels[ratio.first], inside_out.pixels[ratio.second], 4.0)
    assert inliers.sum() > 50, "they do agree on a map"
    assert len(local.verified_matches(herd[0], inside_out)) == 0


def test_the_order_of_two_photographs_does_not_matter(herd):
    there, back = local.verified_matches(herd[0], herd[1]), local.verified_matches(herd[1], herd[0])
    assert np.array_equal(there.first, back.second) and np.array_equal(there.second, back.first)


def test_the_ratio_test_on_paper():
    # Distances of (0, 0): 4 and 6, ratio 0.67; of (0, 10): sqrt(116) = 10.8 and sqrt(136) = 11.7, ratio 0.92.
    matches = local.ratio_matches(np.array([[0, 0], [0, 10]]), np.array([[4, 0], [6, 0]]))
    assert (matches.first.tolist(), matches.second.tolist()) == ([0], [0])
    assert len(local.ratio_matches(np.array([[0, 0]]), np.array([[4, 0], [5, 0]]))) == 0, "a ratio of 0.8 is not below"
    assert len(local.ratio_matches(np.array([[0, 0]]), np.array([[4, 0]]))) == 0, "no second nearest to compare with"


def test_each_pair_has_a_number_of_its_own_and_comes_back_once():
    # Of 4 photographs, 1 and 3 have the number 1 * 4 + 3 in either order.
    pairs = np.array([[3, 1], [0, 2], [1, 3]])
    assert pair_keys(pairs, 4).tolist() == [7, 2, 7]
    assert pairs_of(pair_keys(pairs, 4), 4).tolist() == [[1, 3], [0, 2], [1, 3]]
    assert pairs_of(7, 4).tolist() == [1, 3]
    assert unique_pairs(pairs, 4).tolist() == [[0, 2], [1, 3]]
    assert unique_pairs(pairs[:0], 4).shape == (0, 2)


def test_of_several_with_one_nearest_descriptor_the_nearest_stays():
    # (1, 0) and (2, 0) both have (0, 0) as their nearest: distances 1 and 2.
    matches = local.ratio_matches(np.array([[2, 0], [1, 0]]), np.array([[0, 0], [100, 0]]))
    assert (matches.first.tolist(), matches.second.tolist()) == ([1], [0])


@pytest.mark.parametrize(
    ("linear", "plausible"),
    [
        ([[1, 0], [0, 1]], True),
        ([[0, -2], [2, 0]], True),  # a quarter turn, twice the size
        ([[-1, 0], [0, 1]], False),  # a mirror
        ([[4, 0], [0, 4]], False),  # four times the size
        ([[0.3, 0], [0, 0.3]], False),  # less than a third
        ([[1.5, 0], [0, 0.5]], False),  # stretched by three
        ([[1, 0], [0, 0.5]], True),  # a flank that turns away
        ([[1, 0], [1, 0]], False),  # all on a line
    ],
)
def test_which_maps_one_animal_can_have(linear, plausible):
    assert is_plausible(np.hstack([linear, [[7], [9]]])) is plausible


def test_an_unknown_extractor_is_named(tmp_path):
    with pytest.raises(ValueError, match="extractor out of rootsift, got 'orb'"):
        features_of(coat(0), tmp_path, "x", settings=local.Settings(extractor="orb"))


def test_a_photograph_without_texture_matches_nothing(herd, tmp_path):
    blank = features_of(np.full((50, 60), 128, dtype=np.uint8), tmp_path, "blank")
    assert blank.points.shape == (0, 2) and blank.descriptors.shape == (0, 128)
    assert len(local.verified_matches(blank, herd[0])) == len(local.verified_matches(herd[0], blank)) == 0


def test_keypoints_lie_inside_the_box_and_the_mask(tmp_path):
    box = (0.25, 0.2, 0.75, 0.9)
    places = features_of(coat(0), tmp_path, "boxed", box=box).places
    assert len(places) > 20
    assert (places.min(axis=0) >= box[:2]).all() and (places.max(axis=0) <= box[2:]).all()
    mask = np.zeros((15, 20))
    mask[:, :10] = 1
    points = features_of(coat(0), tmp_path, "masked", mask=mask).points
    assert len(points) > 20 and points[:, 0].max() <= 0.51
    with pytest.raises(ValueError, match="box as left, top, right, bottom in shares"):
        features_of(coat(0), tmp_path, "wrong", box=(0, 0, 100, 80))


def test_a_box_gives_the_places_in_the_whole_photograph(herd, tmp_path):
    matches = local.verified_matches(herd[0], features_of(coat(0), tmp_path, "zz", box=(0.2, 0.2, 0.9, 0.9)))
    other = features_of(coat(0), tmp_path, "zz", box=(0.2, 0.2, 0.9, 0.9))
    assert len(matches) > 50
    assert np.abs(herd[0].places[matches.first] - other.places[matches.second]).max() < 0.03


def test_points_are_as_fine_in_a_small_box_of_a_large_photograph(tmp_path):
    """Float16 shares of the photograph would be 3 pixels apart near its right edge."""
    large = np.full((1000, 6000), 128, dtype=np.uint8)
    large[700:850, 5700:5900] = coat(0)
    features = features_of(large, tmp_path, "large", box=(5700 / 6000, 0.7, 5900 / 6000, 0.85))
    alone = features_of(coat(0), tmp_path, "alone")
    assert features.size == alone.size == SIZE and np.array_equal(features.points, alone.points)
    assert np.abs(features.places * (6000, 1000) - (5700, 700) - alone.places * SIZE).max() < 0.2


def test_without_a_digest_the_order_of_two_photographs_does_not_matter(herd, tmp_path):
    for name, picture in (("a", coat(0)), ("b", turned(coat(0)))):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    a, b = (local.extract(tmp_path / f"{name}.png") for name in "ab")
    there, back = local.verified_matches(a, b), local.verified_matches(b, a)
    assert len(there) > 25 and np.array_equal(there.first, back.second)
    mask = np.ones((15, 20))
    others = [local.extract(tmp_path / "a.png", **how) for how in ({"box": (0, 0, 0.5, 1)}, {"mask": mask})]
    assert len({a.digest, b.digest, *(one.digest for one in others)}) == 4


def test_keypoints_are_stored_once_by_content_and_settings(tmp_path, monkeypatch, caplog):
    path, folder = tmp_path / "a.png", tmp_path / "cache"
    Image.fromarray(coat(0)).save(path)
    (tmp_path / "copy.png").write_bytes(path.read_bytes())
    first, copy = store.local_features([os.fspath(path), os.fspath(tmp_path / "copy.png")], folder=folder)
    assert first.digest == copy.digest and len(list(folder.rglob("*.npz"))) == 1
    with monkeypatch.context() as patch:
        patch.setattr(store, "extract", None)
        again = store.local_features([os.fspath(path)], folder=folder)[0]
    assert np.array_equal(again.points, first.points) and np.array_equal(again.descriptors, first.descriptors)
    assert again.size == first.size == SIZE

    fewer = store.local_features([os.fspath(path)], local.Settings(keypoints=20), folder=folder)[0]
    assert len(fewer.points) == 20
    Image.fromarray(coat(1)).save(path)
    assert store.local_features([os.fspath(path)], folder=folder)[0].digest != first.digest

    file = next(folder.rglob(f"{first.digest}.npz"))
    file.write_bytes(b"PK damaged")
    with caplog.at_level(logging.WARNING):
        repaired = store.local_features([os.fspath(tmp_path / "copy.png")], folder=folder)[0]
    assert np.array_equal(repaired.descriptors, first.descriptors) and "is damaged" in caplog.text


def test_a_known_content_is_not_read_and_a_missing_photograph_has_no_keypoints(tmp_path):
    path, missing, folder = os.fspath(tmp_path / "a.png"), os.fspath(tmp_path / "missing.png"), tmp_path / "cache"
    Image.fromarray(coat(0)).save(path)
    problems: dict[int, str] = {}
    first, nothing = store.local_features([path, missing], folder=folder, contents=["a", "b"], problems=problems)
    assert len(first.points) > 20 and len(nothing.points) == 0
    assert list(problems) == [1]
    os.remove(path)
    again = store.local_features([path], folder=folder, contents=["a"])[0]
    assert again.digest == first.digest and np.array_equal(again.descriptors, first.descriptors)
    with pytest.raises(UserError, match=r"cannot read the photograph .*missing.png"):
        store.local_features([missing], folder=folder, contents=["b"])


def test_points_of_a_missing_photograph_name_it(tmp_path):
    Image.fromarray(coat(0)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"cannot read the photograph .*missing.png: there is no such file"):
        local.points(tmp_path / "missing.png", tmp_path / "a.png", folder=tmp_path / "cache")
    problems: dict[int, str] = {}
    paths = [os.fspath(tmp_path / name) for name in ("missing.png", "a.png", "lost.png")]
    store.local_features(paths, folder=tmp_path / "cache", problems=problems)
    assert problems == {0: "there is no such file", 2: "there is no such file"}


def test_points_are_shares_of_both_photographs(tmp_path):
    Image.fromarray(coat(0)).save(tmp_path / "a.png")
    Image.fromarray(turned(coat(0))).save(tmp_path / "b.png")
    a, b = local.points(tmp_path / "a.png", tmp_path / "b.png", folder=tmp_path / "cache")
    assert a.shape == b.shape and len(a) > 25
    expected = (a * SIZE) @ TURN[:, :2].T + TURN[:, 2]
    assert np.abs(expected / SIZE - b).max() < 0.03, "2% of 200 pixels, of 150"


def test_votes_on_paper():
    """Photograph 0 asks; K is 4. Distances of its first descriptor's neighbours, itself first: 0, 1, 2, 5, 9, 9.5, 9.9.

    Those of other photographs are 1 (photograph 1), 2 (2), 5 (1), 9 (3), and the fifth is the background: 9.5. Votes:
    9.5 - 1 + 9.5 - 5 = 13 for photograph 1, 7.5 for 2, 0.5 for 3. The second descriptor has two others, 4 and 6: the
    last one is the background, 6 - 4 = 2 for photograph 3.
    """
    distance = np.array([[0, 1, 2, 5, 9, 9.5, 9.9], [0, 0, 0, 0, 0, 4, 6]])
    photograph = np.array([[0, 1, 2, 1, 3, 5, 6], [0, 0, 0, 0, 0, 3, 4]])
    photographs, scores = candidates._scores(distance, photograph, 0)
    assert dict(zip(photographs.tolist(), scores.tolist(), strict=True)) == {1: 13.0, 2: 7.5, 3: 2.5}


@pytest.mark.parametrize("flat", [candidates.FLAT, 0], ids=["all descriptors", "cells"])
def test_descriptors_propose_the_other_photograph_of_an_animal(herd, monkeypatch, flat):
    monkeypatch.setattr(candidates, "FLAT", flat)
    found = local.descriptor_candidates(herd, 3)
    assert found.shape == (6, 3)
    assert found[:, 0].tolist() == [1, 0, 3, 2, 5, 4]
    order = np.array([3, 5, 0, 2, 4, 1])
    other = local.descriptor_candidates([herd[n] for n in order], 3)
    assert np.array_equal(np.where(other < 0, -1, order[other]), found[order]), "the order of the files does not matter"


def test_few_photographs_have_few_candidates(herd, tmp_path):
    assert local.descriptor_candidates(herd[:1], 2).tolist() == [[-1, -1]]
    blank = features_of(np.full((50, 60), 128, dtype=np.uint8), tmp_path, "blank")
    assert local.descriptor_candidates([blank, blank], 1).tolist() == [[-1], [-1]]


def test_without_faiss_the_cure_is_said(herd, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match=r"Expected faiss for the search of shared spots .*pip install faiss-cpu"):
        local.descriptor_candidates(herd, 2)


def test_pairs_are_counted_once():
    lists = np.array([[0, 1, 2], [1, 0, -1], [2, -1, -1]])
    assert unordered_pairs(lists).tolist() == [[0, 1], [0, 2]]


class Counted(local.LocalPairs):
    """Pairs with inliers of a table in the place of photographs."""

    def __init__(self, table: list[list[int]]):
        super().__init__([local.LocalFeatures(np.empty((0, 2)), np.empty((0, 128)), (1, 1), "")] * len(table))
        self.table, self.asked = table, []

    def _verify(self, key: int) -> int:
        self.asked.append(divmod(key, len(self)))
        return self.table[self.asked[-1][0]][self.asked[-1][1]]


def test_the_fused_rule_on_paper():
    """Row 0 has cosine 0.8 with row 1 and 0 with row 2, and 19 inliers with row 2: 0.3 log(20) = 0.899, so 2 is nearer.

    Squared distances: 2 - 2 * 0.899 = 0.203 and 2 - 2 * 0.8 = 0.4. Rows 1 and 2 have cosine 0.6.
    """
    features = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    pairs = Counted([[0, 0, 19], [0, 0, 0], [0, 0, 0]])
    everyone = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1]])
    squared, index = pairs.rank(features, everyone, 0.3, 3)
    assert index.tolist() == [[0, 2, 1], [1, 0, 2], [2, 0, 1]]
    np.testing.assert_allclose(squared, [[0, 0.203, 0.4], [0, 0.4, 0.8], [0, 0.203, 0.8]], atol=1e-3)
    assert pairs.rank(features, everyone, 0.3, 2)[1].tolist() == [[0, 2], [1, 0], [2, 0]]
    pairs.fuse(features, everyone[::-1], 0.1)
    assert sorted(pairs.asked) == [(0, 1), (0, 2), (1, 2)], "each pair is verified once"


def test_a_ranking_does_not_depend_on_the_order_of_files(herd):
    features = torch.nn.functional.normalize(torch.randn(6, 512, generator=torch.Generator().manual_seed(0)))
    everyone = np.tile(np.arange(6), (6, 1))
    squared, index = local.LocalPairs(herd).rank(features, everyone, 0.2, 4)
    assert index[:, 1].tolist() == [1, 0, 3, 2, 5, 4], "the animal's other photograph is the nearest"
    order = np.array([3, 5, 0, 2, 4, 1])
    moved = local.LocalPairs([herd[n] for n in order]).rank(features[order], everyone, 0.2, 4)
    assert np.array_equal(order[moved[1]], index[order]) and np.array_equal(moved[0], squared[order])


def test_what_repeats_within_a_station_is_left_out(tmp_path):
    """Three photographs of three animals under one bar of text: the bar goes, each animal stays."""
    found = [features_of(under_text(coat(animal)), tmp_path, f"text{animal}") for animal in range(3)]

    def in_bar(features):
        return (features.points[:, 1] < 0.15).sum()

    kept = local.without_background(found, ["04"] * 3, [None] * 3)
    for before, after in zip(found, kept, strict=True):
        assert in_bar(after) < 0.2 * in_bar(before), "those left see the animal below the bar, too"
        animal = before.points[:, 1] > 0.3
        assert (after.points[:, 1] > 0.3).sum() >= 0.95 * animal.sum()
    burst = local.without_background(found, ["04"] * 3, ["burst"] * 3)
    unknown = local.without_background(found, [None] * 3, [None] * 3)
    elsewhere = local.without_background(found, ["1", "2", "3"], [None] * 3)
    assert all(len(f.points) == len(found[n % 3].points) for n, f in enumerate([*burst, *unknown, *elsewhere]))


def test_one_place_is_a_share_of_the_photograph_in_any_box():
    """Of 1000 x 500 pixels, 1% is 10 pixels: keypoints 8 pixels apart are at one place, those 12 apart are not.

    Both boxes are 100 pixels wide, so that 8 pixels are 0.08 of them; the second one begins 50 pixels further right.
    """
    descriptors = np.array([[255, 255, 255, 255, 63]], np.uint8)  # about 512 long

    def at(pixel: float, left: float) -> local.LocalFeatures:
        points = np.array([[(pixel - left) / 100, 0.5]], np.float16)
        return local.LocalFeatures(points, descriptors, (100, 100), "", (left / 1000, 0, left / 1000 + 0.1, 0.2))

    assert is_in(at(460, 400), at(468, 450)).tolist() == [True]
    assert is_in(at(460, 400), at(472, 450)).tolist() == [False]


@pytest.mark.parametrize("left_out", [[], [0], [3, 4, 5], [0, 1, 39], list(range(40)), list(range(1, 40))])
def test_photographs_are_compared_with_an_even_choice_of_the_others(left_out):
    others = [n for n in range(40) if n not in left_out]
    count = min(16, len(others))
    assert spread(40, left_out) == [others[n * len(others) // count] for n in range(count)]


def test_known_pairs():
    assert burst_mates(["b", None, "a", "b", "b", None]).tolist() == [[0, 3], [3, 4]]
    at = [datetime(2024, 5, 1, 12, 0, second) for second in (0, 30, 59)] + [None, datetime(2024, 5, 1, 13)]
    assert simultaneous_pairs(["x", "y", "x", "y", "y"], at).tolist() == [[0, 1], [1, 2]]


def test_photographs_of_one_moment_are_not_all_paired_and_midnights_say_nothing():
    noon, number = datetime(2024, 5, 1, 12), 200
    stations = [str(n % 20) for n in range(number)]
    pairs = simultaneous_pairs(stations, [noon] * number)
    assert np.bincount(pairs[:, 1]).max() == OTHERS
    assert all(stations[a] != stations[b] for a, b in pairs)
    assert len(simultaneous_pairs(stations, [noon.replace(hour=0)] * number)) == 0, "a table that lost the time of day"


def test_a_calibration_needs_known_pairs_and_never_falls(caplog):
    def of(pairs):
        return pairs[:, 1]

    few = np.zeros((3, 2), dtype=np.int64)
    with caplog.at_level(logging.INFO):
        assert calibration(of, few, few) is None
    assert "fixed rule" in caplog.text
    positives = np.stack([np.zeros(100), np.arange(100)], axis=1).astype(np.int64)
    negatives = np.stack([np.zeros(100), np.arange(100) % 8], axis=1).astype(np.int64)
    curve = calibration(of, positives, negatives)
    assert isinstance(curve, Calibration)
    evidence = curve(np.arange(200))
    assert (np.diff(evidence) >= 0).all()
    assert evidence[0] == 0, "pairs that were not verified are no worse"
    assert evidence[10] == pytest.approx(np.log(21)), "no negative pair has as many"
