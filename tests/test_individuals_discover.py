"""Discoveries on tiny photographs, with colours as features: what a lab does, command by command."""

import csv
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastreid_fancl.individuals import project as projects
from fastreid_fancl.individuals.command import command_line
from fastreid_fancl.individuals.project import open_project
from fastreid_fancl.individuals.rows import Decision, write_table


class Colours:
    """An encoder of mean colours on a 2 x 2 grid, far from their common mean."""

    name, fingerprint = "colours", "c010"

    def encode(self, images):
        grids = np.stack([np.asarray(image.resize((2, 2), Image.Resampling.BOX), np.float32) for image in images])
        features = grids.reshape(len(images), -1) - 128
        return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def colours(monkeypatch):
    monkeypatch.setattr(projects, "encoder_named", lambda name: Colours())


def photograph(path: Path, animal: int, number: int, moment: str = "") -> Path:
    """Draw animal `animal`: four colours of its own, with a little noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(animal).integers(0, 2, size=(2, 2, 3)) * 200 + 28
    noise = np.random.default_rng([animal, number]).normal(0, 18, (2, 2, 3))
    cells = (colours + noise).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(np.repeat(np.repeat(cells, 8, axis=0), 8, axis=1))
    exif = image.getexif()
    if moment:
        exif[0x8769] = {0x9003: moment}
    image.save(path, exif=exif)
    return path


def season(folder: Path, animals: dict[int, range], stations: int = 2) -> Path:
    """Photographs below station folders whose running numbers cross: each animal's turn from station to station."""
    counts = [0] * stations
    for animal, numbers in animals.items():
        for number in numbers:
            station = (animal + number) % stations
            counts[station] += 1
            moment = f"2024:06:{1 + number:02d} {animal % 24:02d}:{number % 60:02d}:00"
            photograph(folder / f"st{station}" / f"IMG_{counts[station]:04d}.png", animal, number, moment)
    return folder


def table(project: Path, name: str = "photographs.csv") -> list[dict[str, str]]:
    with open(project / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def discover(project: Path, *arguments) -> list[dict[str, str]]:
    command_line(["discover", os.fspath(project), "--no-page", "--k1", "6", *map(os.fspath, arguments)])
    return table(project)


def decide(project: Path, *decisions: tuple, start: int = 0) -> list[dict[str, str]]:
    """Give decisions (kind, a, b, value) by the command line, as the page saves them."""
    rows = [Decision(f"2025-01-01T00:{start + n:02d}:00Z", "tester", *one) for n, one in enumerate(decisions)]
    write_table(project.parent / "decisions.csv", rows, Decision)
    return discover(project, "--decisions", project.parent / "decisions.csv")


def animal_of(row: dict[str, str]) -> str:
    """The truth: the animal whose drawing has the photograph's content."""
    return TRUTH[row["hash"]]


TRUTH: dict[str, str] = {}


def remember(folder: Path, animals: dict[int, range], scratch: Path) -> None:
    """Note which content shows which animal."""
    for path in folder.rglob("*.png"):
        TRUTH[hashlib.sha256(path.read_bytes()).hexdigest()] = ""
    for animal, numbers in animals.items():
        for number in numbers:
            moment = f"2024:06:{1 + number:02d} {animal % 24:02d}:{number % 60:02d}:00"
            one = photograph(scratch / "one.png", animal, number, moment)
            TRUTH[hashlib.sha256(one.read_bytes()).hexdigest()] = str(animal)


FIRST = {animal: range(6) for animal in range(6)} | {6: range(1)}


@pytest.fixture(scope="module")
def first_season(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "lions_2024"
    remember(season(folder, FIRST), FIRST, tmp_path_factory.mktemp("scratch"))
    return folder


@pytest.fixture
def lions(first_season, tmp_path) -> Path:
    discover(tmp_path / "lions", "--photos", first_season)
    return tmp_path / "lions"


def test_each_animal_has_an_id_and_a_single_sighting_too(lions):
    rows = table(lions)
    pairs = {(row["individual"], animal_of(row)) for row in rows}
    assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs}) == 7
    assert {one for one, _ in pairs} == {f"LION-{n:03d}" for n in range(1, 8)}
    assert [row["status"] for row in rows].count("single") == 1
    assert next(row for row in rows if row["status"] == "single")["second"], "candidates, however low"
    animals = table(lions, "individuals.csv")
    assert sorted(int(one["photographs"]) for one in animals) == [1, 6, 6, 6, 6, 6, 6]


def test_stations_are_found_by_running_numbers_and_never_taken_for_animals(lions):
    assert {row["station"] for row in table(lions)} == {"st0", "st1"}
    text = (lions / "summary.txt").read_text()
    assert "2 stations: folders of level 1 (found" in text
    assert "Whole frames are compared" in text
    assert "Dates from 2024-06-01 to 2024-06-06, by exif (37)." in text


def test_the_table_does_not_depend_on_the_names_and_the_order_of_files(lions, first_season, tmp_path):
    shuffled, paths = tmp_path / "shuffled", sorted(first_season.rglob("*.png"))
    for n, path in enumerate(np.random.default_rng(0).permutation(paths)):
        (shuffled / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, shuffled / path.parent.name / f"{n:04d}_{path.name}")
    again = discover(tmp_path / "again" / "lions", "--photos", shuffled, "--stations", "1")
    wanted = ("key", "individual", "status", "score", "second", "second_score", "sequence")
    assert sorted([row[name] for name in wanted] for row in again) == sorted(
        [row[name] for name in wanted] for row in table(lions)
    )


def test_unreadable_photographs_and_copies_are_named_and_stop_nothing(first_season, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(first_season, photos)
    (photos / "st0" / "broken.jpg").write_bytes(b"\xff\xd8 broken")
    (photos / "st0" / "empty.png").touch()
    shutil.copy(photos / "st0" / "IMG_0001.png", photos / "st1" / "copy.png")
    rows = discover(tmp_path / "lions", "--photos", photos)
    assert {row["path"] for row in rows if row["status"] == "unreadable"} == {"st0/broken.jpg", "st0/empty.png"}
    text = (tmp_path / "lions" / "summary.txt").read_text()
    assert "st0/broken.jpg is left out:" in text
    assert "st1/copy.png: the same photograph as st0/IMG_0001.png" in text
    assert len({row["individual"] for row in rows} - {""}) == 7


def test_a_next_season_keeps_every_id_and_adds_animals(lions, tmp_path):
    before = {row["key"]: row["individual"] for row in table(lions)}
    second = {animal: range(10, 14) for animal in range(3)} | {9: range(10, 14)}
    photos = season(tmp_path / "lions_2025", second)
    remember(photos, second, tmp_path / "scratch")
    rows = discover(lions, "--photos", photos)
    assert {row["key"]: row["individual"] for row in rows if row["season"] == "lions_2024"} == before
    known = {animal_of(row): row["individual"] for row in rows if row["season"] == "lions_2024"}
    new = [row for row in rows if row["season"] == "lions_2025"]
    assert len(new) == 16
    for row in new:
        if animal_of(row) in known:
            assert row["individual"] == known[animal_of(row)]
        else:
            assert row["individual"] == "LION-008"
    log = table(lions, "changes.csv")
    assert any(one["item"] == "LION-008" and one["kind"] == "new" and one["reason"] for one in log)


def test_the_same_season_again_changes_nothing(lions, first_season):
    before = table(lions)
    assert discover(lions, "--photos", first_season) == before
    assert "0 new, 0 at another place" in (lions / "summary.txt").read_text()


def test_photographs_that_moved_keep_their_animals(lions, first_season, tmp_path):
    before = {row["key"]: row["individual"] for row in table(lions)}
    shutil.copytree(first_season, tmp_path / "moved" / "lions_2024")
    rows = discover(lions, "--photos", tmp_path / "moved" / "lions_2024")
    assert {row["key"]: row["individual"] for row in rows} == before
    assert {row["root"] for row in rows} == {os.fspath(tmp_path / "moved" / "lions_2024")}


def test_two_discoveries_at_once_are_refused(lions):
    code = "from fastreid_fancl.individuals.project import open_project\n"
    code += f"open_project({os.fspath(lions)!r}).writing().__enter__()"
    with open_project(lions).writing():
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Another command is changing" in ended.stderr


def test_a_known_animal_is_matched_and_a_stranger_is_new(lions, tmp_path, capsys):
    project = open_project(lions)
    known = photograph(tmp_path / "a.png", 2, 77)
    best = project.match(known, top=3)
    assert len({one["individual"] for one in best}) == 3
    home = next(row["individual"] for row in table(lions) if animal_of(row) == "2")
    assert best[0]["individual"] == home and best[0]["verdict"] == "proposed"
    assert [one["score"] for one in best] == sorted((one["score"] for one in best), reverse=True)
    command_line(["match", os.fspath(lions), os.fspath(known), "--top", "2"])
    assert f"  {best[0]['score']:.3f}  {home}  st" in capsys.readouterr().out


def test_wrong_input_ends_in_a_message(tmp_path, lions):
    with pytest.raises(SystemExit, match="error: There is no project in .*nowhere yet: give photographs by --photos"):
        command_line(["discover", os.fspath(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match="error: There is no project"):
        command_line(["match", os.fspath(tmp_path / "nowhere"), "a.jpg"])
    with pytest.raises(SystemExit, match="error: cannot read the photograph"):
        command_line(["match", os.fspath(lions), os.fspath(tmp_path / "none.jpg")])
    with pytest.raises(SystemExit, match="error: Expected --stations to be a level of folders, 0 to 1, got 3"):
        command_line(["discover", os.fspath(lions), "--photos", os.fspath(TEST_FOLDER(lions)), "--stations", "3"])
    (lions / "photographs.csv").write_text("key,hash\n")
    with pytest.raises(SystemExit, match="error: .*photographs.csv is damaged: expected the columns key, hash, path"):
        command_line(["match", os.fspath(lions), "a.jpg"])


def TEST_FOLDER(project: Path) -> str:  # noqa: N802
    return open_project(project).photographs[0].root
