"""A folder is a data set by its name: tables, folders, and what is said when they cannot be used."""

import logging
import os

import pytest
from support.photo_folders import names, photograph, rejected, table, tree, wild

from fastreid_fancl.data import UNLABELLED
from fastreid_fancl.data.check import drop
from fastreid_fancl.data.datasets import FolderDataset, resolve

pytestmark = pytest.mark.usefixtures("root")

# metadata.csv


def test_a_table_with_everything_becomes_items_of_the_agreed_types(root):
    table(
        root,
        "path,identity,split,camera,sex",
        "a.png,Ann,train,north,f",
        "b.png,Bob,query,north,m",
        "c.png,Bob,gallery,south,m",
        "d.png,Cid,gallery,north,m",
    )
    data = wild()
    assert data.train == [(str(root / "Wild" / "a.png"), "Wild_Ann", "Wild_north")]
    assert names(data.query) == {"b.png": (0, 0)}
    assert names(data.gallery) == {"c.png": (0, 1), "d.png": (1, 0)}
    assert all(type(value) is int for item in data.query + data.gallery for value in item[1:])
    assert data.has_cameras and data.test_identities == ["Bob", "Cid"]


@pytest.mark.parametrize(
    ("query", "gallery", "counted"),
    [
        ("1,query,,s", "1,gallery,,s", True),
        ("1,query,x,s", "1,gallery,,s", True),
        ("1,query,x,s", "1,gallery,x,s", False),  # the same camera: left out
        ("1,query,,s", "1,gallery,,t", False),
        ("1,query,,", "1,gallery,,", False),
        ("1,query,,s", "2,gallery,,s", False),
    ],
)
def test_matches_of_the_querys_own_sequence_that_count_are_warned_of(root, caplog, query, gallery, counted):
    table(root, "path,identity,split,camera,sequence", f"a.png,{query}", f"b.png,{gallery}", "c.png,1,gallery,y,u")
    wild()
    assert ("1 of 1 queries have gallery matches in their own sequence" in caplog.text) == counted


def test_without_cameras_query_and_gallery_get_different_numbers(root):
    table(root, "path,identity,split", "a.png,1,train", "b.png,2,query", "c.png,2,gallery")
    data = wild()
    assert not data.has_cameras and data.train[0][2] == "Wild_unknown"
    assert (data.query[0][2], data.gallery[0][2]) == (0, 1)


def test_where_some_cameras_are_unknown_those_match_any(root, caplog):
    rows = ("a.png,2,query,x", "b.png,2,query,Unknown", "c.png,2,gallery,", "d.png,2,train,x")
    table(root, "path,identity,split,camera", *rows)
    data = wild()
    assert names(data.query) == {"a.png": (0, 0), "b.png": (0, 1)} and names(data.gallery) == {"c.png": (0, 2)}
    assert not data.has_cameras and "2 of 4 photographs have no camera" in caplog.text


def test_rows_without_identity_are_unlabelled_training_images(root):
    table(root, "path,identity,split", "a.png,,train", "b.png,Unknown,train", "c.png,unlabelled,train", "d.png,7,train")
    assert [pid for _, pid, _ in wild().train] == [UNLABELLED, UNLABELLED, UNLABELLED, "Wild_7"]


def test_a_table_of_paths_alone_is_all_for_unlabelled_training_and_says_so_when_evaluated(root):
    table(root, "path", "a.png", "b.png")
    data = wild()
    assert len(data.train) == 2 and not data.query and not data.gallery
    data.show_train()
    with rejected(r"Wild has no query and no gallery photographs \(train 2, query 0, gallery 0\); evaluation needs"):
        data.show_test()


def test_column_names_may_be_in_any_case_and_order(root):
    table(root, " Split ,IDENTITY,Path", "query,7,a.png", "Gallery,7,b.png")
    data = wild()
    assert names(data.query) == {"a.png": (0, 0)} and names(data.gallery) == {"b.png": (0, 1)}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_of_spreadsheet_programs_are_read(root, encoding, delimiter):
    rows = ["path,identity,split", "é.png,Zoë,query", "b.png,Zoë,gallery", ""]
    table(root, *(row.replace(",", delimiter) for row in rows), files=("é", "b"), encoding=encoding)
    data = wild()
    assert names(data.query) == {"é.png": (0, 0)} and data.test_identities == ["Zoë"]


def test_a_table_that_is_not_utf8_is_warned_of_with_its_line(root, caplog):
    table(root, "path,identity", "a.png,1", "b.png,Zoë", encoding="cp1252")
    wild(), wild()
    assert caplog.text.count("line 3 is not UTF-8; read as Windows-1252") == 1


def test_paths_written_on_windows_or_with_detours_or_absolute_are_found(root):
    photograph(root / "Wild" / "sub" / "e.png")
    outside = root / "elsewhere" / "f.png"
    photograph(outside)
    table(root, "path", "sub\\e.png", "./sub/../a.png", f"{outside}")
    assert names(wild().train).keys() == {"e.png", "a.png", "f.png"}


def test_a_misspelt_column_is_pointed_at(root, caplog):
    caplog.set_level("INFO", logger="fastreid_fancl")
    table(root, "path,identiy,weather", "a.png,1,rain")
    assert wild().train[0][1] == UNLABELLED
    assert "column 'identiy' is ignored; rename it if it is meant to be 'identity'" in caplog.text
    assert "columns that are not used: weather" in caplog.text


def test_all_bad_rows_are_named_in_one_error_with_line_and_cure(root):
    table(
        root,
        "path,identity,split",
        "a.png,1,train",
        "gone.png,1,train",
        "A.png,1,train",
        "",
        "b.png,1,val",
        "c.png,,gallery",
        ",1,train",
        "d.png,1",
    )
    with pytest.raises(ValueError) as caught:
        wild()
    message = str(caught.value)
    for part in (
        "6 problems",
        "line 3: no file",
        "line 4: no file",
        "(there is a.png: letter case matters)",
        "line 6: split 'val' is not one of train, query, gallery, test",
        "line 7: gallery photographs need an identity",
        "line 8: the path is empty",
        "line 9: 2 fields, but the header has 3",
        f"paths are relative to {root / 'Wild'}",
    ):
        assert part in message


def test_a_thousand_bad_rows_give_ten_and_their_number(root):
    table(root, "path", *(f"gone{n}.png" for n in range(1000)))
    with rejected("1000 problems") as caught:
        wild()
    assert str(caught.value).count("no file") == 10 and "and 990 more" in str(caught.value)


def test_rows_where_only_some_have_a_split_are_named(root):
    table(root, "path,identity,split", "a.png,1,train", "b.png,1,")
    with rejected("line 3: split '' is not one of"):
        wild()


def test_repeated_rows_count_once_and_contradictions_are_named(root, caplog):
    table(root, "path,identity", "a.png,1", "./a.png,1", "b.png,2", files="ab")
    assert len(wild().train) == 2
    assert "1 repeated row dropped\n  metadata.csv line 3, as metadata.csv line 2" in caplog.text
    table(root, "path,identity,split", "a.png,1,query", "b.png,1,gallery", "a.png,2,gallery", name="Other")
    with rejected("line 4: same photograph as metadata.csv line 2, but another identity and split"):
        wild("Other")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "needs a column named path, got no columns"),
        (b"file,id\na.png,1\n", "needs a column named path, got file, id"),
        (b"path,identity,Path\na.png,1,a.png\n", "more than one column named path"),
        (b"path\n\n", "no photographs in .*metadata.csv"),
        (b'path,identity\n"' + b"x" * 200000 + b'",1\n', "line 2 is not CSV"),
    ],
)
def test_tables_that_are_none_say_why(root, content, message):
    (root / "Wild").mkdir()
    (root / "Wild" / "metadata.csv").write_bytes(content)
    with rejected(message):
        wild()


@pytest.mark.parametrize("kind", ["FIFO", "folder", "broken link"])
def test_a_table_that_is_no_file_is_named_and_not_waited_for(root, kind):
    tree(root, "a.png")
    place = root / "Wild" / "metadata.csv"
    {"FIFO": os.mkfifo, "folder": os.mkdir, "broken link": lambda path: os.symlink("gone", path)}[kind](place)
    with rejected("metadata.csv cannot be read .*expected a table in a file"):
        wild()


# folders


def test_split_and_identity_folders_are_read(root):
    tree(root, "train/ann/a.jpg", "train/loose.png")
    tree(root, "query/bob/b.JPG", "gallery/bob/far/below/c.jpeg", "gallery/cid/d.png")
    data = wild()
    assert names(data.train) == {"a.jpg": ("Wild_ann", "Wild_unknown"), "loose.png": (UNLABELLED, "Wild_unknown")}
    assert names(data.query) == {"b.JPG": (0, 0)} and names(data.gallery) == {"c.jpeg": (0, 1), "d.png": (1, 1)}


@pytest.mark.parametrize("places", [("", ""), ("2024/may/", "2024/june/"), ("DCIM/", "DCIM/"), ("", "more/")])
def test_photographs_without_structure_are_unlabelled(root, places):
    tree(root, f"{places[0]}a.jpg", f"{places[1]}b.jpg")
    assert [pid for _, pid, _ in wild().train] == [UNLABELLED] * 2


def test_folders_without_splits_are_identities_and_split_by_rule(root, caplog):
    tree(root, *(f"animal{n}/{i}.jpg" for n in range(6) for i in range(3)))
    with caplog.at_level(logging.INFO):
        data = wild()
    assert (len(data.train), len(data.query), len(data.gallery)) == (9, 9, 9)
    assert "6 folders are used as identities" in caplog.text


@pytest.mark.parametrize("stray", ["map.jpg", "ann/2024/c.jpg"])
def test_a_stray_photograph_beside_folders_of_identities_is_named(root, caplog, stray):
    tree(root, "ann/a.jpg", "bob/b.jpg", stray)
    assert {pid for _, pid, _ in wild().train} == {UNLABELLED}
    assert "2 folders look like identities, but all 3 photographs are used as unlabelled" in caplog.text
    assert f"1 lie elsewhere, such as {stray}; move or remove these, or write a metadata.csv" in caplog.text


def test_hidden_files_and_other_types_are_passed_over_and_counted(root, caplog):
    folder = tree(root, "train/1/a.jpg", "train/1/.hidden.jpg", "train/.thumbs/b.jpg", "__MACOSX/train/1/c.jpg")
    (folder / "train" / "notes.txt").write_text("")
    (folder / "train" / "1" / "raw.CR2").write_text("")
    assert names(wild().train).keys() == {"a.jpg"}
    assert "files of other types are not used: .txt (1), .cr2 (1)" in caplog.text


def test_links_are_followed_and_loops_left(root):
    tree(root, "1/a.jpg", name="real")
    (root / "Wild" / "train").mkdir(parents=True)
    (root / "Wild" / "train" / "x").symlink_to(root / "real" / "1")
    (root / "Wild" / "train" / "loop").symlink_to(root / "Wild")
    assert names(wild().train) == {"a.jpg": ("Wild_x", "Wild_unknown")}


def test_misplaced_test_photographs_and_other_split_names_are_named_together(root):
    tree(root, "train/1/a.jpg", "query/b.jpg", "val/1/c.jpg")
    with rejected(r"2 problems\n  val/ is not a split\n  query/b.jpg lies in no folder of an identity"):
        wild()


def test_photographs_beside_the_splits_are_warned_of(root, caplog):
    tree(root, "train/1/a.jpg", "extra/b.jpg", "c.jpg")
    assert len(wild().train) == 1
    assert "2 photographs outside train, query and gallery are not used (in extra, .)" in caplog.text


def test_an_empty_folder_explains_the_layouts(root):
    (root / "Wild").mkdir()
    with rejected("no photographs in .*Wild. Expected one of\n.*metadata.csv"):
        wild()


# what is allowed and yet rarely meant


def test_identities_in_training_and_test_are_warned_of(root, caplog):
    table(root, "path,identity,split", "a.png,1,train", "b.png,1,query", "c.png,1,gallery")
    wild()
    assert "1 identities are in training and test, so scores will be too high\n  1" in caplog.text


def test_queries_without_a_match_are_named_and_only_they(root, caplog):
    table(root, "path,identity,split", "a.png,1,query", "b.png,2,query", "c.png,1,gallery")
    wild().show_test()
    assert "1 of 2 queries have no gallery match and are not scored" in caplog.text
    assert "b.png" in caplog.text and "a.png" not in caplog.text


def test_a_match_from_the_same_camera_alone_is_no_match(root):
    table(root, "path,identity,split,camera", "a.png,1,query,x", "b.png,1,gallery,x")
    with rejected("no query has a gallery photograph of its identity from another camera"):
        wild().show_test()


@pytest.mark.parametrize(("split", "missing"), [("query", "gallery"), ("gallery", "query")])
def test_a_missing_half_of_the_test_is_named_when_asked_for(root, split, missing):
    table(root, "path,identity,split", f"a.png,1,{split}")
    with rejected(f"has no {missing} photographs"):
        wild().show_test()
    with rejected("has no train photographs .* give some photographs the split train"):
        wild().show_train()


def test_a_missing_folder_says_where_it_was_looked_for(root):
    class Absent(FolderDataset):
        dataset_name = "Absent"

    with rejected(f"there is no folder {root / 'Absent'}. Set FASTREID_DATASETS"):
        Absent()


def test_the_root_is_read_when_used_and_a_root_of_ones_own_wins(root, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    table(root, "path", "a.png")
    table(elsewhere, "path", "a.png", "b.png")
    assert len(wild().train) == 1
    assert len(resolve("Wild")(root=str(elsewhere)).train) == 2
    monkeypatch.setenv("FASTREID_DATASETS", str(elsewhere))
    assert len(wild().train) == 2


def test_all_splits_together_keep_each_animal_and_camera_one(root):
    table(
        root,
        "path,identity,split,camera",
        *("a.png,ada,train,north", "b.png,ada,query,north", "c.png,bo,gallery,south", "d.png,ada,gallery,south"),
    )
    dataset = resolve("Wild")()
    dataset.combine_all()
    assert [item[1:] for item in dataset.train] == [
        *(("Wild_ada", "Wild_north"), ("Wild_ada", "Wild_north"), ("Wild_bo", "Wild_south")),
        ("Wild_ada", "Wild_south"),
    ]


def test_unknown_cameras_are_not_taken_for_two_when_all_splits_are_together(root):
    table(root, "path,identity,split", "a.png,ada,train", "b.png,bo,query", "c.png,bo,gallery")
    dataset = resolve("Wild")()
    drop(dataset, {dataset.query[0][0]})
    dataset.combine_all()
    assert [item[1:] for item in dataset.train] == [("Wild_ada", "Wild_unknown"), ("Wild_bo", "Wild_unknown")]


def test_a_folder_that_cannot_be_read_is_an_error_and_not_left_out(root, monkeypatch):
    tree(root, "ada/1.png", "bo/1.png")
    scan = os.scandir

    def refused(path):
        if str(path).endswith("bo"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(ValueError, match="bo cannot be read .Permission denied."):
        resolve("Wild")()


def test_a_name_that_is_not_utf8_is_told_at_the_start(root):
    tree(root, "ada/1.png")
    os.rename(root / "Wild/ada/1.png", os.fsencode(root / "Wild/ada") + b"/b\xe4r.png")
    with pytest.raises(ValueError, match="not UTF-8.*rename it"):
        resolve("Wild")()
