"""The drawn data sets: what they hold, that they are the same everywhere, and that they come whole or not at all."""

import csv
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastreid_fancl.data import synthetic
from fastreid_fancl.data.synthetic import write
from fastreid_fancl.data.synthetic.camera import Camera
from fastreid_fancl.data.synthetic.catalogue import RECIPES, Recipe
from fastreid_fancl.data.synthetic.coat import Coat, Marking
from fastreid_fancl.data.synthetic.draw import Canvas, ellipsoid, tube
from fastreid_fancl.data.synthetic.photograph import take_photograph

TINY = "SyntheticTiny"
WHITE = np.ones(3, np.float32)
PLAIN = Coat(WHITE, WHITE, fur=0.0, ragged=0.0)


def files(folder: str | Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def rows(folder: str | Path) -> list[dict[str, str]]:
    with open(Path(folder, "metadata.csv"), newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    return synthetic.build(TINY, str(tmp_path_factory.mktemp("drawn")), workers=1)


def test_the_same_files_come_from_any_number_of_processes(tiny, tmp_path):
    assert files(synthetic.build(TINY, str(tmp_path), workers=3)) == files(tiny)


def test_a_photograph_depends_on_its_own_number_alone(tiny):
    plan = RECIPES[TINY]
    last = plan.photographs()[-1]
    data, _ = take_photograph(plan.animal(last.animal), last.place, plan.camera, plan.size, last.rng())
    assert data == Path(tiny, last.path).read_bytes()


def test_another_seed_draws_other_animals_and_moments():
    def first(plan: Recipe) -> bytes:
        shot = plan.photographs()[0]
        return take_photograph(plan.animal(shot.animal), shot.place, plan.camera, plan.size, shot.rng())[0]

    plan = RECIPES[TINY]
    assert first(plan) == first(plan)
    assert first(plan) != first(replace(plan, seed=plan.seed + 1))


def test_the_metadata_name_every_photograph_and_all_have_the_size(tiny):
    listed = [row["path"] for row in rows(tiny)]
    assert sorted(listed) == sorted(str(p.relative_to(tiny)) for p in Path(tiny).rglob("*.jpg"))
    assert {cv2.imread(str(Path(tiny, path))).shape for path in listed} == {(32, 64, 3)}
    assert {row["orientation"] for row in rows(tiny)} == {"left", "right"}


def test_synthetic_pandas_have_the_numbers_of_table_1():
    shots = RECIPES["SyntheticPandas"].photographs()
    images = Counter(shot.split for shot in shots)
    animals = {split: {shot.identity for shot in shots if shot.split == split} for split in images}
    assert images == {"train": 1967, "query": 138, "gallery": 1382}
    assert {split: len(found) for split, found in animals.items()} == {"train": 20, "query": 23, "gallery": 23}
    assert set(Counter(shot.identity for shot in shots if shot.split == "query").values()) == {6}
    assert RECIPES["SyntheticPandas"].size == (256, 128)


def test_ten_training_pandas_live_indoors_and_outdoors_and_all_others_indoors():
    places = {}
    for shot in RECIPES["SyntheticPandas"].photographs():
        places.setdefault(shot.identity, set()).add((shot.split, shot.place))
    both = [name for name, seen in places.items() if seen == {("train", "indoor"), ("train", "outdoor")}]
    assert len(both) == 10
    assert {place for name, seen in places.items() if name not in both for _, place in seen} == {"indoor"}


@pytest.mark.parametrize("name", synthetic.NAMES)
def test_nobody_is_in_training_and_in_test_and_every_query_has_a_match(name):
    splits = {"train": set(), "query": set(), "gallery": set()}
    for shot in RECIPES[name].photographs():
        splits[shot.split].add(shot.identity)
    assert not splits["train"] & (splits["query"] | splits["gallery"])
    assert splits["query"] == splits["gallery"]


def test_source_and_target_share_no_animal_and_no_place():
    source, target = (RECIPES[name].photographs() for name in ("SyntheticSourceSmall", "SyntheticPandasSmall"))
    for trait in ("identity", "place"):
        assert not {getattr(s, trait) for s in source} & {getattr(t, trait) for t in target}


def test_small_and_tiny_have_fewer_pixels_than_the_full_set():
    sizes = [RECIPES[name].size for name in ("SyntheticPandas", "SyntheticPandasSmall", TINY)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3


def test_a_drawn_set_is_reused(tiny):
    before = {path: path.stat().st_mtime_ns for path in Path(tiny).rglob("*")}
    assert synthetic.build(TINY, str(Path(tiny).parent)) == tiny
    assert {path: path.stat().st_mtime_ns for path in Path(tiny).rglob("*")} == before


def test_a_set_of_another_version_is_drawn_anew(tmp_path):
    folder = Path(synthetic.build(TINY, str(tmp_path)))
    fresh = files(folder)
    stamp = json.loads((folder / write.STAMP).read_text())
    (folder / write.STAMP).write_text(json.dumps(stamp | {"version": stamp["version"] - 1}))
    (folder / "images" / "left_over.jpg").write_bytes(b"old")
    synthetic.build(TINY, str(tmp_path))
    assert files(folder) == fresh
    assert [p.name for p in tmp_path.iterdir()] == [TINY]


def test_an_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    shots = []

    def interrupted(shot, folder):
        shots.append(shot)
        if len(shots) == 5:
            raise KeyboardInterrupt
        return "left"

    monkeypatch.setattr(write, "_take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        synthetic.build(TINY, str(tmp_path), workers=1)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_but_not_what_another_is_drawing(tmp_path):
    left, drawing = tmp_path / f".{TINY}.1.tmp", tmp_path / f".{TINY}.2.tmp"
    for folder in (left, drawing):
        (folder / "images").mkdir(parents=True)
    os.utime(left, (0, 0))
    synthetic.build(TINY, str(tmp_path))
    assert {p.name for p in tmp_path.iterdir()} == {TINY, drawing.name}


def test_a_slower_process_keeps_what_a_faster_one_has_drawn(tmp_path, monkeypatch):
    drawing = write.draw

    def overtaken(plan, folder, workers):
        monkeypatch.setattr(write, "draw", drawing)
        synthetic.build(TINY, str(tmp_path))
        (tmp_path / TINY / "mark").write_text("faster")
        drawing(plan, folder, workers)

    monkeypatch.setattr(write, "draw", overtaken)
    folder = Path(synthetic.build(TINY, str(tmp_path)))
    assert (folder / "mark").read_text() == "faster"
    assert [p.name for p in tmp_path.iterdir()] == [TINY]


def test_a_folder_of_the_user_is_not_replaced(tmp_path):
    (tmp_path / TINY).mkdir()
    (tmp_path / TINY / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(ValueError, match="was not drawn by this package.*move it away"):
        synthetic.build(TINY, str(tmp_path))
    assert (tmp_path / TINY / "mine.jpg").read_bytes() == b"mine"


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="SyntheticPandas, SyntheticPandasSmall"):
        synthetic.build("SyntheticCats", str(tmp_path))


def test_an_animal_looks_more_like_itself_than_like_others():
    """Without nuisance (one pose, view, place, camera), pixels must tell animals apart: identity is in the picture."""
    still = Camera(*[0.0] * 7, quality=(95, 95))
    plan = replace(RECIPES["SyntheticPandasSmall"], camera=still)

    def picture(animal: int) -> np.ndarray:
        data, _ = take_photograph(plan.animal(animal), "indoor", still, plan.size, np.random.default_rng(0))
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).astype(float)

    pictures = [picture(animal) for animal in range(6)]
    assert all(np.abs(a - b).mean() > 2 for n, a in enumerate(pictures) for b in pictures[:n])


def canvas() -> Canvas:
    return Canvas(np.zeros((40, 60, 3), np.float32), light=np.float32([0, 0, 1]), ambient=0.0)


def test_a_ball_covers_its_disc_and_is_brightest_towards_the_light():
    picture = canvas()
    ellipsoid(picture, np.array([30.0, 20, 0]), np.eye(3), np.full(3, 12.0), PLAIN)
    shown = picture.image[..., 0]
    assert np.unravel_index(shown.argmax(), shown.shape) == (20, 30)
    assert abs((picture.depth > -np.inf).sum() - np.pi * 12**2) < 40
    # A ball lit from the viewer: brightness at half the radius is the cosine sqrt(1 - 1/4).
    assert shown[20, 36] == pytest.approx(np.sqrt(0.75), abs=0.01)


def test_a_tube_covers_two_half_discs_and_the_rectangle_between():
    picture = canvas()
    ends = np.array([[15.0, 20, 0], [45, 20, 0]])
    up, side = np.tile([0.0, -1, 0], (2, 1)), np.tile([0.0, 0, 1], (2, 1))
    tube(picture, ends, np.array([6.0, 6]), up, side, PLAIN)
    assert abs((picture.depth > -np.inf).sum() - (30 * 12 + np.pi * 36)) < 40
    assert picture.image[20, 30, 0] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("nearer_first", [False, True])
def test_the_nearer_body_hides_the_farther_in_whichever_order_they_are_drawn(nearer_first):
    picture = canvas()
    red = Coat(np.float32([1, 0, 0]), np.float32([1, 0, 0]), fur=0.0, ragged=0.0)
    bodies = [(np.array([30.0, 20, 20]), red), (np.array([30.0, 20, -20]), PLAIN)]
    for centre, coat in bodies if nearer_first else bodies[::-1]:
        ellipsoid(picture, centre, np.eye(3), np.full(3, 8.0), coat)
    assert picture.image[20, 30].tolist() == pytest.approx([1, 0, 0], abs=0.01)


def test_a_body_outside_the_picture_changes_nothing():
    picture = canvas()
    ellipsoid(picture, np.array([300.0, 20, 0]), np.eye(3), np.full(3, 8.0), PLAIN)
    assert not picture.image.any()


def test_a_mirrored_marking_lies_on_both_flanks_and_another_on_one():
    centre, reach = np.float32([[0.5, 0.8, 0]]), np.float32([[0.2, 0.2, 0.2]])
    flanks = np.float32([[0.5, 0.8, 0], [0.5, -0.8, 0], [0.5, 0, 1]])
    assert Marking(WHITE, centre, reach, mirrored=True).cover(flanks).tolist() == [1, 1, 0]
    assert Marking(WHITE, centre, reach).cover(flanks).tolist() == [1, 0, 0]
