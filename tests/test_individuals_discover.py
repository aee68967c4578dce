"""Discoveries on tiny photographs, with colours as features: what a lab does, command by command."""

import csv
import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reviewer
from PIL import Image
from support.pages import block
from support.projects import table

import fastreid_fancl
from fastreid_fancl.data.datasets.metadata import read_metadata
from fastreid_fancl.individuals import project as projects
from fastreid_fancl.individuals import train as training
from fastreid_fancl.individuals.additions import take_in
from fastreid_fancl.individuals.command import command_line
from fastreid_fancl.individuals.decisions import add_decisions
from fastreid_fancl.individuals.discover import Certainty, Report, rescore
from fastreid_fancl.individuals.intake import Intake
from fastreid_fancl.individuals.notes import NO_ANIMAL, NOT_OURS, SEEN
from fastreid_fancl.individuals.opening import new_project, open_project
from fastreid_fancl.individuals.queue import review_queue
from fastreid_fancl.individuals.rows import Decision, Photograph
from fastreid_fancl.individuals.sources import boxed
from fastreid_fancl.individuals.storage import read_table, table_text
from fastreid_fancl.individuals.summary import describe_photographs, summary
from fastreid_fancl.methods import LinkedFANCL


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


def discover(project: Path, *arguments) -> list[dict[str, str]]:
    grouping = ["--k1", "6"] if {"--photos", "--regroup", "--local", "--run", "--train"}.intersection(arguments) else []
    command_line(["discover", os.fspath(project), "--no-page", *grouping, *map(os.fspath, arguments)])
    return table(project)


def decide(project: Path, *decisions: tuple, start: int = 0) -> list[dict[str, str]]:
    """Give decisions (kind, a, b, value) by the command line, as the page saves them."""
    times = (f"2025-01-01T{n // 60:02d}:{n % 60:02d}:00Z" for n in range(start, start + len(decisions)))
    rows = [Decision(when, "tester", *one) for when, one in zip(times, decisions, strict=True)]
    (project.parent / "decisions.csv").write_text(table_text(rows, Decision), encoding="utf-8")
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


@pytest.fixture(scope="module")
def discovered(first_season, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "lions"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projects, "encoder_named", lambda name: Colours())
        discover(folder, "--photos", first_season)
    return folder


@pytest.fixture
def lions(discovered, tmp_path) -> Path:
    return Path(shutil.copytree(discovered, tmp_path / "lions"))


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
    again = discover(tmp_path / "again" / "lions", "--photos", shuffled, "--stations", "1", "--season", "lions_2024")
    wanted = ("key", "individual", "status", "score", "second", "second_score", "sequence")
    assert sorted([row[name] for name in wanted] for row in again) == sorted(
        [row[name] for name in wanted] for row in table(lions)
    )


def test_pictures_of_a_project_are_no_photographs(tmp_path, monkeypatch):
    """The project may lie in the folder of photographs: `fancl discover lions --photos .`."""
    photos = season(tmp_path / "photos", {0: range(3), 1: range(3)})
    monkeypatch.chdir(photos)
    before = discover(Path("lions"), "--photos", ".")
    photograph(Path("lions/thumbnails/a.png"), 3, 0)
    assert discover(Path("lions"), "--photos", ".") == before
    assert "The folder lions is a project and is left out." in Path("lions/summary.txt").read_text()
    with pytest.raises(SystemExit, match="got lions: it is a project of `fancl discover`"):
        discover(Path("lions"), "--photos", "lions")


def test_crops_of_a_training_before_the_project_was_written_are_no_photographs(tmp_path):
    photos = season(tmp_path / "photos", {0: range(3), 1: range(3)})
    photograph(photos / "lions/training/photographs/a.png", 0, 7)
    rows = discover(photos / "lions", "--photos", photos)
    assert len(rows) == 6 and not any(row["path"].startswith("lions") for row in rows)
    with pytest.raises(SystemExit, match="got .*photos: it is a project of .*, which needs a folder of its own"):
        discover(photos, "--photos", photos)


def test_a_confidence_in_percent_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        discover(tmp_path / "lions", "--photos", tmp_path, "--confidence", "90")
    assert "Expected --confidence to be from 0 to 1, got 90." in capsys.readouterr().err


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
    left_out = {row["path"]: row["reason"] for row in table(tmp_path / "lions", "left_out.csv")}
    assert set(left_out) == {"st0/broken.jpg", "st0/empty.png", "st1/copy.png"}
    assert f"st0/broken.jpg is left out: {left_out['st0/broken.jpg']}" in text
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
    with open_project(lions).writing():
        child = os.fork()  # a lock is a process's
        if not child:
            try:
                with open_project(lions).writing():
                    os._exit(1)
            except ValueError as error:
                os._exit(0 if "Another command is changing" in str(error) else 2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_known_animal_is_matched_and_a_stranger_is_new(lions, tmp_path, capsys):
    project = open_project(lions)
    known = photograph(tmp_path / "a.png", 2, 77)
    best = project.match(known, top=3)
    assert len({one["individual"] for one in best}) == 3
    home = next(row["individual"] for row in table(lions) if animal_of(row) == "2")
    assert best[0]["individual"] == home and best[0]["verdict"] == "proposed"
    assert [one["score"] for one in best] == sorted((one["score"] for one in best), reverse=True)
    opened = fastreid_fancl.open(lions)
    assert opened.match(known, top=3) == best and opened.features(known).shape == (12,)
    assert [one.individual for one in opened.individuals()] == [f"LION-{n:03d}" for n in range(1, 8)]
    command_line(["match", os.fspath(lions), os.fspath(known), "--top", "2"])
    assert f"  {best[0]['score']:.3f}  {home}  st" in capsys.readouterr().out


def test_a_photograph_that_the_project_has_is_named_as_known(lions, capsys):
    row = next(row for row in table(lions) if animal_of(row) == "2")
    path = os.path.join(row["root"], row["path"])
    verdicts = {one["individual"]: one["verdict"] for one in open_project(lions).match(path)}
    assert verdicts.pop(row["individual"]) == "known" and "known" not in verdicts.values()
    command_line(["match", os.fspath(lions), path])
    assert f"known, the project has this photograph as one of {row['individual']}\n" in capsys.readouterr().out


def test_a_match_names_all_animals_of_a_photograph_that_the_project_has_and_says_if_it_is_open(lions, capsys):
    row, other = (next(row for row in table(lions) if animal_of(row) == animal) for animal in "23")
    path = os.path.join(row["root"], row["path"])
    rows = read_table(lions / "photographs.csv", Photograph)
    halves = [
        replace(one, key=one.key + end, box=box, individual=name)
        for one in rows
        if one.key == row["key"]
        for end, box, name in zip(("", "-2"), HALVES, (row["individual"], other["individual"]), strict=True)
    ]
    others = [one for one in rows if one.key != row["key"]]
    (lions / "photographs.csv").write_text(table_text([*halves, *others], Photograph), encoding="utf-8")
    found = {one["individual"]: one["verdict"] for one in open_project(lions).match(path, top=1)}
    assert found[row["individual"]] == found[other["individual"]] == "known"
    for status, said in (
        ("unsure", "; its animal is still open (unsure)"),
        ("not_animal", ", marked as not an animal"),
    ):
        halves = [replace(half, status=status, individual="") for half in halves]
        (lions / "photographs.csv").write_text(table_text([*halves, *others], Photograph), encoding="utf-8")
        command_line(["match", os.fspath(lions), path, "--top", "1"])
        assert f"{path}: the project has this photograph{said}\n" in capsys.readouterr().out


def test_the_example_of_the_docs_opens_a_project(lions, monkeypatch):
    monkeypatch.chdir(lions.parent)
    photograph(lions.parent / "new.jpg", 2, 77)
    names: dict[str, object] = {}
    exec(block("individuals.md", "python"), names)
    assert len(names["project"].individuals()) == 7


def test_features_of_other_weights_are_not_compared(lions, tmp_path, monkeypatch):
    """A run that is the encoder was trained further."""
    new = photograph(tmp_path / "a.png", 2, 77)
    project = open_project(lions, Colours())
    project.encoder.fingerprint = "c011"
    with pytest.raises(ValueError, match=r"have changed .*: `fancl discover .*lions --encoder tf_eff\w*` encodes"):
        project.match(new)
    monkeypatch.setattr(projects, "encoder_named", lambda name: project.encoder)
    discover(lions, "--encoder", project.settings["encoder"])
    assert open_project(lions).match(new)[0]["verdict"] == "proposed"


def individual_of(rows: list[dict[str, str]]) -> dict[str, str]:
    return {row["key"]: row["individual"] for row in rows}


def keys_of(rows: list[dict[str, str]], animal: int) -> list[str]:
    return sorted(row["key"] for row in rows if animal_of(row) == str(animal))


def test_one_same_changes_only_those_two_animals_and_undo_brings_them_back(lions):
    before = table(lions)
    homes, (a, b) = individual_of(before), (keys_of(before, 0)[0], keys_of(before, 1)[0])
    kept, gone = sorted((homes[a], homes[b]))
    after = individual_of(decide(lions, ("same", a, b)))
    assert after == {key: kept if home == gone else home for key, home in homes.items()}
    assert next(one for one in table(lions, "individuals.csv") if one["individual"] == gone)["merged_into"] == kept
    assert individual_of(decide(lions, ("undo", "2025-01-01T00:00:00Z"), start=1)) == homes
    assert [one["status"] for one in table(lions, "individuals.csv") if one["individual"] == gone] == ["proposed"]


def standing(rows: list[dict[str, str]]) -> dict[str, tuple[str, str]]:
    """The animal and the status of each photograph."""
    return {row["key"]: (row["individual"], row["status"]) for row in rows}


SINGLE = {0: range(2), 1: range(1), 2: range(2)}


def test_an_undo_brings_back_animals_that_became_or_ceased_to_be_singles(tmp_path):
    """Their status changes without a decision: LION-002 of two photographs, split, is two singles."""
    project = tmp_path / "lions"
    photos = season(tmp_path / "lions_2024", SINGLE)
    remember(photos, SINGLE, tmp_path / "scratch")
    rows = discover(project, "--photos", photos)
    homes, before = individual_of(rows), standing(rows)
    (one,), (a, b) = keys_of(rows, 1), keys_of(rows, 2)
    assert before[one][1] == "single" and homes[a] == homes[b]
    merged = decide(project, ("merge", homes[one], homes[a]), ("undo", "2025-01-01T00:00:00Z"))
    assert standing(merged) == before
    assert standing(decide(project, ("different", a, b), start=2))[a][1] == "single"
    undone = decide(project, ("undo", "2025-01-01T00:02:00Z"), ("undo", "2025-01-01T00:02:00Z"), start=3)
    assert standing(undone) == before
    assert "not followed" not in (project / "summary.txt").read_text()


def test_an_undo_can_be_undone_and_each_of_its_changes_is_on_record(lions):
    rows = table(lions)
    homes, (a, b) = individual_of(rows), (keys_of(rows, 0)[0], keys_of(rows, 1)[0])
    merged = standing(decide(lions, ("merge", homes[a], homes[b])))
    assert standing(decide(lions, ("undo", "2025-01-01T00:00:00Z"), start=1)) == standing(rows)
    last = [one for one in table(lions, "changes.csv") if one["item"] == homes[a]][-1]
    assert (last["kind"], last["before"], last["after"]) == ("merged", homes[b], homes[a])
    assert standing(decide(lions, ("undo", "2025-01-01T00:01:00Z"), start=2)) == merged
    animals = {one["individual"]: one["merged_into"] for one in table(lions, "individuals.csv")}
    assert (animals[homes[a]], animals[homes[b]]) == (homes[b], "")


def test_undone_merges_are_not_brought_back_in_a_circle(lions):
    rows = table(lions)
    a, b = (individual_of(rows)[keys_of(rows, animal)[0]] for animal in (0, 1))
    decide(lions, ("merge", a, b), ("undo", "2025-01-01T00:00:00Z"), ("merge", b, a))
    decide(lions, ("undo", "2025-01-01T00:01:00Z"), start=3)
    animals = {one["individual"]: one["merged_into"] for one in table(lions, "individuals.csv")}
    assert (animals[a], animals[b]) == ("", a)


def test_what_was_changed_again_since_stays_at_an_undo_and_is_named(lions):
    rows = table(lions)
    homes, key, other = individual_of(rows), keys_of(rows, 0)[0], keys_of(rows, 0)[1]
    ids = [homes[keys_of(rows, animal)[0]] for animal in (1, 2)]
    decisions = ("is", key, ids[0]), ("is", other, ids[0]), ("is", key, ids[1]), ("undo", "2025-01-01T00:00:00Z")
    assert individual_of(decide(lions, *decisions)) == {**homes, key: ids[1], other: ids[0]}
    path = rows_by_key(lions)[key]["path"]
    said = (
        f'"undo" of 2025-01-01T00:03:00Z is not followed: what was changed again since then stays: 1, such as {path}.'
    )
    assert said in (lions / "summary.txt").read_text()


def test_decisions_given_twice_are_appended_once(lions, capsys):
    a, b = (keys_of(table(lions), animal)[0] for animal in (0, 1))
    once = decide(lions, ("same", a, b), ("name", "LION-001", "", "Simba"))
    assert decide(lions, ("same", a, b), ("name", "LION-001", "", "Simba")) == once
    assert len(table(lions, "decisions.csv")) == 2
    assert "\n0 new decisions: the project has all of this file.\n" in capsys.readouterr().out
    assert table(lions, "individuals.csv")[0]["name"] == "Simba"


def test_different_splits_what_a_wrong_same_merged_by_what_is_alike(lions):
    before = individual_of(table(lions))
    rows = table(lions)
    zero, one = keys_of(rows, 0), keys_of(rows, 1)
    merged = decide(lions, ("merge", before[one[0]], before[zero[0]]))
    assert len({individual_of(merged)[key] for key in zero + one}) == 1
    after = individual_of(decide(lions, ("different", zero[0], one[0]), start=1))
    assert len({after[key] for key in zero}) == len({after[key] for key in one}) == 1
    assert {after[zero[0]], after[one[0]]} == {before[zero[0]], "LION-008"}, "an ID is never used again"


def test_confirmed_photographs_that_a_difference_moves_by_likeness_are_proposals_again(lions):
    before = individual_of(table(lions))
    zero, one = keys_of(table(lions), 0), keys_of(table(lions), 1)
    decide(lions, ("merge", before[one[0]], before[zero[0]]), ("confirm", before[zero[0]]), ("same", one[0], one[1]))
    rows = {row["key"]: row for row in decide(lions, ("different", zero[0], one[0]), start=3)}
    assert {rows[key]["status"] for key in [*zero, *one[:2]]} == {"confirmed"}, "said by a person, or left where it was"
    assert {(rows[key]["individual"], rows[key]["status"]) for key in one[2:]} == {("LION-008", "proposed")}


def test_a_project_is_restored_from_its_photographs_and_decisions(lions, first_season, caplog):
    a, b = (keys_of(table(lions), animal)[0] for animal in (0, 1))
    before = individual_of(table(lions))
    decide(lions, ("name", before[a], "", "Simba"), ("merge", before[b], before[a]))
    wanted = {name: table(lions, name) for name in ("photographs.csv", "individuals.csv", "decisions.csv")}
    for name in ("project.json", "individuals.csv", "certainty.npz"):
        (lions / name).unlink()
    shutil.rmtree(lions / "features")
    discover(lions, "--photos", first_season)
    assert {name: table(lions, name) for name in wanted} == wanted
    assert "project.json is missing" in caplog.text
    assert "lacks" not in caplog.text, "changes.csv names all animals"
    (lions / "changes.csv").unlink()
    rows = decide(lions, ("undo", "2025-01-01T00:01:00Z"), start=9)
    assert "lacks changes.csv. Nothing else says what an undo takes back: put back copies" in caplog.text
    assert individual_of(rows)[b] == before[a]
    assert "changes.csv is missing, so that nothing says what it changed" in (lions / "summary.txt").read_text()


def test_a_project_without_its_record_of_merges_warns_that_ids_may_be_given_again(lions, caplog):
    a, b = (keys_of(table(lions), animal)[0] for animal in (0, 1))
    decide(lions, ("same", a, b))
    for name in ("individuals.csv", "changes.csv"):
        (lions / name).unlink()
    discover(lions)
    assert "lacks individuals.csv and changes.csv. Nothing else says which animals were merged, so" in caplog.text
    caplog.clear()
    discover(lions)
    assert "lacks" not in caplog.text


def test_regroup_groups_again_what_nobody_confirmed(lions):
    """Half of one animal and all of a third were proposed for a second; a person confirms one photograph of it."""
    rows, before = table(lions), individual_of(table(lions))
    zero, one, two = (keys_of(rows, animal) for animal in (0, 1, 2))
    moved = {**dict.fromkeys(zero[3:], before[one[0]]), **dict.fromkeys(two, before[one[0]])}
    rows = [{**row, "individual": moved.get(row["key"], row["individual"])} for row in rows]
    with open(lions / "photographs.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    decide(lions, ("is", zero[5], before[one[0]]))
    after = individual_of(discover(lions, "--regroup"))
    assert {after[key] for key in zero} == {before[one[0]]}, "a person said so"
    assert len({after[key] for key in one}) == len({after[key] for key in two}) == 1
    assert len({after[zero[0]], after[one[0]], after[two[0]]}) == 3


def test_regroup_says_what_it_changed_and_which_named_animals_ended(lions, capsys):
    """One photograph of an animal was proposed for the single, and the single for this animal."""
    before = individual_of(table(lions))
    zero, (single,) = keys_of(table(lions), 0), keys_of(table(lions), 6)
    rows = decide(lions, ("name", before[single], "", "Simba"), ("name", before[zero[0]], "", "Nala"))
    moved = {zero[0]: before[single], single: before[zero[0]]}
    rows = [{**row, "individual": moved.get(row["key"], row["individual"])} for row in rows]
    with open(lions / "photographs.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert individual_of(discover(lions, "--regroup"))[zero[0]] == before[zero[1]]
    for said in (capsys.readouterr().out, (lions / "summary.txt").read_text()):
        assert "\nGrouped afresh: 2 photographs moved, 1 animal ended, 1 new ID.\n" in said
        assert f"{before[single]} Simba has no photographs left" in said and "Nala" not in said
    discover(lions, "--regroup")
    assert "\nGrouped afresh: nothing changed.\n" in capsys.readouterr().out


def test_regroup_and_training_keep_what_a_person_merged(lions):
    """Nobody confirmed a photograph of the two. An undone merge, and photographs that left since, are not linked."""
    before = individual_of(table(lions))
    zero, one = (keys_of(table(lions), animal) for animal in (0, 1))
    decide(lions, ("merge", before[zero[0]], before[one[0]]))
    after = individual_of(discover(lions, "--regroup"))
    assert {after[key] for key in zero + one} == {before[one[0]]}
    decide(lions, ("different", zero[0], one[0]), start=1)
    parted = individual_of(discover(lions, "--regroup"))
    assert parted[zero[0]] != parted[one[0]]
    decide(lions, ("undo", "2025-01-01T00:01:00Z"), ("undo", "2025-01-01T00:00:00Z"), start=2)
    parted = individual_of(discover(lions, "--regroup"))
    assert len({parted[key] for key in zero}) == 1 and parted[zero[0]] != parted[one[0]]


def test_regroup_keeps_out_what_a_person_took_out_and_the_rest_keeps_its_id(lions):
    rows, before = table(lions), individual_of(table(lions))
    key, *rest = keys_of(rows, 0)
    taken_out = {row["key"]: row for row in decide(lions, ("is_not", key, before[key]))}
    assert taken_out[key]["status"] == "unsure"
    after = individual_of(discover(lions, "--regroup"))
    assert {after[one] for one in rest} == {before[key]} and after[key] != before[key]
    assert {one: after[one] for one in after if one != key} == {one: before[one] for one in before if one != key}


def test_contradictions_are_reported_by_file_names_and_not_followed(lions, capsys):
    rows = table(lions)
    a, b, c = keys_of(rows, 0)[0], keys_of(rows, 1)[0], keys_of(rows, 1)[1]
    paths = {row["key"]: row["path"] for row in rows}
    after = decide(lions, ("different", a, b), ("same", a, c))
    assert individual_of(after) == individual_of(rows)
    said = capsys.readouterr().out
    assert f"that {paths[a]} and {paths[b]} differ" in said


def test_the_console_stops_after_twenty_problems_and_the_summary_names_all(lions, capsys):
    decide(lions, *(("not_animal", f"{n:016x}") for n in range(21)), ("side", table(lions)[0]["key"], "", "left"))
    said, text = capsys.readouterr().out, (lions / "summary.txt").read_text()
    assert "Please check (21):" in said and "Please check (21):" in text
    assert "there is no photograph 0000000000000014" in text and "... and" not in text
    assert "0000000000000014" not in said and "  ... and 1 more\nAll of them are in summary.txt." in said


def test_a_photograph_is_moved_taken_out_made_new_or_no_animal(lions):
    rows = table(lions)
    homes, zero = individual_of(rows), keys_of(rows, 0)
    after = {
        row["key"]: row
        for row in decide(
            lions,
            ("is_not", zero[0], homes[zero[0]]),
            ("new", zero[1]),
            ("not_animal", zero[2]),
            ("is", zero[3], homes[keys_of(rows, 1)[0]]),
            ("side", zero[4], "", "left"),
            ("confirm", homes[keys_of(rows, 2)[0]]),
            ("same", "0123456789abcdef", zero[5]),
        )
    }
    assert after[zero[0]]["status"] == "unsure" and after[zero[0]]["individual"] != homes[zero[0]]
    assert (after[zero[1]]["individual"], after[zero[1]]["status"]) == ("LION-008", "confirmed")
    assert (after[zero[2]]["individual"], after[zero[2]]["status"]) == ("", "not_animal")
    assert (after[zero[3]]["individual"], after[zero[3]]["status"]) == (homes[keys_of(rows, 1)[0]], "confirmed")
    assert after[zero[4]]["side"] == "left"
    assert {after[key]["status"] for key in keys_of(rows, 2)} == {"confirmed"}
    assert (
        'The decision "same" of 2025-01-01T00:06:00Z is not followed: there is no photograph 0123456789abcdef; give'
        in (lions / "summary.txt").read_text()
    )


def rejected_of(project: Path, key: str) -> set[str]:
    """The animals that the page does not offer for an open photograph."""
    queue = review_queue(open_project(project))
    item = next(item for item in queue["open"] if queue["photographs"][item["photograph"]]["key"] == key)
    known = {one["id"] for one in queue["individuals"] if one["photographs"]}
    return known - {one["individual"] for one in item["candidates"]}


def test_what_a_photograph_is_not_holds_for_the_animal_that_this_one_is_merged_into(lions):
    """An undone merge parts the animals again, and the photograph is only not the first of them."""
    rows = table(lions)
    homes, key = individual_of(rows), keys_of(rows, 0)[0]
    x, y = homes[key], homes[keys_of(rows, 1)[0]]
    decide(lions, ("is_not", key, x))
    assert x in rejected_of(lions, key) and y not in rejected_of(lions, key)
    for again in (False, True):
        merged = decide(lions, ("merge", x, y), start=1)
        if again:
            merged = discover(lions, "--photos", photos_of(lions))
        row = next(row for row in merged if row["key"] == key)
        assert row["individual"] not in (x, y) and {y} == rejected_of(lions, key) - {row["individual"]}
    decide(lions, ("undo", "2025-01-01T00:01:00Z"), start=2)
    assert x in rejected_of(lions, key) and y not in rejected_of(lions, key)


def test_an_unsure_photograph_leaves_an_animal_that_takes_in_what_it_is_not(lions):
    rows = table(lions)
    homes, key = individual_of(rows), keys_of(rows, 0)[0]
    (moved,) = (row for row in decide(lions, ("is_not", key, homes[key])) if row["key"] == key)
    (left,) = (row for row in decide(lions, ("merge", homes[key], moved["individual"]), start=1) if row["key"] == key)
    assert (moved["status"], left["status"]) == ("unsure", "unsure")
    assert moved["individual"] and not left["individual"]
    assert decide(lions, ("undo", "2025-01-01T00:01:00Z"), start=2)[rows.index(rows_by_key_of(rows)[key])] == moved


def test_a_merge_against_what_a_photograph_is_not_is_reported_and_not_followed(lions):
    rows = table(lions)
    homes, (key, other) = individual_of(rows), keys_of(rows, 0)[:2]
    path = next(row["path"] for row in rows if row["key"] == key)
    after = decide(lions, ("is_not", key, homes[key]), ("new", key), ("merge", "LION-008", homes[key]))
    assert individual_of(after) == {**homes, key: "LION-008"}
    said = f"LION-008 and {homes[key]} stay apart, as you said on 2025-01-01T00:00:00Z that {path} is not {homes[key]}"
    assert said in (lions / "summary.txt").read_text()
    undone = decide(lions, ("undo", "2025-01-01T00:00:00Z"), ("same", key, other), start=3)
    assert len({individual_of(undone)[one] for one in (key, other)}) == 1


def test_a_later_is_overrules_an_is_not(lions):
    rows = table(lions)
    homes, key = individual_of(rows), keys_of(rows, 0)[0]
    after = decide(lions, ("is_not", key, homes[key]), ("is", key, homes[key]))
    assert individual_of(after) == homes
    discover(lions, "--photos", photos_of(lions))
    assert "not followed" not in (lions / "summary.txt").read_text()


def test_the_queue_asks_what_settles_most_and_nothing_twice(lions):
    rows = table(lions)
    before = individual_of(rows)
    decide(lions, ("different", keys_of(rows, 3)[0], keys_of(rows, 3)[5]))
    queue = review_queue(open_project(lions))
    assert queue["score_is"] == "score"
    shown = [queue["photographs"][n]["key"] for one in queue["individuals"] for n in one["photographs"]]
    assert sorted(shown) == sorted(before)
    first = queue["pairs"][0]
    halves = {animal_of(rows_by_key(lions)[queue["photographs"][first[end]]["key"]]) for end in "ab"}
    settles = [pair["settles"] for pair in queue["pairs"]]
    assert settles == sorted(settles, reverse=True) and halves != {"3"}, "the two parts of 3 were asked about"
    single = next(item for item in queue["open"] if queue["photographs"][item["photograph"]]["status"] == "single")
    animals = [one["individual"] for one in single["candidates"]]
    assert len(animals) == len(set(animals)) == 5


def test_animals_come_first_of_which_most_photographs_are_in_doubt(lions, monkeypatch):
    """2 photographs of certainty 0.7 are 0.6 in doubt, 1 of 0.5 is 0.5, and all others are certain; 0.6 - 0.3 = 0.3."""
    homes, rows = individual_of(table(lions)), table(lions)
    (a, b, *_), (c, *_) = keys_of(rows, 3), keys_of(rows, 1)
    doubtful = {a: 0.7, b: 0.7, c: 0.5}
    monkeypatch.setattr(Certainty, "of", lambda self, animals: {key: doubtful.get(key, 1.0) for key in animals})
    others = sorted(set(homes.values()) - {homes[a], homes[c]})

    def shown() -> list[str]:
        return [one["id"] for one in review_queue(open_project(lions))["individuals"]]

    assert shown() == [homes[a], homes[c], *others]
    decide(lions, ("is", b, homes[b]))
    assert shown() == [homes[c], homes[a], *others], "nobody doubts a photograph that a person confirmed"


def test_a_scripted_reviewer_asks_by_the_scores_that_a_discovery_would_have(lions):
    """By these true names all photographs show one animal, so animals are merged and all scores change."""
    project = open_project(lions)
    reviewer.review(project, {row["path"]: "Simba" for row in table(lions)}, "random", 10)
    scores = project.by_key, project.settings["levels"]
    rescore(project, Report())
    assert (project.by_key, project.settings["levels"]) == scores and len(project.decisions) == 10


def test_open_photographs_that_move_together_are_one_question_and_unsure_ones_come_last(lions):
    project = open_project(lions)
    home = project.photographs[0].individual
    burst = [row for row in project.photographs if row.individual == home][:3]
    keys = {row.key for row in burst}
    project.photographs = [
        replace(row, sequence="s", status="unsure") if row.key in keys else row for row in project.photographs
    ]

    def asked() -> list[str]:
        queue = review_queue(project)
        return [queue["photographs"][item["photograph"]]["key"] for item in queue["open"]]

    first, single = asked()
    assert first in keys and single not in keys
    project.decisions = [Decision("t0", "", "unsure", first, project.photographs[-1].key)]
    assert asked() == [single, first]
    project.decisions = [Decision("t0", "", "is", first, home, "alone")]
    assert len(asked()) == 3, "what was set apart is a question of its own"


def test_a_pair_that_was_answered_unsure_is_not_asked_again(lions):
    first = review_queue(open_project(lions))
    a, b = (first["photographs"][first["pairs"][0][end]]["key"] for end in "ab")
    decide(lions, ("unsure", a, b))
    queue = review_queue(open_project(lions))
    assert {a, b} not in [{queue["photographs"][pair[end]]["key"] for end in "ab"} for pair in queue["pairs"]]


def test_the_page_knows_animals_without_photographs_and_where_they_went(lions):
    rows = table(lions)
    a, b = (individual_of(rows)[keys_of(rows, animal)[0]] for animal in (0, 1))
    decide(lions, ("merge", a, b))
    known = {one["id"]: one for one in review_queue(open_project(lions))["individuals"]}
    assert len(known) == 7
    assert (known[a]["photographs"], known[a]["status"], known[a]["merged_into"]) == ([], "merged", b)


def test_what_decisions_changed_is_said_in_one_sentence(lions, capsys):
    rows = table(lions)
    homes = individual_of(rows)
    (a, *_), (b, c, *_), (d, *_) = (keys_of(rows, animal) for animal in (0, 1, 2))
    capsys.readouterr()
    decide(lions, ("merge", homes[a], homes[b]), ("new", d), ("side", c, "", "left"), ("name", homes[d], "", "Ash"))
    said = "7 photographs moved, 1 photograph confirmed, 1 animal merged, 1 new ID, 2 details (name, sex, side) set."
    assert f"4 new decisions: {said}\n" in capsys.readouterr().out
    decide(lions, ("different", a, b), ("merge", homes[d], homes[b]), ("undo", "2025-01-01T00:05:00Z"), start=4)
    assert "3 new decisions: 6 photographs moved, 1 animal split, 1 new ID.\n" in capsys.readouterr().out
    decide(lions, ("unsure", a, b), start=7)
    assert "1 new decision: nothing changed.\n" in capsys.readouterr().out


def test_every_score_of_the_page_is_a_probability_once_enough_is_decided(lions):
    """50 pairs that similarity tells apart: each photograph shows its animal for certain, whatever its similarity."""
    project, rows = open_project(lions), table(lions)
    pairs = [(a, b) for n, a in enumerate(rows) for b in rows[n + 1 :]]
    same = [animal_of(a) == animal_of(b) for a, b in pairs]
    project.decisions = [
        Decision(f"t{n}", "", "same" if one else "different", a["key"], b["key"])
        for n, (one, (a, b)) in enumerate(zip(same, pairs, strict=True))
    ]
    assert max(float(row["score"]) for row in rows if row["score"]) < 1
    queue = review_queue(project)
    assert queue["score_is"] == "probability"
    assert {one["score"] for one in queue["photographs"]} == {1.0, None}


def test_a_match_has_a_probability_once_enough_is_decided(lions, tmp_path, capsys):
    known = photograph(tmp_path / "a.png", 2, 77)
    assert {one["probability"] for one in open_project(lions).match(known)} == {None}
    rows = table(lions)
    pairs = [(a, b) for n, a in enumerate(rows) for b in rows[n + 1 :]]
    decide(lions, *(("same" if animal_of(a) == animal_of(b) else "different", a["key"], b["key"]) for a, b in pairs))
    assert [one["probability"] for one in open_project(lions).match(known, top=3)] == [1, 0, 0]
    command_line(["match", os.fspath(lions), os.fspath(known), "--top", "1"])
    assert "  100%  LION-" in capsys.readouterr().out


def test_a_certainty_is_that_of_the_animal_that_a_photograph_is_given_to_now(lions):
    """Draws put photographs of these animals together, so one that a person takes out is where they do not see it."""

    def certainties():
        return {one["key"]: one["certainty"] for one in review_queue(open_project(lions))["photographs"]}

    before, taken = certainties(), next(row for row in table(lions) if row["status"] == "proposed")
    decide(lions, ("new", taken["key"], ""))
    after = certainties()
    mates = {row["key"] for row in table(lions) if animal_of(row) == animal_of(taken)}
    assert all(after[key] < before[key] for key in mates)
    assert all(after[key] == before[key] for key in after.keys() - mates)


def rows_by_key(project: Path) -> dict[str, dict[str, str]]:
    return rows_by_key_of(table(project))


def rows_by_key_of(rows: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    return {row["key"]: row for row in rows}


def test_help_names_the_commands(capsys):
    command_line(["--help"])
    assert "usage: individuals.py discover | match | export PROJECT" in capsys.readouterr().out


def test_wrong_input_ends_in_a_message(tmp_path, lions):
    with pytest.raises(SystemExit, match="error: There is no project in .*nowhere yet: give photographs by --photos"):
        command_line(["discover", os.fspath(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match="error: There is no project"):
        command_line(["match", os.fspath(tmp_path / "nowhere"), "a.jpg"])
    with pytest.raises(SystemExit, match="error: cannot read the photograph"):
        command_line(["match", os.fspath(lions), os.fspath(tmp_path / "none.jpg")])
    with pytest.raises(SystemExit, match="error: Expected --stations to be a level of folders, 0 to 1, got 3"):
        command_line(["discover", os.fspath(lions), "--photos", photos_of(lions), "--stations", "3"])
    (lions / "photographs.csv").write_text("key,hash\n")
    with pytest.raises(SystemExit, match="error: .*photographs.csv is damaged: expected the columns key, hash, path"):
        command_line(["match", os.fspath(lions), "a.jpg"])


def photos_of(project: Path) -> str:
    return open_project(project).photographs[0].root


def test_a_discovery_that_comes_to_nothing_leaves_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    for project in (tmp_path / "lions", tmp_path / "mine"):
        (tmp_path / "mine").mkdir(exist_ok=True)
        with pytest.raises(SystemExit, match="error: There are no photographs in .*empty"):
            discover(project, "--photos", tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "mine"]
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["match", "lions", "new.jpg", "--top", "0"], "Expected --top to be 1 or more, got 0."),
        (["discover", "lions", "--photos", "season", "--timezone", "Berlin"], "Expected --timezone such as +03:00"),
        (
            ["discover", "lions", "--photos", "season", "--gap", "nan"],
            "Expected --gap to be 0 seconds or more, got nan.",
        ),
        (["discover", "lions", "--photos", "season", "--gap", "-5"], "Expected --gap to be 0 seconds or more, got -5."),
        (["discover", "lions", "--photos", "season", "--k1", "0"], "Expected --k1 to be 1 photograph or more, got 0."),
        (["discover", "lions", "--photos", "season", "--seed", "-1"], "Expected --seed to be 0 or more, got -1."),
        (["discover", "lions", "--table", "no.csv"], "--table: name the photographs by --photos FOLDER, too."),
        (["discover", "lions", "--stations", "1", "--gap", "5"], "--stations, --gap: name the photographs by"),
        (
            ["discover", "lions", "--k1", "5", "--augment", "2"],
            "--augment, --k1: nothing is grouped; add --regroup, or",
        ),
        (["discover", "lions", "--photos", "notes.txt"], "got notes.txt: that is a file."),
        (
            ["discover", "lions", "--photos", "season", "--decisions", "d.csv"],
            "discover the photographs first, without",
        ),
        (["discover", "lions", "--photos", "nothing"], "got nothing: there is no such folder."),
    ],
)
def test_mistyped_arguments_end_in_a_sentence(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    season(tmp_path / "season", {0: range(2)})
    (tmp_path / "notes.txt").write_text("batteries")
    with pytest.raises(SystemExit) as stopped:
        command_line(words)
    assert message in f"{stopped.value.code} {capsys.readouterr().err}"


def test_decisions_that_are_not_there_are_not_called_damaged_and_exports_say_where_they_went(tmp_path, capsys):
    discover(tmp_path / "lions", "--photos", season(tmp_path / "season", {0: range(3), 1: range(3)}))
    with pytest.raises(SystemExit, match="nothing.csv: there is no such file"):
        discover(tmp_path / "lions", "--decisions", tmp_path / "nothing.csv")
    output = tmp_path / "folder that is new" / "lions.json"
    command_line(["export", os.fspath(tmp_path / "lions"), "--to", "coco", os.fspath(output)])
    assert output.is_file() and f"Written: {output}" in capsys.readouterr().out


def test_a_table_gives_stations_and_times(tmp_path):
    photos = season(tmp_path / "season", {0: range(2), 1: range(2)})
    path = "st0/IMG_0001.png"
    (tmp_path / "table.csv").write_text(f"path,station,date_time\n{path},Ridge,2024-01-02 03:04:05\n")
    rows = {
        row["path"]: row for row in discover(tmp_path / "lions", "--photos", photos, "--table", tmp_path / "table.csv")
    }
    assert (rows[path]["station"], rows[path]["date_time"]) == ("Ridge", "2024-01-02T03:04:05")


def test_what_a_project_lacked_can_be_given_later(tmp_path):
    """As the summary and the exports advise; animals stay as they are."""
    photos, project = tmp_path / "season", tmp_path / "lions"
    for number in range(6):
        photograph(photos / f"{number}.png", number // 3, number)
    before = discover(project, "--photos", photos)
    (tmp_path / "table.csv").write_text("path,station,date_time\n0.png,Ridge,2024-01-02 03:04:05\n")
    box = {"file": "0.png", "detections": [{"category": "1", "conf": 0.9, "bbox": [0, 0, 1, 0.9]}]}
    (tmp_path / "boxes.json").write_text(json.dumps({"images": [box]}))
    sources = ["--table", tmp_path / "table.csv", "--boxes", tmp_path / "boxes.json"]
    first, *rest = discover(project, "--photos", photos, *sources)
    assert (first["station"], first["camera"], first["date_time"]) == ("Ridge", "Ridge", "2024-01-02T03:04:05")
    assert (first["date_time_source"], first["sequence"]) == ("table", "season Ridge 2024-01-02T03:04:05")
    assert first["box"] == "0 0 1 0.9" and {row["box"] for row in rest} == {""}
    assert individual_of([first, *rest]) == individual_of(before)
    assert "0 new, 0 at another place than before, 1 completed by" in (project / "summary.txt").read_text()


def taken_in(*later: Photograph, before: Photograph | list[Photograph]) -> tuple[list[Photograph], Report]:
    """What a project with one photograph has once it comes in again."""
    project, report = new_project("lions", "none"), Report()
    project.photographs = [before] if isinstance(before, Photograph) else before
    take_in(project, Intake(list(later)), report)
    return project.photographs, report


ONE = Photograph("0" * 16, "0" * 64, "a.jpg", individual="LION-001", status="proposed")
HALVES = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 0.5, 1.0)


def test_what_differs_from_a_project_stays_as_it_is_and_is_reported():
    known = replace(ONE, station="Ridge", date_time="2024-01-02T03:04:05", box=HALVES[0])
    found, report = taken_in(replace(known, station="Pool", path="b/a.jpg"), before=known)
    assert found == [replace(known, path="b/a.jpg")]
    said = (
        "Photographs of the project with another station, camera, time, sequence, side or box now: 1, such as b/a.jpg"
    )
    assert report.problems[0].startswith(said)
    assert (report.moved, report.completed) == (1, 0)


@pytest.mark.parametrize(
    ("before", "later", "differs"),
    [
        ({"side": "left"}, {"side": "right"}, True),
        ({"side": "left"}, {"side": "unknown"}, False),
        ({"camera": "1"}, {"camera": "2"}, True),
        ({"camera": "1"}, {"camera": "Ridge"}, False),  # the station stands in for a camera
        ({"sequence": "2024 Ridge 7"}, {"sequence": "2024 Ridge 8"}, True),
        ({"sequence": "2024 Ridge 7"}, {"sequence": "2024 Ridge 2024-01-02T03:04:05"}, False),  # which was found
        ({"sequence": "2024 Ridge 7"}, {"sequence": "2025 Ridge 7", "season": "2025"}, False),
    ],
)
def test_sides_cameras_and_given_sequences_that_differ_are_reported_too(before, later, differs):
    known = replace(ONE, station="Ridge", camera="Ridge", season="2024", station_source="found")
    known = replace(known, **before)
    found, report = taken_in(replace(known, **later), before=known)
    assert found == [known] and bool(report.problems) == differs


def test_a_camera_that_is_given_takes_the_place_of_a_station_that_stood_in_for_it():
    known = replace(ONE, station="Ridge", camera="Ridge", sequence="2024 Ridge 2024-01-02T03:04:05")
    given = replace(known, camera="1", sequence="2024 Ridge 1 2024-01-02T03:04:05")
    found, report = taken_in(given, before=known)
    assert found == [given] and not report.problems
    assert taken_in(replace(known, station_source="found"), before=given)[0] == [given]


def test_a_season_and_a_gap_that_are_given_later_hold_for_new_photographs_only():
    known = replace(ONE, season="2024", sequence="2024 2024-01-02T03:04:05")
    wet = replace(known, season="wet", sequence="wet 2024-01-02T03:00:00")
    for told, expected in (((), []), (("season",), ["season"]), (("season", "gap"), ["season", "gap"])):
        project, report = new_project("lions", "none"), Report()
        project.photographs = [known]
        take_in(project, Intake([wet]), report, told)
        assert project.photographs == [known]
        options = [
            one.split(" holds for new photographs only: 1 photograph of the project, such as a.jpg")[0]
            for one in report.problems
        ]
        assert options == [f"--{name}" for name in expected]


def test_a_file_that_another_program_wrote_into_is_no_second_photograph():
    """Nor is it one later, when its folder has another name: the time is the same, and the earlier content is gone."""
    known = replace(ONE, root="/r", season="2024", date_time="2024-06-03T00:30:00")
    tagged = replace(known, hash="1" * 64, key="1" * 16, individual="", status="unsure")
    for root in ("/r", "/moved"):
        found, report = taken_in(replace(tagged, root=root), before=known)
        assert found == [replace(known, root=root)] and report.added == 0
        assert report.problems[0].startswith("Files that another program wrote into since: 1, such as a.jpg.")
    found, report = taken_in(tagged, known, before=known)
    assert len(found) == 2 and not report.problems, "both lie there"
    for other in (replace(tagged, date_time="2024-07-01T00:00:00"), replace(tagged, date_time="")):
        found, report = taken_in(other, before=known)
        assert found == [known, other]
        assert "Files of another content than before at the same place: 1, such as a.jpg." in report.problems[0]


def test_a_second_card_at_the_same_place_is_another_season_even_with_the_same_names_and_times():
    known = replace(ONE, root="/card", season="card1", date_time="2024-06-03T00:30:00")
    second = replace(known, hash="1" * 64, key="1" * 16, season="card2", individual="", status="unsure")
    found, report = taken_in(second, before=known)
    assert found == [known, second] and report.added == 1
    assert "Files of another content than before at the same place: 1, such as a.jpg." in report.problems[0]


def test_a_photograph_in_whose_place_another_card_lies_is_never_read_from_it(tmp_path, monkeypatch, capsys):
    """Until its card has a folder of its own, which is given by --photos."""
    project, card, own = tmp_path / "lions", tmp_path / "card", tmp_path / "card1"
    discover(project, "--photos", season(card, {0: range(3), 1: range(3)}, stations=1), "--season", "card1")
    card.rename(own)
    discover(project, "--photos", season(card, {2: range(3), 3: range(3)}, stations=1), "--season", "card2")
    said = "st0/IMG_0001.png was another photograph when season card1 was added: copy that card to a folder of its own"
    first = next(row for row in open_project(project).photographs if row.season == "card1")
    with pytest.raises(ValueError, match=said):
        open_project(project).image_of(first.key)
    with open(first.file, "ab") as file:
        file.write(b"keywords")
    assert first.key not in open_project(project).displaced, "another program wrote into it: nobody knows whose it is"
    os.truncate(first.file, first.file.stat().st_size - len(b"keywords"))
    with pytest.raises(SystemExit, match=f"the files of 6 photographs. {said}"):
        command_line(["export", os.fspath(project), "--to", "folders", os.fspath(tmp_path / "out")])
    monkeypatch.setattr(projects, "encoder_named", lambda name: Others())
    with pytest.raises(SystemExit, match=f"2 animals, .* would not be known again, .*{said}"):
        discover(project, "--encoder", "others")
    shutil.rmtree(project / "features" / "local")
    monkeypatch.setattr(projects, "encoder_named", lambda name: Colours())
    discover(project, "--local", "0.3")
    assert f"st0/IMG_0001.png has no local matches: {said}" in capsys.readouterr().out
    discover(project, "--photos", own)
    command_line(["export", os.fspath(project), "--to", "folders", os.fspath(tmp_path / "out")])
    assert {row["season"] for row in table(project) if row["root"] == os.fspath(own)} == {"card1"}


def test_files_that_another_program_wrote_into_keep_the_season_that_was_given_first(tmp_path):
    project, photos = tmp_path / "lions", season(tmp_path / "photos", {0: range(3), 1: range(3)})
    discover(project, "--photos", photos, "--season", "wet")
    for path in photos.rglob("*.png"):
        with open(path, "ab") as file:
            file.write(b"keywords")
    rows = discover(project, "--photos", photos)
    assert len(rows) == 6 and {row["season"] for row in rows} == {"wet"}


def test_a_file_that_was_broken_and_is_copied_again_is_a_photograph_of_its_own():
    """Its broken content is nowhere any more, so that its row goes."""
    broken = replace(ONE, root="/r", season="2024", date_time="2024-06-03T00:30:00", individual="", status="unreadable")
    whole = replace(broken, hash="1" * 64, key="1" * 16, status="unsure")
    found, report = taken_in(whole, before=broken)
    assert found == [whole] and report.added == 1 and not report.problems
    moved = replace(whole, root="/moved")
    assert taken_in(moved, before=broken)[0] == [broken, moved], "its old folder may be there again"
    assert taken_in(broken, before=broken)[0] == [broken]


def test_a_burst_whose_first_photograph_comes_later_stays_one():
    known = replace(ONE, season="2024", station="st", date_time="2024-06-03T10:00:02", sequence="2024 st 10:00:02")
    later = replace(known, sequence="2024 st 10:00:00")
    first = row_of("first", date_time="2024-06-03T10:00:00", sequence=later.sequence, season="2024", station="st")
    assert [row.sequence for row in taken_in(first, later, before=known)[0]] == [known.sequence] * 2
    elsewhere = replace(known, station="Ridge", station_source="table", sequence="2024 Ridge 10:00:02")
    assert taken_in(first, later, before=elsewhere)[0][1].sequence == later.sequence, "a table gave another station"


def row_of(name: str, **values) -> Photograph:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return Photograph(digest[:16], digest, f"{name}.jpg", **values)


def test_a_copy_in_the_next_season_is_left_out_while_the_original_is_there(tmp_path):
    """A photograph whose file lies elsewhere now moves, and so does one whose folder is given by its parent."""
    for folder in ("2024", "2025"):
        photograph(tmp_path / folder / "a.png", 0, 0)
    known = replace(ONE, path="a.png", root=os.fspath(tmp_path / "2024"), season="2024")
    copy = replace(known, root=os.fspath(tmp_path / "2025"), season="2025", station="st1")
    inside = replace(known, root=os.fspath(tmp_path), path="2024/a.png", season="all")
    found, report = taken_in(copy, before=known)
    assert found == [known] and (report.moved, report.completed) == (0, 0)
    assert report.intake.left_out == {"a.png": "the same photograph as a.png of the season 2024"}
    assert taken_in(inside, before=known)[0] == [replace(inside, season="2024")]
    (tmp_path / "2024" / "a.png").unlink()
    assert taken_in(copy, before=known)[0] == [replace(copy, season="2024")]


def test_a_folder_that_is_known_keeps_its_season_under_another_name(tmp_path, capsys):
    project, photos = tmp_path / "lions", season(tmp_path / "lions_2024", {0: range(3), 1: range(3)})
    discover(project, "--photos", photos, "--season", "wet")
    renamed = photos.rename(tmp_path / "lions_final")
    photograph(renamed / "st1" / "IMG_0009.png", 0, 9, "2024:06:01 00:00:30")
    rows = discover(project, "--photos", renamed)
    assert {row["season"] for row in rows} == {"wet"} and len(rows) == 7
    assert all(row["sequence"].startswith("wet st") for row in rows)
    assert "The season is wet, by which most of these photographs are known; for an" in capsys.readouterr().out
    shutil.copytree(renamed, tmp_path / "lions_2025")
    photograph(tmp_path / "lions_2025" / "st1" / "IMG_0010.png", 0, 10, "2025:06:01 00:00:30")
    rows = discover(project, "--photos", tmp_path / "lions_2025")
    assert [row["season"] for row in rows].count("lions_2025") == 1, "the folder holds the season before, too"


def test_whole_frames_of_a_further_season_are_noted_beside_the_boxes_of_the_first():
    project, report = new_project("lions", "none"), Report()
    project.photographs = [replace(ONE, box=HALVES[0])]
    take_in(project, Intake([row_of("b", season="2025")]), report)
    said = "\n".join(describe_photographs(project, report))
    assert "Whole frames are compared;" in said and "Earlier photographs are cut out by boxes: 1." in said
    take_in(project, Intake([replace(ONE, box=None)]), again := Report())
    assert "Whole frames" not in "\n".join(describe_photographs(project, again))


def test_of_several_boxes_none_takes_the_place_of_a_whole_photograph():
    boxes = [replace(ONE, key=ONE.key + end, box=box) for end, box in zip(("", "-2"), HALVES, strict=True)]
    found, report = taken_in(*boxes, before=ONE)
    assert found == [ONE]
    assert "with other boxes now: 1, such as a.jpg. They keep the boxes" in report.problems[0]


def test_a_box_that_was_found_later_gives_no_animal_the_crop_of_another():
    """B, which lies further left, takes the key of A; A would come in again as a new row."""
    before = [replace(ONE, box=HALVES[1])]
    later = boxed(replace(ONE, individual="", status="unsure"), HALVES)
    assert [(row.key == ONE.key, row.box) for row in later] == [(True, HALVES[0]), (False, HALVES[1])]
    found, report = taken_in(*later, before=before)
    assert found == before and "with other boxes now: 1, such as a.jpg" in report.problems[0]
    found, report = taken_in(later[0], before=[replace(one, status="proposed", individual="LION-001") for one in later])
    assert len(found) == 2 and "with other boxes now" in report.problems[0], "nor is one of two lost"


def test_all_boxes_of_a_photograph_move_with_it():
    """A folder that is given again without --boxes has one row for each photograph."""
    before = boxed(ONE, HALVES)
    found, report = taken_in(replace(ONE, root="/new", path="b/a.jpg"), before=before)
    assert found == [replace(row, root="/new", path="b/a.jpg") for row in before]
    assert (report.moved, report.completed, report.problems) == (1, 0, [])


def test_boxes_of_an_unreadable_photograph_outlast_a_reading_without_boxes():
    before = [replace(row, status="unreadable", individual="") for row in boxed(ONE, HALVES)]
    found, _ = taken_in(replace(ONE, individual="", status="unsure"), before=before)
    assert [(row.box, row.status) for row in found] == [(box, "unsure") for box in HALVES]


def test_a_photograph_with_several_boxes_is_counted_once():
    dated = replace(ONE, date_time="2024-06-03T00:30:00", date_time_source="exif", sequence="s")
    boxes = [replace(dated, key=ONE.key + end, box=box) for end, box in zip(("", "-2"), HALVES, strict=True)]
    project, report = new_project("lions", "none"), Report()
    take_in(project, Intake(boxes), report)
    assert project.photographs == boxes and report.added == 1
    take_in(project, Intake([replace(box, path="b/a.jpg") for box in boxes]), report)
    assert (report.added, report.moved) == (1, 1)
    said = "\n".join(describe_photographs(project, report))
    assert "Photographs: 1 read, 1 new, 1 at another place" in said and "Sequences: 1, 0 with several" in said
    assert "by exif (1)" in said and len(boxes) == 2
    first = summary(project, report)[0]
    assert first == "lions: 0 animals on 1 photograph (2 rows, one for each animal on each: 2 proposed)."


def test_an_animal_that_a_detector_overlooked_comes_in_with_its_box_later():
    (blank,) = boxed(replace(ONE, individual="", status="unsure"), [])
    again = replace(ONE, individual="", status="unsure", box=HALVES[0])
    found, report = taken_in(again, before=blank)
    assert found == [again] and not report.problems


def test_a_blank_photograph_that_comes_in_without_a_box_stays_blank():
    """As the docs advise when a folder has moved: only its new place is given, not the detector's file again."""
    whole = replace(ONE, individual="", status="unsure", root="/new")
    for note in (NO_ANIMAL, NOT_OURS):
        blank = replace(ONE, individual="", status="not_animal", note=note)
        found, report = taken_in(whole, before=blank)
        assert found == [replace(blank, root="/new")] and report.added == 0
        assert taken_in(replace(whole, note=SEEN), before=blank)[0][0].status == "unsure", "Camtrap DP says so now"


def test_what_a_person_called_no_animal_stays_so_when_a_box_comes_in():
    project = new_project("lions", "none")
    project.photographs = boxed(replace(ONE, individual="", status="unsure"), [])
    add_decisions(project, [Decision("2025-01-01T00:00:00Z", "me", "not_animal", ONE.key)])
    found, _ = taken_in(replace(ONE, individual="", status="unsure", box=HALVES[0]), before=project.photographs)
    assert found[0].status == "not_animal"


def test_boxes_without_any_animal_say_what_to_change(tmp_path, capsys):
    photograph(tmp_path / "season" / "a.png", 0, 0)
    (tmp_path / "boxes.json").write_text(json.dumps({"images": [{"file": "a.png", "detections": []}]}))
    words = ["--photos", tmp_path / "season", "--boxes"]
    assert discover(tmp_path / "lions", *words, tmp_path / "boxes.json")[0]["status"] == "not_animal"
    said = capsys.readouterr().out
    assert "Photographs without a box of an animal: 1; see --boxes and --confidence." in said
    assert "Whole frames" not in said
    with pytest.raises(SystemExit, match=r"JSON file by --boxes, got .*nothing.json: there is no such file"):
        discover(tmp_path / "lions", *words, tmp_path / "nothing.json")


def test_one_photograph_is_one_animal_without_an_interval(tmp_path):
    photograph(tmp_path / "season" / "a.png", 0, 0, "2024:06:01 10:00:00")
    (row,) = discover(tmp_path / "lions", "--photos", tmp_path / "season")
    assert (row["individual"], row["status"]) == ("LION-001", "single")
    said = (tmp_path / "lions" / "summary.txt").read_text()
    assert "Number of animals by the grouping: 1. An interval needs 3 photographs." in said
    assert "Dates of 2024-06-01, by exif (1)." in said and "none, as they need two photographs" in said


def test_a_match_with_animals_that_are_cut_out_warns(lions, tmp_path, caplog):
    new = os.fspath(photograph(tmp_path / "a.png", 2, 77))
    command_line(["match", os.fspath(lions), new])
    assert "cut out" not in caplog.text
    text = (lions / "photographs.csv").read_text().splitlines()
    column = text[0].split(",").index("box")
    cells = text[1].split(",")
    cells[column] = "0.1 0.1 0.8 0.8"
    (lions / "photographs.csv").write_text("\n".join([text[0], ",".join(cells), *text[2:]]) + "\n")
    command_line(["match", os.fspath(lions), new])
    assert "cut out these photographs, too" in caplog.text


def test_an_unreadable_photograph_does_not_cost_the_matches_of_the_others(lions, tmp_path, capsys):
    (tmp_path / "broken.jpg").write_bytes(b"no")
    good = photograph(tmp_path / "a.png", 2, 77)
    with pytest.raises(SystemExit, match="error: cannot read the photograph .*broken.jpg"):
        command_line(["match", os.fspath(lions), os.fspath(tmp_path / "broken.jpg"), os.fspath(good)])
    assert f"{good}: proposed" in capsys.readouterr().out


def test_a_run_that_was_trained_in_a_project_moves_with_it(lions):
    settings = json.loads((lions / "project.json").read_text())
    (lions / "training" / "run").mkdir(parents=True)
    for written, expected in (
        ("run:/elsewhere/lions/training/run", f"run:{lions / 'training' / 'run'}"),
        ("run:/elsewhere/lions/training/run-2", "run:/elsewhere/lions/training/run-2"),
        ("run:/elsewhere/run", "run:/elsewhere/run"),
        ("resnet50", "resnet50"),
    ):
        (lions / "project.json").write_text(json.dumps({**settings, "encoder": written}))
        assert open_project(lions).settings["encoder"] == expected


def test_the_summary_says_that_there_are_no_dates(tmp_path):
    for number in range(3):
        photograph(tmp_path / "season" / f"a{number}.png", 0, number)
    discover(tmp_path / "lions", "--photos", tmp_path / "season")
    assert "No dates are known" in (tmp_path / "lions" / "summary.txt").read_text()


class Others(Colours):
    """Another encoder, for which all photographs have to be read again."""

    fingerprint = "c011"


def test_another_encoder_is_refused_while_animals_cannot_be_read_and_some_photographs_may_be_away(
    lions, first_season, monkeypatch, tmp_path
):
    """Else known animals would get new IDs, as nothing could be compared with them."""
    before, settings = table(lions), (lions / "project.json").read_text()
    new = season(tmp_path / "lions_2025", {animal: range(10, 14) for animal in range(3)})
    monkeypatch.setattr(projects, "encoder_named", lambda name: Others())
    away = first_season.with_name("away")
    first_season.rename(away)
    try:
        said = (
            r"7 animals, such as LION-001, .* \(st\d/.*: there is no such file\). .*--photos first.* keep the encoder"
        )
        with pytest.raises(SystemExit, match=said):
            discover(lions, "--photos", new, "--encoder", "others")
        assert table(lions) == before and (lions / "project.json").read_text() == settings
        first_season.mkdir()
        shutil.copytree(away / "st0", first_season / "st0")
        single = next(row for row in before if row["status"] == "single")
        one = first_season / single["path"]
        one.parent.mkdir(exist_ok=True)
        shutil.copy(away / single["path"], one)
        rows = discover(lions, "--encoder", "others")
    finally:
        shutil.rmtree(first_season)
        away.rename(first_season)
    assert standing(rows) == standing(before)
    assert "is left out" in (lions / "summary.txt").read_text()
    assert standing(discover(lions, "--encoder", "others again")) == standing(before)


def test_training_is_left_out_while_animals_cannot_be_read(tmp_path, monkeypatch):
    project, photos = tmp_path / "lions", season(tmp_path / "photos", {animal: range(5) for animal in range(4)})
    discover(project, "--photos", photos)
    photos.rename(tmp_path / "away")
    monkeypatch.setattr(training, "_run", lambda folder, options: pytest.fail("trained"))
    report = Report()
    assert not training.train(open_project(project), report, 6, 2)
    assert report.training.startswith(
        "Nothing is trained, as the result could not be kept: 4 animals, such as LION-001"
    )


def test_training_takes_the_crops_of_today_and_leaves_out_what_is_away(tmp_path, monkeypatch):
    project, photos = tmp_path / "lions", season(tmp_path / "photos", {animal: range(5) for animal in range(4)})
    discover(project, "--photos", photos)
    lions, away = open_project(project), photos / "st0" / "IMG_0001.png"
    away.rename(tmp_path / "away.png")

    monkeypatch.setattr(training, "encoder_named", lambda name: Others())
    settings = []
    monkeypatch.setattr(training, "_run", lambda folder, options: settings.extend(options))
    monkeypatch.setattr(LinkedFANCL, "constraints", LinkedFANCL.constraints)
    report, (merged, other) = Report(), sorted({row.individual for row in lions.photographs})[:2]
    add_decisions(lions, [Decision("2025-01-01T00:00:00Z", "", "merge", merged, other)])
    assert training.train(lions, report, 6, 2)
    assert any("you merged their animals" in link.reason for link in LinkedFANCL.constraints.must)
    assert settings[settings.index("PSEUDO_LABELS.LOCAL") + 1] == "0.2", "spots teach the encoder, too"
    crops = project / "training" / "photographs"
    assert len(list(crops.glob("*.jpg"))) == 19
    known = {os.path.basename(photo.path): photo for photo in read_metadata(os.fspath(crops / "metadata.csv"))}
    for row in lions.photographs:
        if row.path != "st0/IMG_0001.png":
            photo = known.pop(f"{row.key}.jpg")
            assert (photo.station, photo.taken) == (row.station, row.date_time), "rocks of its station are left out"
            assert photo.sequence and photo.sequence.endswith(row.sequence)
    assert not known
    assert report.problems[0].startswith("st0/IMG_0001.png is not trained on: ")
    boxed_later = next(row for row in lions.photographs if row.path != "st0/IMG_0001.png")
    lions.photographs = [replace(row, box=HALVES[0]) if row is boxed_later else row for row in lions.photographs]
    training.write_crops(project / "training" / "photographs", lions.photographs, Report())
    with Image.open(project / "training" / "photographs" / f"{boxed_later.key}.jpg") as crop:
        assert crop.size == (8, 16), "half of 16 by 16 pixels"


def test_an_unreadable_photograph_is_tried_again(tmp_path):
    for number in range(6):
        photograph(tmp_path / "in" / f"{number}.png", number // 3, number)
    project = tmp_path / "cats"
    discover(project, "--photos", tmp_path / "in")
    rows = read_table(project / "photographs.csv", Photograph)
    broken = [
        replace(row, status="unreadable", individual="", note="broken") if n == 0 else row for n, row in enumerate(rows)
    ]
    (project / "photographs.csv").write_text(table_text(broken, Photograph), encoding="utf-8")
    assert all(row["status"] != "unreadable" for row in discover(project, "--photos", tmp_path / "in"))


def test_decisions_hold_where_photographs_that_are_given_with_them_cannot_be_read(lions, tmp_path, capsys):
    rows = [Decision("2025-01-01T00:00:00Z", "me", "name", "LION-001", value="Simba")]
    rows.append(Decision("2025-01-01T00:00:01Z", "me", "confirm", "LION-001", value="yes"))
    (tmp_path / "d.csv").write_text(table_text(rows, Decision))
    settings = (lions / "project.json").read_text()
    with pytest.raises(SystemExit, match="there is no such folder"):
        discover(lions, "--decisions", tmp_path / "d.csv", "--photos", tmp_path / "mistyped", "--encoder", "others")
    printed = capsys.readouterr().out
    assert "2 new decisions: 1 detail" in printed and len(table(lions, "decisions.csv")) == 2
    assert "is not followed: the value names no photographs" in printed, "no later command says so"
    assert table(lions, "individuals.csv")[0]["name"] == "Simba"
    assert (lions / "project.json").read_text() == settings, "another encoder begins with the photographs"


def test_a_decision_is_on_record_only_once_it_is_applied(lions, monkeypatch):
    """A kill between two tables: given again, the decision is not skipped."""
    key = table(lions)[0]["key"]
    before, replaced = table(lions), os.replace

    def killed(source, target):
        if os.fspath(target).endswith("photographs.csv"):
            raise KeyboardInterrupt
        replaced(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(SystemExit, match="stopped: run the same command again: features and keypoints found so far"):
        decide(lions, ("not_animal", key))
    monkeypatch.setattr(os, "replace", replaced)
    assert table(lions) == before and not table(lions, "decisions.csv")
    assert next(row for row in decide(lions, ("not_animal", key)) if row["key"] == key)["status"] == "not_animal"
