"""A run's folder may come from somebody else: it runs no code, shows no file of this machine, and forges no text."""

import csv
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from fastreid.utils.logger import setup_logger
from PIL import Image
from support.run_folders import add_imports, settings, write_run

from fastreid_fancl.compare.command import command_line as compare
from fastreid_fancl.escape import csv_cell, markdown, message, visible
from fastreid_fancl.individuals.grouping import command_line as group
from fastreid_fancl.runs.read import read_run
from fastreid_fancl.visualize.command import command_line as visualize

COMMANDS = {
    "group": lambda *words: group(["--run", *words]),
    "clusters": lambda *words: visualize(["clusters", "--run", *words]),
    "retrieval": lambda *words: visualize(["retrieval", "--run", *words]),
}


def add_imports_below(run: Path, code: Path) -> None:
    """By a base of the configuration."""
    (run / "base.yaml").write_text(yaml.safe_dump({"IMPORTS": [os.fspath(code)]}))
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["IMPORTS"]
    (run / "config.yaml").write_text(yaml.safe_dump({"_BASE_": "base.yaml", **config}))


def add_imports_in_one_of_two_bases(run: Path, code: Path) -> None:
    """By the first of several bases."""
    add_imports_below(run, code)
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "other.yaml").write_text("SEED: 0\n")
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "_BASE_": ["base.yaml", "other.yaml"]}))


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
@pytest.mark.parametrize("add", [add_imports, add_imports_below, add_imports_in_one_of_two_bases])
def test_code_of_somebody_elses_run_is_refused_until_the_printed_flag_allows_it(run, code, tmp_path, command, add):
    add(run, code)
    trace = tmp_path / "it ran"
    with pytest.raises(SystemExit) as stop:
        command(os.fspath(run))
    said = str(stop.value.code)
    assert os.fspath(code) in said and not trace.exists()
    with pytest.raises(SystemExit, match="--allow-imports"):
        command(os.fspath(run), "--allow-imports", "other.py")
    assert not trace.exists()
    cure = shlex.split(said.rpartition("add: ")[2])
    command(os.fspath(run), *cure)
    assert trace.exists()


def test_imports_on_the_command_line_and_of_ones_own_configuration_are_the_users(run, code, tmp_path):
    add_imports(run, code)
    group(["--run", os.fspath(run), "IMPORTS", "()"])
    assert not (tmp_path / "it ran").exists()
    weights = os.fspath(run / "model_final.pth")
    group(["--config-file", os.fspath(run / "config.yaml"), "MODEL.WEIGHTS", weights, "OUTPUT_DIR", os.fspath(run)])
    assert (tmp_path / "it ran").exists()


HOSTILE = "=1+1\x1b[2Jname\nnext|*x*<b>\u202e"  # also the name of a folder
OUTSIDE = ["../../private.png", "/etc/hostname.png", "sub/private.png", "..\\private.png", "link.png", "C:private.png"]
PICTURE = r'<img[^>]*src="data:'


def write_picture(run: Path, name: str) -> None:
    (run / "pictures").mkdir()
    entry = {"kind": "fana", "file": name, "caption": "c", "alt": "a"}
    (run / "pictures/index.json").write_text(json.dumps([entry]))


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_page_holds_pictures_of_a_runs_own_folder_only(tmp_path, name, caplog):
    pytest.importorskip("plotly")
    run = write_run(tmp_path / "runs/fancl")
    write_picture(run, "private.png")
    Image.new("RGB", (3, 3)).save(run / "pictures/private.png")
    words = ["--runs", os.fspath(run), "--output", os.fspath(tmp_path / "out")]
    compare([], words)
    assert re.search(PICTURE, (tmp_path / "out/report.html").read_text()), "its own is shown"
    shutil.rmtree(run / "pictures")
    write_picture(run, name)
    (run / "pictures/sub").mkdir()
    for place in ("runs/private.png", "runs/fancl/pictures/sub/private.png"):
        Image.new("RGB", (3, 3)).save(tmp_path / place)
    (run / "pictures/link.png").symlink_to(tmp_path / "runs/private.png")
    compare([], words)
    assert not re.search(PICTURE, (tmp_path / "out/report.html").read_text())
    assert "index.json" in caplog.text


TAGS = ["../other/model_final.pth", "/other/model_final.pth", "..", "a\0b", "x" * 300, "\u202e"]
FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1+1", " =1+1", "＝1+1", "\r\n=cmd|' /C calc'!A0"]


@pytest.mark.parametrize("name", TAGS)
def test_a_checkpoint_is_a_file_of_the_runs_own_folder(tmp_path, name):
    run = write_run(tmp_path / "fancl")
    shutil.copytree(run, tmp_path / "other")
    (run / "last_checkpoint").write_text(name)
    if name == "\u202e":  # an odd name, and a plain one: a file that is not there
        assert read_run(run).checkpoint is None
        return
    with pytest.raises(ValueError, match="last_checkpoint is damaged: expected the plain name"):
        read_run(run)


def test_names_are_escaped_in_the_terminal_in_tables_and_on_the_page(tmp_path, capsys):
    pytest.importorskip("plotly")
    config = settings()
    config["DATASETS"]["NAMES"] = [HOSTILE]
    runs = [write_run(tmp_path / name, config=config) for name in (HOSTILE, "@SUM")]
    start = {"commit": HOSTILE, "machine": HOSTILE, "versions": {HOSTILE: "1"}, "processes": 1, "threads": 1}
    (runs[0] / "run.json").write_text(json.dumps([start]))
    words = ["--runs", *map(os.fspath, runs), "--output", os.fspath(tmp_path / "out")]
    compare([], words)
    texts = {path.name: path.read_text() for path in (tmp_path / "out").iterdir() if path.suffix != ".html"}
    texts["terminal"] = capsys.readouterr().out
    page = (tmp_path / "out/report.html").read_text()
    assert "\x1b[2J" not in page and "<b>" not in page.split("</script>")[-1]
    for text in texts.values():
        assert "\x1b" not in text and "\u202e" not in text
        assert r"=1+1\x1b[2Jname\n" in text or r"=1+1\\x1b\[2Jname\\n" in text or r"textbackslash{}x1b" in text
    assert r"next\|\*x\*&lt;b&gt;" in texts["comparison.md"]
    for name in ("comparison.csv", "runs.csv"):
        cells = [cell for row in csv.reader(texts[name].splitlines()) for cell in row]
        assert not any(cell.startswith(("=", "@", "+", "-")) for cell in cells)
        assert "'@SUM" in cells


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_text_is_a_formula(text):
    assert not csv_cell(text).lstrip().startswith(("=", "+", "-", "@", "＝"))
    assert csv_cell(text.strip()).startswith("'")


def test_numbers_and_plain_names_stay_as_they_are():
    plain = ["-1.5", "+2e3", "fancl_0", "Müller, 王 & 虎", "a_b"]
    assert [csv_cell(text) for text in plain] == plain
    assert visible("Müller, 王 🐾") == "Müller, 王 🐾"
    assert markdown("pcb_rpp 1.5") == "pcb_rpp 1.5"


@pytest.mark.parametrize("char", ["\x07", "\x1b", "\x7f", "\x9b", "\u2028", "\u202e", "\u200b", "\ud800", "\r"])
def test_what_a_terminal_would_obey_or_hide_is_shown(char):
    assert char not in message(f"a{char}b") and len(visible(char)) >= 2
    assert message("two\n\tlines") == "two\n\tlines"


def test_messages_of_the_command_line_are_escaped(tmp_path):
    folder = tmp_path / "bad\x1b[2Jname"
    with pytest.raises(SystemExit) as stop:
        compare([], ["--runs", os.fspath(folder), "--output", os.fspath(tmp_path / "out")])
    with pytest.raises(SystemExit) as other:
        group(["--run", os.fspath(folder)])
    assert all("\x1b" not in str(one.value.code) and r"\x1b[2J" in str(one.value.code) for one in (stop, other))


def test_the_log_shows_names_and_keeps_colours(tmp_path, capsys):
    log = setup_logger(str(tmp_path))
    log.info("animal \x1b]0;title\x07 and \x1b[31mred\x1b[0m")
    for text in (capsys.readouterr().out, (tmp_path / "log.txt").read_text()):
        assert r"\x1b]0;title\x07" in text and "\x1b[31mred" in text
