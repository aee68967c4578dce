"""What ends a command in one line, and what keeps its traceback."""

import os
import pickle

import pytest
from conftest import REPO

from fastreid_fancl.errors import UserError, did_you_mean, exit_with_message, nearest_names
from fastreid_fancl.files import make_folder, write_text


@pytest.mark.parametrize("error", [UserError("expected 2 of \x1b[2J, got 1"), PermissionError(13, "denied", "here")])
def test_what_the_user_can_fix_ends_in_one_line(error):
    with pytest.raises(SystemExit, match=r"^error: ") as stop, exit_with_message():
        raise error
    assert "\x1b" not in str(stop.value), "a terminal would obey it"


@pytest.mark.parametrize("error", [ValueError("shapes differ"), KeyError("x"), OSError("no number"), TypeError()])
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)) as raised, exit_with_message():
        raise error
    assert raised.value is error


def test_ctrl_c_says_how_to_go_on_where_that_is_known():
    with pytest.raises(SystemExit, match="^stopped: use --resume$"), exit_with_message("use --resume"):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), exit_with_message():
        raise KeyboardInterrupt


def test_who_meets_an_error_survives_the_way_to_another_process():
    alone, all_of_them = (pickle.loads(pickle.dumps(UserError("x", one_rank=alone))) for alone in (True, False))
    assert alone.one_rank and not all_of_them.one_rank


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_file_in_the_place_of_a_folder_and_a_folder_in_that_of_a_file_are_explained(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"file.* cannot be written \(.*\): choose another path"):
            make_folder(folder)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder cannot be written"):
        write_text(tmp_path / "folder", "text")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_names_that_are_near_are_asked_about_and_others_are_not():
    known = ["resnet18", "resnet50", "vit_small"]
    assert did_you_mean("resnet5", known) == " Did you mean resnet50 or resnet18?"
    assert did_you_mean("resnet5", known, number=1) == " Did you mean resnet50?"
    assert did_you_mean("convnext", known) == ""
    assert nearest_names("convnext", known, number=3, least=0) != []


def test_near_names_are_looked_for_in_one_place():
    using = {path.name for path in (REPO / "fastreid_fancl").rglob("*.py") if "difflib" in path.read_text()}
    assert using == {"errors.py"}


def test_no_module_raises_a_bare_value_error_at_the_user():
    """A `UserError` is what the commands report; checks of values in a file, and argparse, have their own reporters."""
    own_reporter = {"checked.py", "errors.py"}
    files = [path for path in (REPO / "fastreid_fancl").rglob("*.py") if path.name not in own_reporter]
    assert len(files) > 100
    assert not [path.name for path in files if "raise ValueError(" in path.read_text()]


def test_every_error_of_this_package_on_wrong_values_is_a_user_error():
    sources = [path.read_text() for path in (REPO / "fastreid_fancl").rglob("*.py")]
    assert sum(source.count("Error(ValueError)") for source in sources) == 1
