"""The command `fancl`, and shipped configurations by name."""

import os
import re
import signal
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import REPO
from support.runs import SMALL

import fastreid_fancl
from fastreid_fancl import shipped
from fastreid_fancl.compare import command as compare
from fastreid_fancl.engine import run as engine_run
from fastreid_fancl.shipped import config_names, configs_folder, find_config

sys.path.insert(0, os.fspath(REPO))  # fancl.py lies beside the package
import fancl  # noqa: E402

WITHOUT_FASTREID = "import sys; sys.modules['fastreid'] = None; sys.path.insert(0, {!r}); "
CURE = "pip install --no-deps fastreid==1.4.0"


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


@pytest.fixture
def called(monkeypatch):
    """The arguments with which tools/train_net.py would have been called."""
    calls = []
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(engine_run, "command_line", lambda: calls.append(list(sys.argv)))
    return calls


def test_help_lists_the_commands_without_loading_pytorch():
    code = f"import sys; sys.path.insert(0, {os.fspath(REPO)!r}); import fancl; fancl.parser().print_help(); "
    done = python(code + "assert 'torch' not in sys.modules")
    assert done.returncode == 0, done.stderr
    assert all(re.search(rf"^    {name}\b", done.stdout, re.MULTILINE) for name in fancl.COMMANDS)


@pytest.mark.parametrize("name", fancl.COMMANDS)
def test_every_command_is_there(name):
    assert callable(fancl.load(fancl.COMMANDS[name][0]))


def test_the_version_is_the_package_s(capsys):
    with pytest.raises(SystemExit) as stop:
        fancl.main(["--version"])
    assert not stop.value.code
    assert capsys.readouterr().out == f"fancl {fastreid_fancl.__version__}\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "RedPanda/fancl", "--resume", "SEED", "1"], "--config-file RedPanda/fancl --resume SEED 1"),
        (["train", "--config-file", "a.yml", "SEED", "1"], "--config-file a.yml SEED 1"),
        (["train", "--num-gpus", "2", "--config-file", "a.yml"], "--num-gpus 2 --config-file a.yml"),
        (["train", "--help"], "--help"),
        (["plan", "a.yml", "--num-gpus", "2"], "--plan --config-file a.yml --num-gpus 2"),
    ],
)
def test_train_and_plan_take_the_configuration_first(called, words, expected):
    fancl.main(words)
    assert called == [[f"fancl {words[0]}", *expected.split()]]


def test_the_runs_of_compare_are_processes_of_fancl_train(monkeypatch):
    programs = []
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(compare, "command_line", lambda program: programs.append(program) or 1)
    assert fancl.main(["compare", "--output", "x"]) == 1, "the exit status is that of the comparison"
    assert programs == [[sys.executable, os.fspath(REPO / "fancl.py"), "train"]]
    assert sys.argv == ["fancl compare", "--output", "x"]


def test_compare_takes_shipped_names(tmp_path):
    words = ["--config-files", "RedPanda/fancle", "--output", os.fspath(tmp_path), "--dry-run"]
    with pytest.raises(SystemExit, match="error: There is no configuration file .*nearest .*RedPanda/fancl.*-files"):
        compare.command_line([], words)


def test_an_unknown_command_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit) as stop:
        fancl.main(["fly"])
    assert stop.value.code == 2
    assert "visualize" in capsys.readouterr().err


def test_without_fastreid_the_line_that_installs_it_is_said():
    code = WITHOUT_FASTREID.format(os.fspath(REPO))
    done = python(code + "import fastreid_fancl")
    assert done.returncode == 1 and done.stderr.splitlines()[-1].endswith(CURE)
    done = python(code + "import fancl; fancl.main(['train', 'RedPanda/fancl'])")
    assert done.returncode == 1
    assert done.stderr == f"error: fastreid_fancl needs fast-reid. Install it by: {CURE}\n"


def test_a_run_by_a_shipped_name_says_on_the_console_what_a_person_needs(datasets, tmp_path):
    opts = [str(word) for pair in {**SMALL, "OUTPUT_DIR": tmp_path / "run"}.items() for word in pair]
    command = [sys.executable, os.fspath(REPO / "fancl.py"), "train", "RedPanda/cluster_contrast", *opts]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=280)
    assert done.returncode == 0, done.stderr
    console, log = done.stdout, (tmp_path / "run/log.txt").read_text()
    for said in (
        "Trains on Stripes: 36 photographs, 6 animals, unknown cameras.",
        "Tests on Stripes: 3 queries of 3 animals, 15 in the gallery.",
        "Training starts from random weights",
    ):
        assert said in console and said in log
    epochs = re.findall(r"Epoch (\d) of 2: loss \S+, \d+ clusters, \d+ photographs left out,.*", console)
    assert epochs == ["1", "2"]
    assert re.search(r"Epoch 2 of 2: .*mAP \d+\.\d, Rank-1 \d+\.\d", console)
    assert console.count("| mAP") == 1 and "Rank-5" in console, "the table of the last epoch"
    for detail in ("Running with full config", "Model:\n", "seconds_clustering", "epoch/iter", "inference"):
        assert detail in log and detail not in console


@pytest.mark.parametrize("name", ["RedPanda/fancl", "RedPanda/fancl.yml", "configs/RedPanda/fancl.yml"])
def test_a_shipped_configuration_is_found_by_name_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(find_config(name)).samefile(REPO / "configs/RedPanda/fancl.yml")


def test_an_existing_file_wins_over_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "RedPanda").mkdir()
    (tmp_path / "RedPanda/fancl.yml").write_text("SEED: 7\n")
    assert find_config("RedPanda/fancl.yml") == "RedPanda/fancl.yml"
    assert fastreid_fancl.load_config("RedPanda/fancl.yml").SEED == 7
    (tmp_path / "RedPanda/spcl").mkdir()
    assert find_config("RedPanda/spcl") == os.fspath(configs_folder() / "RedPanda/spcl.yml"), "a folder is not a file"


@pytest.mark.parametrize(
    ("name", "near"), [("RedPanda/fancle", "RedPanda/fancl"), ("redpanda/spcl.yml", "RedPanda/spcl"), ("x", None)]
)
def test_an_unknown_name_lists_near_ones(name, near):
    with pytest.raises(ValueError, match=f"no configuration file {name} in .*Check --config-file") as caught:
        find_config(name)
    assert (near or "Check") in str(caught.value)
    assert ("nearest" in str(caught.value)) == bool(near)


def test_studies_are_found_by_name():
    assert find_config("studies/batchnorm", "--study") == os.fspath(configs_folder() / "studies/batchnorm.yml")
    with pytest.raises(ValueError, match="no study nothing.*Check --study"):
        find_config("nothing", "--study")


def test_configurations_inside_the_package_come_first(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "PACKAGE", tmp_path / "fastreid_fancl")
    assert configs_folder() == tmp_path / "configs"
    (tmp_path / "fastreid_fancl/configs").mkdir(parents=True)
    (tmp_path / "fastreid_fancl/configs/mine.yml").write_text("SEED: 1\n")
    assert config_names() == ["mine"]


@pytest.mark.skipif(int(version("setuptools").split(".")[0]) < 77, reason="needs setuptools 77")
def test_the_wheel_holds_the_configurations_and_the_command_and_runs_where_it_is_installed(tmp_path):
    tracked = subprocess.run(["git", "ls-files"], cwd=REPO, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        if name.startswith(("fastreid_fancl/", "configs/")) or "/" not in name:
            (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "source" / name).write_bytes((REPO / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, "./source"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"fastreid_fancl-{fastreid_fancl.__version__}-")
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
        entry = next(name for name in names if name.endswith("entry_points.txt"))
        assert "fancl = fancl:main" in content.read(entry).decode()
    assert {f"fastreid_fancl/{name}" for name in tracked if name.startswith("configs/")} <= names
    assert {name for name in tracked if name.startswith("fastreid_fancl/")} <= names
    assert "fancl.py" in names and "fastreid_fancl/py.typed" in names

    place, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "--target", place, wheel]
    subprocess.run(pip, check=True, capture_output=True)
    elsewhere.mkdir()
    assert (place / "bin/fancl").is_file()
    lines = ["import fancl, fastreid_fancl as own", "print(own.__file__, own.load_config('RedPanda/fancl').OUTPUT_DIR)"]
    code = "; ".join([*lines, "fancl.main(['train', 'RedPanda/fancle'])"])
    env = {**os.environ, "PYTHONPATH": os.fspath(place), "NUMBA_DISABLE_JIT": "1"}  # else it compiles for a minute
    done = subprocess.run([sys.executable, "-c", code], cwd=elsewhere, env=env, capture_output=True, text=True)
    assert done.stdout.split() == [os.fspath(place / "fastreid_fancl/__init__.py"), "logs/RedPanda/fancl"], done.stderr
    assert done.returncode == 1 and "the nearest that are shipped: RedPanda/fancl" in done.stderr


def test_the_citation_names_the_version():
    assert f"\nversion: {fastreid_fancl.__version__}\n" in (REPO / "CITATION.cff").read_text()
