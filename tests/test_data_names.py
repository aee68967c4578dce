"""Tables as people write them: missing values, spellings, quotes, columns. Nothing is lost without a word."""

import csv
import io
import logging
import os
import unicodedata

import pytest
from support.photo_folders import photograph

from fastreid_fancl.data import UNLABELLED
from fastreid_fancl.data.datasets import names, resolve
from fastreid_fancl.data.datasets.columns import explain_unused
from fastreid_fancl.data.datasets.metadata import COLUMNS


@pytest.fixture(autouse=True)
def root(root, caplog):
    """The same, with messages that are no warnings."""
    caplog.set_level(logging.INFO)
    return root


def wild(root, *rows, files="abcdefgh", name="Wild"):
    """The data set of photographs a.png ... and of a metadata.csv of these lines."""
    for file in files:
        photograph(root / name / f"{file}.png")
    (root / name / "metadata.csv").write_text("\n".join(rows), encoding="utf-8")
    return resolve(name)()


def quoted(*rows):
    """Lines of a table, quoted where CSV needs it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue().rstrip("\n").split("\n")


def identities(data):
    return {os.path.basename(photo.path)[0]: photo.identity for photo in data.photos}


# missing values


SPELLINGS = ["NA", "NaN", "None", "NULL", "n/a", "-", "na", "nUlL", "#N/A", "<NA>", "?", "nil", "N.A.", "(null)", "\\N"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_missing_values_of_any_program_are_empty_fields(root, caplog, spelling):
    data = wild(root, *quoted(["path", "identity", "camera"], *([f"{n}.png", spelling, spelling] for n in "ab")))
    assert [pid for _, pid, _ in data.train] == [UNLABELLED] * 2
    assert [photo.camera for photo in data.photos] == [None, None] and not data.has_cameras
    assert f"written as {spelling!r} (4) count as unknown" in caplog.text


@pytest.mark.parametrize("name", ["Nana", "Nora", "NA1", "0", "-7", "Nat", "nonesuch", "A"])
def test_names_are_not_taken_for_missing_values(root, caplog, name):
    assert identities(wild(root, "path,identity", f"a.png,{name}")) == {"a": name}
    assert "not known" not in caplog.text


@pytest.mark.parametrize("spelling", ["unknown", "Unlabelled", "UNLABELED", ""])
def test_what_says_unknown_needs_no_word(root, caplog, spelling):
    assert identities(wild(root, "path,identity", f"a.png,{spelling}")) == {"a": None}
    assert "not known" not in caplog.text


@pytest.mark.parametrize("spelling", ["NA", "none", "n/a"])
def test_a_test_photograph_of_a_missing_identity_is_refused(root, spelling):
    with pytest.raises(ValueError, match="line 2: query photographs need an identity"):
        wild(root, "path,identity,split", f"a.png,{spelling},query", "b.png,1,gallery", "c.png,2,train")


def test_missing_values_of_splits_are_empty_fields_too(root):
    data = wild(root, "path,identity,split,orientation", "a.png,1,NA,NULL", "b.png,2,null,-")
    assert [photo.split for photo in data.photos] == ["train"] * 2


@pytest.mark.parametrize("folder", ["NA", "None", "nan"])
def test_folders_are_named_as_tables_are(root, caplog, folder):
    for place in ("Ada/a.png", f"{folder}/b.png"):
        photograph(root / "Wild" / place)
    assert identities(resolve("Wild")()) == {"a": "Ada", "b": None}
    assert f"in the folder {folder!r} count as unknown animals" in caplog.text
    photograph(root / "Tests" / "query" / folder / "c.png")
    with pytest.raises(ValueError, match="lies in no folder of an identity"):
        resolve("Tests")()


# line breaks and quotes


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n", "\v", "\x85", "\u2028"])
@pytest.mark.parametrize("column", ["path", "identity", "camera", "split"])
def test_a_line_break_in_a_field_is_refused_with_the_line(root, line_break, column):
    row = {"path": "b.png", "identity": "Bob", "camera": "north", "split": "train"}
    row[column] = f"{row[column]}{line_break}x"
    table = [list(row), ["a.png", "Ann", "north", "train"], list(row.values())]
    with pytest.raises(ValueError, match=f"metadata.csv line 3: a line break in {column}"):
        wild(root, *quoted(*table))


def test_a_quote_that_swallows_rows_is_named(root):
    rows = ('a.png,"Big" Ann', 'b.png,"Bob', "c.png,Cid", 'd.png,"Dan"')
    with pytest.raises(ValueError, match="line 3: a line break in identity .a quote joins the lines 3 to 5: close it"):
        wild(root, "path,identity", *rows)


def test_a_quote_without_an_end_is_named(root):
    with pytest.raises(ValueError, match="line 3: 1 fields, but the header has 2 .a quote joins the lines 3 to 5"):
        wild(root, "path,identity", "a.png,Ann", '"b.png,Bob', "c.png,Cid", "d.png,Dan")


def test_a_quote_that_swallows_more_than_a_field_holds_is_named(root):
    with pytest.raises(ValueError, match="line 3 is not CSV: .*close its quotes"):
        wild(root, "path,identity", "a.png,Ann", 'b.png,"Bob', *["c.png,Cid"] * 20000)


def test_a_quote_that_swallows_rows_in_a_column_that_is_not_used_is_warned_of(root, caplog):
    data = wild(root, "path,identity,notes", 'a.png,1,"nice', "b.png,2,", 'c.png,3,"old', "d.png,4,")
    assert identities(data) == {"a": "1", "d": "4"}
    assert "1 row over several lines, which a quote joins" in caplog.text and "lines 2 to 4" in caplog.text


def test_the_line_is_that_where_a_row_begins(root):
    with pytest.raises(ValueError, match="line 4: no file"):
        wild(root, "path,identity,notes", 'a.png,1,"two', 'lines"', "gone.png,2,")


def test_a_file_whose_name_has_a_line_break_is_named(root):
    photograph(root / "Wild" / "Ann" / "a\nb.png")
    with pytest.raises(ValueError, match="has a line break, so no table can hold it: rename it"):
        resolve("Wild")()


# Unicode, letter case, leading zeros


def forms(name):
    return unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)


@pytest.mark.parametrize("name", ["émile", "Åsa", "Zoë", "각시", "ḍ̇x"])
def test_composed_and_decomposed_names_are_one(root, name):
    composed, decomposed = forms(name)
    assert composed != decomposed
    data = wild(root, "path,identity,camera", f"a.png,{composed},{decomposed}", f"b.png,{decomposed},{composed}")
    assert {(photo.identity, photo.camera) for photo in data.photos} == {(composed, composed)}


@pytest.mark.parametrize("place", ["émile.png", "Åsa/x.png", "Zoë/Zoë/各é.png"])
@pytest.mark.parametrize("on_disk", [0, 1])
def test_files_are_found_by_names_in_another_form(root, place, on_disk):
    photograph(root / "Wild" / forms(place)[on_disk])
    data = wild(root, "path,identity", f"{forms(place)[1 - on_disk]},1", f"{forms(place)[on_disk]},1", files="")
    assert [photo.path for photo in data.photos] == [str(root / "Wild" / forms(place)[on_disk])]


def test_files_that_differ_in_their_form_only_are_each_its_own(root):
    composed, decomposed = forms("é.png")
    for place in (composed, decomposed):
        photograph(root / "Wild" / place)
    if len(os.listdir(root / "Wild")) < 2:
        pytest.skip("the file system takes them for one")
    data = wild(root, "path,identity", f"{composed},1", f"{decomposed},2", files="")
    assert {photo.path.rpartition("/")[2]: photo.identity for photo in data.photos} == {composed: "1", decomposed: "2"}


def test_folders_of_one_name_in_two_forms_are_one_animal(root):
    for n, place in enumerate(forms("Zoë")):
        photograph(root / "Wild" / place / f"{n}.png")
    photograph(root / "Wild" / "Ann" / "2.png")
    assert sorted(set(identities(resolve("Wild")()).values())) == ["Ann", forms("Zoë")[0]]


@pytest.mark.parametrize(
    "pair", [("Bob", "bob"), ("7", "007"), ("F12", "F012"), ("Old Joe", "OldJoe"), ("7", "7.0"), ("STRASSE", "Straße")]
)
@pytest.mark.parametrize("column", ["identity", "camera"])
def test_names_that_are_nearly_equal_are_warned_of(root, caplog, pair, column):
    data = wild(root, f"path,{column}", f"a.png,{pair[0]}", f"b.png,{pair[1]}")
    assert {getattr(photo, column) for photo in data.photos} == set(pair), "they are left as they are"
    assert f"1 groups of {column} names differ only in letter case, leading zeros or spaces" in caplog.text
    assert all(repr(name) in caplog.text for name in pair)


@pytest.mark.parametrize(
    "pair", [("10", "100"), ("1", "01x"), ("1.05", "1.5"), ("Bob", "Bop"), ("0", "00x"), ("2", "20.0")]
)
def test_names_that_are_different_are_not_warned_of(pair):
    assert names.near_duplicates(pair) == []


@pytest.mark.parametrize("on_disk", [0, 1])
def test_a_data_set_is_found_by_a_name_in_another_form(root, on_disk):
    photograph(root / forms("Pandas_Népal")[on_disk] / "a.png")
    assert len(resolve(forms("Pandas_Népal")[1 - on_disk])().train) == 1


# columns


@pytest.mark.parametrize(
    ("column", "known"),
    [
        *(("individualID", "identity"), ("label", "identity"), ("animal_id", "identity")),
        *(("Individual Name", "identity"), ("name", "identity"), ("identities", "identity")),
        *(("subset", "split"), ("CamID", "camera")),
        *(("camera-trap", "camera"), ("viewpoint", "orientation"), ("camara", "camera")),
    ],
)
def test_a_column_by_another_name_is_pointed_at_once(root, caplog, column, known):
    wild(root, f"path,{column},sex", "a.png,1,f")
    wild(root, f"path,{column},sex", "a.png,1,f")
    assert caplog.text.count(f"column {column!r} is ignored; rename it if it is meant to be {known!r}") == 1
    assert caplog.text.count("columns that are not used: sex") == 1


def test_no_column_is_pointed_at_whose_place_is_taken(root, caplog):
    wild(root, "path,identity,name,weather,", "a.png,1,Ann,rain,")
    assert "rename" not in caplog.text and "not used: name, weather, (without a name)" in caplog.text


def test_a_table_without_a_path_names_the_column_that_is_likely_meant(root):
    with pytest.raises(ValueError, match="column named path, got filename, identity .is it filename... Expected"):
        wild(root, "filename,identity", "a.png,1")


BOXES = [
    ["bbox"],
    ["bbox_x", "bbox_y", "bbox_w", "bbox_h"],
    ["xmin", "ymin", "xmax", "ymax"],
    ["x", "y", "w", "h"],
    ["Box.1"],
    ["left", "top", "right", "bottom"],
]


@pytest.mark.parametrize("box", BOXES)
def test_boxes_are_named_as_not_used(root, caplog, box):
    zeros = "," + ",".join("0" * len(box))
    wild(root, f"path,identity,{','.join(box)}", f"a.png,1{zeros}", f"b.png,2{zeros}")
    assert f"the boxes in {', '.join(box)} are not used: whole photographs are used" in caplog.text


@pytest.mark.parametrize("box", BOXES)
def test_two_boxes_of_a_photograph_are_no_repeated_row(root, caplog, box):
    header = f"path,identity,{','.join(box)}"
    one, other = (",".join([value] * len(box)) for value in "01")
    wild(root, header, f"a.png,,{one}", f"a.png,,{other}", f"a.png,,{one}")
    assert "1 row dropped for naming the photograph of an earlier row (with another box, but boxes" in caplog.text
    assert "1 repeated row dropped\n  metadata.csv line 4, as metadata.csv line 2" in caplog.text
    with pytest.raises(ValueError, match="line 3: same photograph as .*, but another identity .with another box"):
        wild(root, header, f"a.png,Ann,{one}", f"a.png,Bob,{other}", name="Two")


def test_width_and_height_alone_are_no_box():
    unused = "columns that are not used: width, height, x, y"
    assert explain_unused(["path", "width", "height", "x", "y"], COLUMNS) == ([], unused)
