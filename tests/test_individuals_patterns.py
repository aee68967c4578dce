"""Discoveries by local matches on drawn coats, with an encoder that sees nothing of them."""

import csv
import dataclasses
import hashlib
import itertools
import json
import logging
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import adjusted_rand_score
from support.coats import SIZE, coat, under_text

from fastreid_fancl.errors import UserError
from fastreid_fancl.individuals import certainty, verify
from fastreid_fancl.individuals import project as projects
from fastreid_fancl.individuals.command import command_line
from fastreid_fancl.individuals.decisions import add_decisions
from fastreid_fancl.individuals.opening import new_project, open_project
from fastreid_fancl.individuals.patterns import COUNTS, NEAREST, Patterns, keypoints, keypoints_of_file
from fastreid_fancl.individuals.queue import review_queue
from fastreid_fancl.individuals.rows import Decision, Photograph
from fastreid_fancl.individuals.verify import known_pairs, weight_of, with_points
from fastreid_fancl.local import calibrate, store

ANIMALS, VIEWS = 5, 4


class Chance:
    """An encoder whose features are chance, drawn by the photograph."""

    name, fingerprint = "chance", "c4a9ce"

    def encode(self, images):
        seeds = [int(hashlib.sha256(image.tobytes()).hexdigest()[:8], 16) for image in images]
        features = np.stack([np.random.default_rng(seed).normal(size=64) for seed in seeds]).astype(np.float32)
        return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def chance(monkeypatch):
    monkeypatch.setattr(projects, "encoder_named", lambda name: Chance())


def draw(path: Path, animal: int, view: float) -> str:
    """Draw an animal, turned by 7 degrees per view; returns the hash of the file."""
    turn = cv2.getRotationMatrix2D((100, 75), 7 * view, 0.97**view)
    picture = cv2.warpAffine(coat(animal), turn, SIZE, borderMode=cv2.BORDER_CONSTANT, borderValue=128)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def discover(project: Path, *arguments) -> dict[str, dict[str, str]]:
    """The rows of photographs.csv by the hash of the file."""
    grouping = ["--k1", "4"] if arguments else []
    command_line(["discover", os.fspath(project), "--no-page", *grouping, *map(os.fspath, arguments)])
    with open(project / "photographs.csv", encoding="utf-8", newline="") as file:
        return {row["hash"]: row for row in csv.DictReader(file)}


def rand_index(rows: dict[str, dict[str, str]], truth: dict[str, int]) -> float:
    return adjusted_rand_score([truth[name] for name in rows], [row["individual"] for row in rows.values()])


@pytest.fixture(scope="module")
def herd(tmp_path_factory) -> tuple[Path, dict[str, int]]:
    """Photographs, and their animals by hash."""
    folder = tmp_path_factory.mktemp("photos") / "herd"
    numbers = [(animal, view) for animal in range(ANIMALS) for view in range(VIEWS)]
    return folder, {draw(folder / f"{animal}{view}.png", animal, view): animal for animal, view in numbers}


@pytest.fixture(scope="module")
def discovered(herd, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "lynx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projects, "encoder_named", lambda name: Chance())
        discover(folder, "--photos", herd[0])
    return folder


@pytest.fixture
def lynx(discovered, tmp_path) -> Path:
    return Path(shutil.copytree(discovered, tmp_path / "lynx"))


def test_spots_find_the_animals_that_the_encoder_misses(lynx, herd, tmp_path):
    folder, truth = herd
    with open(lynx / "photographs.csv", encoding="utf-8", newline="") as file:
        rows = {row["hash"]: row for row in csv.DictReader(file)}
    assert rand_index(rows, truth) == 1
    assert "local" not in open_project(lynx).settings, "nobody chose it, so it ends with 10,000 photographs"
    assert "Local matches (spots, stripes): weight 0.2, " in (lynx / "summary.txt").read_text()

    without = discover(tmp_path / "without", "--photos", folder, "--local", "0")
    assert rand_index(without, truth) < 0.5
    assert not (tmp_path / "without" / "patterns.npz").exists()
    assert "Local matches (spots, stripes): left out" in (tmp_path / "without" / "summary.txt").read_text()


def test_a_weight_of_0_is_the_path_without_faiss(herd, tmp_path, monkeypatch):
    folder, _ = herd
    projects_without = [tmp_path / name / "lynx" for name in ("zero", "no_faiss")]
    discover(projects_without[0], "--photos", folder, "--local", "0")
    monkeypatch.setattr(verify, "has_faiss", lambda: False)
    discover(projects_without[1], "--photos", folder)
    assert "local" not in open_project(projects_without[1]).settings
    zero, no_faiss = ((one / "photographs.csv").read_bytes() for one in projects_without)
    assert zero == no_faiss and b"LYNX-001" in zero


def test_a_project_that_grows_beyond_the_limit_leaves_out_what_nobody_chose(lynx, herd, monkeypatch, caplog):
    monkeypatch.setattr(verify, "MOST", 5)
    discover(lynx, "--photos", herd[0])
    assert open_project(lynx).patterns is None
    assert "they need much memory for more than 5 photographs, and there are 20. Give --local 0.2" in caplog.text


def test_the_weight_is_kept_and_can_be_changed(lynx, herd):
    folder, _ = herd
    discover(lynx, "--local", "0")
    assert open_project(lynx).patterns is None
    discover(lynx, "--photos", folder)
    assert open_project(lynx).settings["local"] == 0, "a project that was set to 0 stays at 0"
    discover(lynx, "--local", "0.1")
    project = open_project(lynx)
    assert project.patterns.weight == project.settings["local"] == 0.1


def test_the_table_does_not_depend_on_the_names_and_the_order_of_files(lynx, herd, tmp_path):
    folder, truth = herd
    others = tmp_path / "others"
    others.mkdir()
    for n, path in enumerate(sorted(folder.iterdir(), key=lambda path: path.name[::-1])):
        shutil.copy(path, others / f"{n}.png")
    moved = discover(tmp_path / "again" / "lynx", "--photos", others)
    with open(lynx / "photographs.csv", encoding="utf-8", newline="") as file:
        first = {row["hash"]: row for row in csv.DictReader(file)}
    assert {name: (row["individual"], row["score"]) for name, row in moved.items()} == {
        name: (row["individual"], row["score"]) for name, row in first.items()
    }


def test_a_season_keeps_all_ids_and_compares_only_what_is_new(lynx, tmp_path, monkeypatch):
    before = {row.hash: row.individual for row in open_project(lynx).photographs}
    animal = {row.path[0]: row.individual for row in open_project(lynx).photographs}
    season, extracted = tmp_path / "season", []
    known = {draw(season / f"{n}.png", n, VIEWS): animal[str(n)] for n in range(2)}
    stranger = draw(season / "stranger.png", 99, 0)
    extract = store.extract
    monkeypatch.setattr(
        store, "extract", lambda path, *rest, **more: extracted.append(path) or extract(path, *rest, **more)
    )
    after = discover(lynx, "--photos", season)
    assert sorted(os.path.basename(path) for path in extracted) == ["0.png", "1.png", "stranger.png"]
    assert {name: after[name]["individual"] for name in before} == before
    assert {name: after[name]["individual"] for name in known} == known
    assert after[stranger]["individual"] not in animal.values()


def test_a_match_says_how_many_points_agree(lynx, tmp_path, capsys):
    project = open_project(lynx)
    animal = next(row.individual for row in project.photographs if row.path == "20.png")
    draw(tmp_path / "new.png", 2, 1.5)
    draw(tmp_path / "stranger.png", 98, 0)
    best = project.match(tmp_path / "new.png")[0]
    assert best["individual"] == animal and best["verdict"] == "proposed" and best["matched_points"] > 20
    assert {one["matched_points"] for one in project.match(tmp_path / "stranger.png")} == {0}
    command_line(["match", os.fspath(lynx), os.fspath(tmp_path / "new.png")])
    assert f"({best['matched_points']} matched points)" in capsys.readouterr().out


def test_a_match_is_compared_with_more_photographs_than_a_grouping_compares(lynx, tmp_path):
    """The encoder sees nothing, so the photographs that it finds nearest would miss animals."""
    for n in range(10):
        draw(tmp_path / "more" / f"{n}.png", 30 + n, 0)
    discover(lynx, "--photos", tmp_path / "more")
    draw(tmp_path / "new.png", 2, 1.5)
    project = open_project(lynx)
    found = project.match(tmp_path / "new.png", top=50)
    assert len(project.photographs) == 30 > NEAREST and all(one["matched_points"] is not None for one in found)
    assert found[0]["individual"] == next(row.individual for row in project.photographs if row.path == "20.png")


def test_an_interrupted_change_of_the_weight_leaves_no_levels_of_other_scores(lynx, herd, tmp_path, monkeypatch):
    draw(tmp_path / "more" / "stranger.png", 97, 0)
    change = ("--local", "0.5", "--photos", tmp_path / "more")
    discover(lynx, "--local", "0", "--photos", herd[0])
    again = Path(shutil.copytree(lynx, tmp_path / "again" / "lynx"))
    with monkeypatch.context() as patch:
        patch.setattr(certainty, "group", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            discover(again, *change)
    assert discover(again, *change) == discover(lynx, *change)
    assert open_project(again).settings == open_project(lynx).settings


def test_decisions_calibrate_what_matches_are_worth(lynx, herd, monkeypatch, caplog):
    monkeypatch.setattr(calibrate, "FEWEST", 20)
    project = open_project(lynx)
    animal = {row.key: herd[1][row.hash] for row in project.photographs}
    kinds = {
        pair: "same" if animal[pair[0]] == animal[pair[1]] else "different"
        for pair in itertools.combinations(animal, 2)
    }
    times = (f"2025-01-01T00:00:00.{n:06d}Z" for n in itertools.count())
    add_decisions(project, [Decision(next(times), "", kind, *pair) for pair, kind in kinds.items()])
    project.write()
    with caplog.at_level(logging.INFO):
        discover(lynx, "--regroup")
    assert "calibrated by 30 pairs that show one animal and 160 that show two" in caplog.text
    project = open_project(lynx)
    assert project.patterns.evidence[0] == 0 and project.patterns.evidence[-1] == pytest.approx(np.log(21))
    assert rand_index(discover(lynx), herd[1]) == 1


def test_a_match_has_the_keypoints_of_the_project(lynx, herd):
    row = open_project(lynx).photographs[0]
    stored, asked = keypoints(lynx, [row])[0], keypoints_of_file(os.fspath(herd[0] / row.path))
    assert stored.digest == asked.digest and np.array_equal(stored.points, asked.points)


def test_what_repeats_at_a_station_is_left_out(tmp_path, caplog):
    rows = ["path,station,sequence"]
    for animal in range(4):
        path = tmp_path / "photos" / f"{animal}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(under_text(coat(animal))).save(path)
        rows.append(f"{path.name},04,{animal}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    with caplog.at_level(logging.INFO):
        discover(tmp_path / "lynx", "--photos", tmp_path / "photos", "--table", tmp_path / "table.csv")
    assert "of the spots repeat at one place of their station and are left out" in caplog.text
    project = open_project(tmp_path / "lynx")
    for row, kept in zip(project.photographs, project.patterns.kept, strict=True):
        found = keypoints(project.folder, [row])[0]
        in_text = found.points[:, 1] < 0.15
        assert kept[: len(in_text)][in_text].mean() < 0.3 and kept[: len(in_text)][~in_text].mean() > 0.9


def test_boxes_of_one_photograph_are_no_evidence_of_one_animal(herd, tmp_path):
    """Two boxes that overlap share their spots. They are two animals, and neither is a candidate for the other."""
    photos = tmp_path / "photos"
    shutil.copytree(herd[0], photos)
    boxes = [{"category": "1", "conf": 0.9, "bbox": box} for box in ([0, 0, 0.9, 1], [0.1, 0, 0.9, 1])]
    images = [
        {"file": path.name, "detections": boxes if path.name == "00.png" else [boxes[0]]} for path in photos.iterdir()
    ]
    detector = {"images": images, "detection_categories": {"1": "animal"}, "info": {}}
    (tmp_path / "boxes.json").write_text(json.dumps(detector))
    discover(tmp_path / "lynx", "--photos", photos, "--boxes", tmp_path / "boxes.json")
    project = open_project(tmp_path / "lynx")
    a, b = sorted((row for row in project.photographs if row.path == "00.png"), key=lambda row: row.key)
    assert project.patterns.matched(a.key, b.key) is None and a.individual != b.individual
    known, features = project.known_features.of([a, b])
    found = project.gallery.candidates(features, [a.occasion, b.occasion], known, top=50)
    assert not {one.key for listed in found for one in listed} & {a.key, b.key}


def test_draws_see_half_of_the_matches():
    """Every pair is in some draw and missing in another, so that a group that one match makes is in doubt."""
    known = patterns([[0, 1], [0, 2], [1, 2]], [19, 7, 11])
    seen = np.array([known.draw(0.5, seed).inliers for seed in range(40)])
    assert {tuple(np.unique(column).tolist()) for column in seen.T} == {(0, 19), (0, 7), (0, 11)}
    assert known.inliers.tolist() == [19, 7, 11] and np.array_equal(known.draw(0.5, 3).inliers, seen[3])


def test_pairs_of_the_page_carry_points_of_both_crops(lynx):
    project = open_project(lynx)
    queue = review_queue(project)
    a, b = (
        next(n for n, one in enumerate(queue["photographs"]) if one["path"] == path) for path in ("00.png", "01.png")
    )
    queue["pairs"] = [{"a": a, "b": b, "score": 1.0, "settles": 1.0}]
    pair = with_points(project, queue)["pairs"][0]
    points = np.array(pair["points"])
    assert pair["matched_points"] >= len(points) > 20 and points.shape[1] == 4
    turn = cv2.getRotationMatrix2D((100, 75), 7, 0.97)
    expected = (points[:, :2] * SIZE) @ turn[:, :2].T + turn[:, 2]
    assert np.abs(expected / SIZE - points[:, 2:]).max() < 0.05


def test_a_weight_is_chosen_by_the_photographs_and_by_what_is_installed(tmp_path, monkeypatch):
    project = new_project(tmp_path, "chance")
    assert (weight_of(project, 10_000), weight_of(project, 10_001)) == (0.2, 0)
    project.settings["local"] = 0.1
    assert weight_of(project, 10_001) == 0.1
    monkeypatch.setattr(verify, "has_faiss", lambda: False)
    with pytest.raises(UserError, match=r"Expected faiss for local matches \(weight 0.1\).*--local 0"):
        weight_of(project, 10)
    del project.settings["local"]
    assert weight_of(project, 10) == 0


def test_a_wrong_weight_ends_in_a_message(tmp_path, herd):
    with pytest.raises(SystemExit, match="Expected --local to be 0 or a weight such as 0.2, got -1"):
        discover(tmp_path / "lynx", "--photos", herd[0], "--local", "-1")


def photo(key: int, **columns) -> Photograph:
    return Photograph(f"{key:016x}", f"{key:064x}", f"{key}.jpg", **columns)


def test_known_pairs_come_from_bursts_stations_and_decisions():
    noon = "2024-06-03T12:00:00"
    rows = [
        photo(0, sequence="s", station="x", date_time=noon),
        photo(1, sequence="s", station="x"),
        photo(2, station="y", date_time="2024-06-03T12:00:30"),
        photo(3),
    ]
    decisions = [
        Decision("1", "me", "same", rows[2].key, rows[3].key),
        Decision("2", "me", "different", rows[1].key, rows[3].key),
        Decision("3", "me", "same", rows[1].key, "gone"),
    ]
    positives, negatives = known_pairs(rows, decisions)
    assert positives.tolist() == [[0, 1], [2, 3]] and negatives.tolist() == [[0, 2], [1, 3]]


def patterns(pairs: list, inliers: list) -> Patterns:
    evidence = np.log1p(np.arange(COUNTS)).astype(np.float32)
    return Patterns(
        list("abc"), list("ABC"), np.array(pairs), np.array(inliers), evidence, 0.3, np.ones((3, COUNTS), bool)
    )


def test_matches_add_to_cosines_on_paper():
    """Photograph a has cosine 0.8 with b and 0 with c, and 19 inliers with c: 0.3 log(20) = 0.899.

    Squared distances are 2 - 2 x 0.899 = 0.203 and 2 - 2 x 0.8 = 0.4.
    """
    known = patterns([[0, 2]], [19])
    features = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], np.float32)
    squared, index = known.neighbors(["a", "b", "c"], features, 3)
    assert index.tolist() == [[0, 2, 1], [1, 0, 2], [2, 0, 1]]
    np.testing.assert_allclose(squared[0], [0, 0.203, 0.4], atol=1e-3)
    squared, index = known.neighbors(["c", "b", "a"], features[::-1].copy(), 3)
    assert index.tolist() == [[0, 2, 1], [1, 2, 0], [2, 0, 1]], "whatever their order"
    np.testing.assert_allclose(known.between(["c"], ["new", "a"]).toarray(), [[0, 0.899]], atol=1e-3)


def test_patterns_are_read_as_they_were_written_and_damage_is_named(tmp_path):
    known = patterns([[0, 2], [1, 2]], [19, 600])
    known.kept[1, 5:] = False
    known.write(tmp_path)
    again = Patterns.read(tmp_path)
    assert (again.keys, again.digests, again.weight) == (known.keys, known.digests, known.weight)
    for name in ("pairs", "inliers", "evidence", "kept"):
        assert np.array_equal(getattr(again, name), getattr(known, name)), name
    (tmp_path / "patterns.npz").write_bytes(b"PK damaged")
    with pytest.raises(ValueError, match=r"patterns.npz.*Remove it: `fancl discover` computes it again"):
        Patterns.read(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"pairs": np.array([[0, 3]])},  # of three photographs, 0 to 2
        {"inliers": np.array([19, 20])},  # of one pair
        {"evidence": np.full(COUNTS, np.nan, np.float32)},
        {"keys": list("abcd")},
    ],
)
def test_patterns_that_do_not_fit_are_damage(tmp_path, changed):
    dataclasses.replace(patterns([[0, 2]], [19]), **changed).write(tmp_path)
    with pytest.raises(ValueError, match=r"patterns.npz.*expected pairs of its photographs"):
        Patterns.read(tmp_path)


@pytest.mark.parametrize("weight", ["0.2", None, True])
def test_a_damaged_weight_of_the_project_is_named(lynx, weight):
    path = lynx / "project.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"local": weight}))
    with pytest.raises(ValueError, match=r"project.json is damaged.*local"):
        open_project(lynx)
