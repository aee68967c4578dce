"""Whatever happens to the tables of a project, a command reads all of their rows or names what is wrong."""

import csv
import dataclasses
import hashlib
import io
import json
import re
import shlex

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.run_folders import add_imports, write_run

from fastreid_fancl.errors import UserError
from fastreid_fancl.individuals import command
from fastreid_fancl.individuals.decisions import add_decisions
from fastreid_fancl.individuals.discover import CERTAINTY, Certainty
from fastreid_fancl.individuals.encode import Features, features_file
from fastreid_fancl.individuals.export import FORMATS
from fastreid_fancl.individuals.ledger import Ledger
from fastreid_fancl.individuals.opening import new_project, open_project
from fastreid_fancl.individuals.project import Project
from fastreid_fancl.individuals.rows import KINDS, STATUSES, Change, Decision, Individual, Photograph
from fastreid_fancl.individuals.sources import with_boxes, with_camtrapdp, with_table
from fastreid_fancl.individuals.storage import read_decisions, read_table, table_text

QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# `visible` rewrites control characters, so a table holds all other text as it is.
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), max_size=8) | st.sampled_from(
    ["=1+1", "'=1", "''-x", "-5", "'-5", "@a", "a,b;c", '"', "", "NA", " a ", "'"]
)


def photograph(path: str, **values) -> Photograph:
    digest = hashlib.sha256(path.encode()).hexdigest()
    return Photograph(digest[:16], digest, path, **values)


ROWS = [photograph(f"st{n % 2 + 1}/{n}.jpg", individual=f"LION-00{n % 3 + 1}", status="proposed") for n in range(6)]


def project_in(folder) -> Project:
    project = new_project(folder / "lions", "none")
    project.photographs = list(ROWS)
    project.animals = [Individual(f"LION-00{n}") for n in (1, 2, 3)]
    project.decisions = [Decision("2025-01-01T00:00:00Z", "me", "side", ROWS[0].key, value="left")]
    project.changes = [Change("2025-01-01T00:00:00Z", "side", ROWS[0].key, "unknown", "left", "you said so")]
    project.folder.mkdir()
    project.write()
    return project


PHOTOGRAPHS = st.builds(
    photograph,
    st.uuids().map(str),
    root=TEXT,
    season=TEXT,
    station=TEXT,
    camera=TEXT,
    sequence=TEXT,
    box=st.none() | st.just((0.1, 0.2, 0.3, 0.4)),
    individual=TEXT.map(lambda text: text or "x"),
    status=st.sampled_from(STATUSES),
    score=st.none() | st.integers(-9999, 9999).map(lambda number: number / 10000),
    note=TEXT,
)


@QUICK
@given(st.lists(PHOTOGRAPHS, max_size=5))
def test_a_table_comes_back_as_it_was_written(tmp_path, rows):
    (tmp_path / "t.csv").write_text(table_text(rows, Photograph), encoding="utf-8", newline="")
    assert read_table(tmp_path / "t.csv", Photograph) == rows


def saved_again(text: str, separator: str = ",", order: int = 1, end: str = "\r\n", empty: int = 0) -> str:
    """A table as a spreadsheet saves it: other separators, line ends and order of columns, empty columns."""
    out = io.StringIO(newline="")
    rows = [row[::order] + [""] * empty for row in csv.reader(io.StringIO(text))]
    csv.writer(out, delimiter=separator, lineterminator=end).writerows(rows)
    return out.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("style", [{"separator": ";"}, {"separator": "\t", "empty": 2}, {"order": -1}, {"end": "\n"}])
def test_a_table_that_a_spreadsheet_saved_is_read_the_same(tmp_path, encoding, style):
    rows = [photograph("é.jpg", note="a;b,c"), photograph("=1.jpg", individual="'=2", box=(0, 0, 0.5, 1))]
    text = saved_again(table_text(rows, Photograph), **style)
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    assert read_table(tmp_path / "t.csv", Photograph) == rows


def rewritten(text: str, column: str, value: str, row: int = 0) -> str:
    table = list(csv.DictReader(io.StringIO(text)))
    table[row][column] = value
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, table[0])
    writer.writeheader(), writer.writerows(table)
    return out.getvalue()


HAND = {  # table, column, value, what is said
    "a number instead of a key": ("photographs", "key", "1.23457E+15", "row 2: expected a key of 16 hexadecimal"),
    "a key without its zeros": ("photographs", "key", ROWS[0].key[2:], "row 2: expected a key"),
    "another hash": ("photographs", "hash", "0" * 64, "row 2: expected a hash of 64 .* begins as the key"),
    "a renamed animal": ("photographs", "individual", "Simba", "names Simba, which individuals.csv does not have"),
    "an unknown next one": ("photographs", "second", "LION-9", "names LION-9, which individuals.csv"),
    "a date of a spreadsheet": ("photographs", "date_time", "03.06.2024 00:30", "expected date_time as 2024-06-03T"),
    "a time with a zone": (
        *("photographs", "date_time", "2024-06-01T10:00:00+03:00"),
        "row 2: expected date_time as 2024-06-03T00:30:00, local and without a zone, got '2024-06-01T10:00:00.03:00'",
    ),
    "a decimal comma": ("photographs", "score", "0,8123", "row 2: could not convert"),
    "no number": ("photographs", "score", "nan", "expected a finite number"),
    "a box in pixels": ("photographs", "box", "10 20 300 400", "expected a box"),
    "no animal": ("photographs", "individual", "", "expected an individual for the status proposed, got none"),
    "an ID renamed": ("individuals", "individual", "Simba", "photographs.csv is damaged: it names LION-001"),
    "an ID twice": ("individuals", "individual", "LION-002", "individuals.csv is damaged: LION-002 is there twice"),
    "no ID": ("individuals", "individual", " ", "expected individual, got an empty cell"),
    "merged into nothing": ("individuals", "merged_into", "LION-9", "names LION-9"),
    "merged into itself": ("individuals", "merged_into", "LION-001", "merged into each other: LION-001"),
    "a count with a comma": ("individuals", "photographs", "1,0", "row 2"),
    "a kind of decision": ("decisions", "kind", "married", "expected kind to be one of same"),
    "a time of a decision": ("decisions", "when", "03/06/2024 10:00", "expected when as 2024-06-03T10:00:00Z, got"),
    "a decision without a time": ("decisions", "when", "", "expected when"),
    "a kind of change": ("changes", "kind", "lost", "expected kind to be one of new"),
}


@pytest.mark.parametrize("hand", HAND.values(), ids=HAND.keys())
def test_what_a_hand_or_a_spreadsheet_broke_is_named_with_its_cure(tmp_path, hand):
    name, column, value, said = hand
    path = project_in(tmp_path).folder / f"{name}.csv"
    path.write_text(rewritten(path.read_text(), column, value))
    with pytest.raises(UserError, match=said) as caught:
        open_project(tmp_path / "lions")
    assert "Correct it there, or restore" in str(caught.value) and "train" not in str(caught.value)


def test_animals_that_are_merged_in_a_circle_are_named_and_not_followed_for_ever(tmp_path):
    path = project_in(tmp_path).folder / "individuals.csv"
    text = rewritten(path.read_text(), "merged_into", "LION-002")
    path.write_text(rewritten(text, "merged_into", "LION-001", row=1))
    with pytest.raises(UserError, match="merged into each other"):
        open_project(tmp_path / "lions")


def test_a_name_given_by_hand_is_read(tmp_path):
    path = project_in(tmp_path).folder / "individuals.csv"
    path.write_text(rewritten(path.read_text(), "name", "Simba"))
    assert open_project(tmp_path / "lions").animals[0].name == "Simba"


@pytest.mark.parametrize("name", ["photographs", "individuals", "decisions", "changes"])
@pytest.mark.parametrize(("drop", "add", "said"), [(1, "", "lacks"), (0, "mine", "has also mine")])
def test_missing_and_further_columns_are_named(tmp_path, name, drop, add, said):
    path = project_in(tmp_path).folder / f"{name}.csv"
    table = list(csv.reader(io.StringIO(path.read_text())))
    rows = [row[drop:] + [add if n == 0 else "x"] * bool(add) for n, row in enumerate(table)]
    path.write_text("\n".join(map(",".join, rows)))
    with pytest.raises(UserError, match=rf"{name}\.csv is damaged: expected the columns .*{said}"):
        open_project(tmp_path / "lions")


def test_a_project_of_before_stations_had_a_source_opens(tmp_path):
    path = project_in(tmp_path).folder / "photographs.csv"
    table = list(csv.reader(io.StringIO(path.read_text())))
    column = table[0].index("station_source")
    path.write_text("\n".join(",".join(row[:column] + row[column + 1 :]) for row in table))
    project = open_project(tmp_path / "lions")
    assert sorted(row.key for row in project.photographs) == sorted(row.key for row in ROWS)
    assert {row.station_source for row in project.photographs} == {""}


def test_features_that_are_gone_are_named_with_their_cure(tmp_path):
    project = project_in(tmp_path)
    cure = rf"fancl discover {re.escape(str(project.folder))} --photos FOLDER"
    with pytest.raises(UserError, match=f"lacks the features of its photographs: `{cure}` computes them again"):
        project.match(tmp_path / "new.jpg")
    with pytest.raises(UserError, match=f"For features the project lacks:\n  features of its photographs: {cure}"):
        FORMATS["features"](project, tmp_path / "out")
    project.photographs = []
    with pytest.raises(UserError, match="has no animals yet"):
        project.match(tmp_path / "new.jpg")


def test_two_rows_of_one_key_are_refused(tmp_path):
    path = project_in(tmp_path).folder / "photographs.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(UserError, match="is there twice"):
        open_project(tmp_path / "lions")


SETTINGS = [
    ("levels", {"accept": 1}),
    ("levels", {"accept": "a", "reject": 0}),
    ("levels", []),
    ("seed", "0"),
    ("fingerprint", None),
    ("encoder", 7),
    ("version", "1"),
]


@pytest.mark.parametrize(("key", "value"), SETTINGS, ids=str)
def test_damaged_settings_of_a_project_are_named(tmp_path, key, value):
    path = project_in(tmp_path).folder / "project.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(UserError, match="another version" if key == "version" else f"project.json is damaged: .*{key}"):
        open_project(tmp_path / "lions")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, bytes]:
    """The files of a project."""
    folder = project_in(tmp_path_factory.mktemp("written")).folder
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@QUICK
@given(st.data())
def test_no_damage_of_a_project_is_a_traceback_or_costs_a_row(written, tmp_path, data):
    folder = tmp_path
    for one, whole in written.items():
        (folder / one).write_bytes(whole)
    name = data.draw(st.sampled_from(["photographs.csv", "individuals.csv", "decisions.csv", "changes.csv"]))
    content = written[name]
    start = data.draw(st.integers(0, len(content)))
    end = start + data.draw(st.integers(0, 30))
    put = data.draw(st.binary(max_size=4) | st.sampled_from([b'"', b"\n", b";", b",", b"\xef\xbb\xbf", b"'", b"0"]))
    (folder / name).write_bytes(content[:start] + put + content[end:])
    text = (folder / name).read_bytes().decode("utf-8", "replace")
    try:
        project = open_project(folder)
    except UserError as error:
        assert ".csv" in str(error), "the message names the file"
        return
    rows = {
        "photographs.csv": project.photographs,
        "individuals.csv": project.animals,
        "decisions.csv": project.decisions,
        "changes.csv": project.changes,
    }[name]
    lines = [next(csv.reader([line]), []) for line in re.split("\r\n|\r|\n", text)]
    assert len(rows) == sum(any(map(str.strip, cells)) for cells in lines) - 1


# decisions


DECISIONS = "when,who,kind,a,b,value\n2025-01-02T00:00:00Z,me,{kind},{a},{b},left\n"


def test_decisions_are_read_as_spreadsheets_save_them(tmp_path):
    text = DECISIONS.format(kind="side", a=ROWS[0].key, b="")
    (tmp_path / "own.csv").write_text(text)
    expected = read_decisions(tmp_path / "own.csv")
    for style in ({"separator": ";"}, {"separator": "\t", "order": -1}, {"empty": 3}):
        (tmp_path / "d.csv").write_bytes(saved_again(text, **style).encode("utf-8-sig"))
        assert read_decisions(tmp_path / "d.csv") == expected


def test_decisions_are_read_without_the_apostrophe_and_the_empty_cells_that_programs_add_or_drop(tmp_path):
    rows = [Decision("2025-01-02T00:00:00.000Z", "me", "name", "LION-001", value=name) for name in ("@Mara", "'=x", "")]
    (tmp_path / "d.csv").write_text(table_text(rows, Decision).replace(",,\n", "\n"))
    assert "'@Mara" in (tmp_path / "d.csv").read_text() and read_decisions(tmp_path / "d.csv") == rows


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        ("side", "Left", "left"),
        ("sex", "F", "female"),
        ("sex", "Female", "female"),
        ("sex", "m", "male"),
        ("sex", "MALE", "male"),
        ("sex", "Unknown", ""),
        ("sex", "", ""),
        ("name", "F", "F"),
    ],
)
def test_sides_and_sexes_are_read_as_people_write_them(tmp_path, kind, value, read):
    (tmp_path / "d.csv").write_text(f"when,who,kind,a,b,value\n2025-01-02,me,{kind},LION-001,,{value}\n")
    assert [one.value for one in read_decisions(tmp_path / "d.csv")] == [read]
    if kind == "sex":
        (tmp_path / "i.csv").write_text(table_text([Individual("LION-001", sex=value)], Individual))
        assert [one.sex for one in read_table(tmp_path / "i.csv", Individual)] == [read]


def test_tables_of_a_project_may_have_other_words_for_a_sex(tmp_path):
    """Those of older projects do, and must open."""
    (tmp_path / "i.csv").write_text(table_text([Individual("LION-001", sex="hembra")], Individual))
    (tmp_path / "d.csv").write_text("when,who,kind,a,b,value\n2025-01-02,me,sex,LION-001,,hembra\n")
    assert read_table(tmp_path / "i.csv", Individual)[0].sex == "hembra"
    assert read_table(tmp_path / "d.csv", Decision)[0].value == "hembra"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("when,who,kind,a,value\n2025-01-02,me,sex,x,cub\n", "a sex to be one of female, male, unknown, got 'cub'"),
        ("when,who,kind\n2025,me,same\n", "expected the columns when, .*; it lacks a"),
        ("when,who,kind,a\n2025-01-02,me,marry,x\n", "row 2: expected kind"),
        ("when,who,kind,a\n2025-01-02,me,same,x,y,z\n", "row 2 has 6 cells, expected 4"),
        ("when,who,kind,a\n2025-01-02,me,same\n", "row 2 has 3 cells, expected 4"),
        ("when,who,kind,a\n,me,same,x\n", "row 2: expected when"),
        ("when,who,kind,a\n02/01/2025 10:00,me,same,x\n", "row 2: expected when as 2024-06-03T10:00:00Z, got '02/01"),
        ('when,who,kind,a\n1,me,same,"x\n2,me,same,x\n', "a quote joins the lines 2 to 3"),
        ("when,who,kind,a\n1,me,same," + "x" * 200_000, "field larger than field limit"),
    ],
)
def test_damaged_decisions_are_named(tmp_path, text, said):
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        read_decisions(tmp_path / "d.csv")


@pytest.mark.parametrize("kind", KINDS)
def test_decisions_of_another_project_are_refused_and_change_nothing(tmp_path, kind):
    project = project_in(tmp_path)
    (tmp_path / "d.csv").write_text(DECISIONS.format(kind=kind, a="0" * 16, b="1" * 16))
    before = [*project.photographs], [*project.decisions]
    with pytest.raises(UserError, match="none of them is in .*lions: give the file of this project"):
        add_decisions(project, read_decisions(tmp_path / "d.csv"))
    assert ([*project.photographs], [*project.decisions]) == before


def test_decisions_of_another_project_that_name_its_photographs_in_a_confirm_are_refused_as_a_whole(tmp_path):
    project = project_in(tmp_path)
    shown = "2 photographs: ffffffffffffffff eeeeeeeeeeeeeeee"
    file = [
        Decision("2025-01-02T00:00:00Z", "me", "confirm", "LION-001", value=shown),
        Decision("2025-01-02T00:00:01Z", "me", "merge", "LION-002", "LION-003"),
    ]
    with pytest.raises(UserError, match="name 2 photographs, such as eeeeeeeeeeeeeeee, but none of them is in .*lions"):
        add_decisions(project, file)
    assert len(project.decisions) == 1 and not any(animal.merged_into for animal in project.animals)


UNDONE = [
    Change("e", "joins", "0" * 16, " unsure", "LION-001 proposed", ""),
    Change("e", "moved", ROWS[0].key, "unsure", "LION-001 proposed", ""),
    Change("e", "moved", ROWS[0].key, "LION-001 married", "LION-001 proposed", ""),
    Change("e", "moved", ROWS[0].key, "TIGER-1 proposed", "LION-001 proposed", ""),
    Change("e", "side", "gone", "left", "right", ""),
    Change("e", "name", "TIGER-1", "a", "b", ""),
]


@pytest.mark.parametrize("change", UNDONE, ids=lambda change: f"{change.kind} {change.before}")
def test_changes_that_fit_nothing_are_not_taken_back(tmp_path, change):
    project = project_in(tmp_path)
    project.changes.append(change)
    ledger = Ledger(project, "now")
    ledger.undo("e", "undone")
    ledger.close()
    expected = "" if change.before == "unsure" else ROWS[0].individual  # it had no animal
    assert project.by_key[ROWS[0].key].individual == expected
    assert [one.individual for one in project.photographs[1:]] == [one.individual for one in ROWS[1:]]
    assert [one.name for one in project.animals] == [""] * 3
    project.write()
    open_project(project.folder)


# what other programs say


PATHS = [photograph("st1/a.jpg"), photograph("st1/b.jpg"), photograph("st2/a.jpg")]


def boxes(tmp_path, *images, **more) -> list[Photograph]:
    (tmp_path / "md.json").write_text(json.dumps({"images": list(images), **more}))
    return with_boxes(PATHS, tmp_path / "md.json")


def image(bbox, file="st1/a.jpg", **values) -> dict:
    return {"file": file, "detections": [{"category": "1", "conf": 0.9, "bbox": bbox, **values}]}


WRONG = {
    "not a number": image([float("nan"), 0, 1, 1]),
    "infinite": image([0, 0, float("inf"), 1]),
    "pixels": image([120, 300, 400, 200]),
    "beyond the edge": image([0.8, 0, 0.5, 1]),
    "negative": image([-0.5, 0, 1, 1]),
    "no area": image([0.5, 0.5, 0, 0.1]),
    "three numbers": image([0, 0, 1]),
    "text": image("0011"),
    "no list": {"file": "st1/a.jpg", "detections": 5},
    "no detection": {"file": "st1/a.jpg", "detections": ["a"]},
    "a confidence that is none": image([0, 0, 1, 1], conf=float("nan")),
    "no category": image([0, 0, 1, 1]) | {"detections": [{"conf": 0.9, "bbox": [0, 0, 1, 1]}]},
    "a file that is no text": image([0, 0, 1, 1], file=3),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_box_is_named_with_its_file(tmp_path, wrong):
    with pytest.raises(UserError, match="md.json is damaged"):
        boxes(tmp_path, wrong)


def test_wrong_categories_and_images_that_are_there_twice_are_refused(tmp_path):
    with pytest.raises(UserError, match="md.json is damaged: detection_categories"):
        boxes(tmp_path, image([0, 0, 1, 1]), detection_categories=["animal"])
    with pytest.raises(UserError, match=r"two images that may be st1/a.jpg: st1/a.jpg and .*Leave one of them"):
        boxes(tmp_path, image([0, 0, 1, 1]), image([0, 0, 0.5, 1], file=".\\st1\\a.jpg"))


def test_rounding_at_the_edge_is_cut_and_other_photographs_are_counted(tmp_path):
    rows, note = boxes(tmp_path, image([-0.004, 0.5, 0.504, 0.505]), image([0, 0, 1, 1], file="st3/a.jpg"))
    assert rows[0].box == (0, 0.5, 0.5, 0.5)
    assert "Not among the photographs: 1 image of md.json." in note


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("C:\\cards\\st1\\a.jpg", "st1/a.jpg"),
        ("./st2/a.jpg", "st2/a.jpg"),
        ("b.jpg", "st1/b.jpg"),
        ("a.jpg", None),  # of two stations
        ("st3/b.jpg", None),  # another station's photograph of the same number
        ("xst1/b.jpg", None),
        ("", None),
    ],
)
def test_a_photograph_is_not_taken_for_one_of_another_folder(tmp_path, name, path):
    (tmp_path / "t.csv").write_text(f"path,station\n{name},North\nst2/a.jpg,South\n")
    if path == "st2/a.jpg":
        with pytest.raises(UserError, match="line 3: st2/a.jpg is there twice with other values"):
            with_table(PATHS, tmp_path / "t.csv")
        return
    rows, note = with_table(PATHS, tmp_path / "t.csv")
    assert [row.path for row in rows if row.station == "North"] == [path] * bool(path)
    assert ("Not among the photographs: 1 row of t.csv." in note) == (path is None)


@QUICK
@given(st.lists(st.tuples(st.sampled_from(["st1/a.jpg", "a.jpg", "x.jpg", ""]) | TEXT, TEXT, TEXT), max_size=4))
def test_each_row_of_a_table_is_used_or_counted_or_refused(tmp_path, lines):
    table = io.StringIO(newline="")
    csv.writer(table).writerows([("path", "station", "side"), *lines])
    (tmp_path / "t.csv").write_text(table.getvalue(), newline="")
    try:
        rows, note = with_table(PATHS, tmp_path / "t.csv")
    except UserError as error:
        assert "t.csv" in str(error)
        return
    assert [row.path for row in rows] == [row.path for row in PATHS]
    used = sum(path in ("st1/a.jpg",) for path, *_ in lines)
    assert used > 0 and "photographs are in it" in note


DEPLOYMENTS = "deploymentID,locationID\nd1,North\n"
MEDIA = "mediaID,deploymentID,timestamp,filePath\nm1,d1,2024-06-03T00:30:00Z,st1/a.jpg\n"
OBSERVATIONS = "mediaID,observationType,eventID\nm1,animal,e1\n"
CAMTRAPDP = {
    "no media": ({"media": None}, "media.csv"),
    "no deployments": ({"deployments": None}, "deployments.csv"),
    "no column": ({"media": "mediaID,filePath\nm1,st1/a.jpg\n"}, "media.csv lacks the columns deploymentID, timestamp"),
    "a short row": ({"media": MEDIA + "m2,d1\n"}, "media.csv line 3: 2 cells, but the header has 4"),
    "twice": ({"media": MEDIA + "m2,d1,2024-06-03T00:31:00Z,./st1/a.jpg\n"}, "names st1/a.jpg twice"),
    "no time": (
        {"media": MEDIA.replace("2024-06-03T00:30:00Z", "June")},
        "not a Camtrap DP folder as expected: .*June",
    ),
    "other photographs": ({"media": MEDIA.replace("st1/a", "st9/z")}, "names none of the photographs"),
    "an empty table": ({"observations": ""}, "observations.csv lacks the columns"),
}


def write_camtrapdp(folder, **changes) -> None:
    tables = {"deployments": DEPLOYMENTS, "media": MEDIA, "observations": OBSERVATIONS, **changes}
    for name, text in tables.items():
        if text is not None:
            (folder / f"{name}.csv").write_text(text)


@pytest.mark.parametrize(("changes", "said"), CAMTRAPDP.values(), ids=CAMTRAPDP.keys())
def test_a_broken_camtrap_dp_folder_is_named(tmp_path, changes, said):
    write_camtrapdp(tmp_path, **changes)
    with pytest.raises(UserError, match=said):
        with_camtrapdp(PATHS, tmp_path)


def test_media_that_are_missing_and_events_without_media_are_counted(tmp_path):
    media = MEDIA + "m2,d1,2024-06-03T00:31:00Z,st1/gone.jpg\n"
    write_camtrapdp(tmp_path, media=media, observations=OBSERVATIONS + ",animal,e2\n")
    rows, note = with_camtrapdp(PATHS, tmp_path)
    assert [row.station for row in rows] == ["North", "", ""]
    assert "Not among the photographs: 1 row of media.csv." in note
    assert "Not used, as no photograph is named: 1 observation of an event." in note


# computed files, and code


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "keys twice", "short", "NaN"])
def test_damaged_features_are_named_with_a_cure_that_works(tmp_path, damage):
    features = Features()
    values = np.eye(2, 4, dtype=np.float32)
    features.add(["a", "b"], np.full((2, 4), np.nan) if damage == "NaN" else values, np.zeros((2, 12), np.float32))
    if damage == "short":
        features.values = features.values[:1]
    features.write(tmp_path, "f")
    path = features_file(tmp_path, "f")
    whole = path.read_bytes()
    contents = {"empty": b"", "cut": whole[: len(whole) // 2], "text": b"features"}
    if damage == "keys twice":
        np.savez(path, keys=np.array(["a", "a"]), values=values, borders=np.zeros((2, 12)))
    else:
        path.write_bytes(contents.get(damage, whole))
    with pytest.raises(UserError, match="is damaged: .*Remove it: `fancl discover` computes it again") as caught:
        Features.read(tmp_path, "f")
    assert str(path) in str(caught.value)
    path.unlink()
    assert Features.read(tmp_path, "f").numbers == {}


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", "pairs"], ids=str)
def test_damaged_certainties_are_named(tmp_path, content):
    if content == "pairs":  # of photographs that it does not have
        arrays = {"keys": np.array(["a"]), "pairs": np.array([[0, 7]]), "together": np.ones(1)}
        np.savez(tmp_path / CERTAINTY, **arrays)
    else:
        (tmp_path / CERTAINTY).write_bytes(content)
    with pytest.raises(UserError, match="certainty.npz is damaged"):
        Certainty(tmp_path)


def test_code_of_a_run_that_is_somebodys_encoder_runs_with_the_printed_flag_only(code, tmp_path):
    run = write_run(tmp_path / "run")
    add_imports(run, code)
    project = project_in(tmp_path)
    project.settings["encoder"] = f"run:{run}"
    project.write()
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "photos" / "a.png")
    words = ["discover", str(project.folder), "--photos", str(tmp_path / "photos")]
    with pytest.raises(SystemExit, match="imports code by IMPORTS") as stop:
        command.command_line(words)
    assert not (tmp_path / "it ran").exists()
    flag = str(stop.value.code).rpartition("add: ")[2]
    with pytest.raises(SystemExit, match="error: "):  # of the run's weights, which are none
        command.command_line([*words, *shlex.split(flag)])
    assert (tmp_path / "it ran").exists()


def test_a_row_has_a_field_for_each_column():
    for kind in (Photograph, Individual, Decision, Change):
        assert table_text([], kind).strip().split(",") == [field.name for field in dataclasses.fields(kind)]
