"""A run's folder may come from somebody else: it runs no code, shows no file of this machine, and forges no text."""

import csv
import json
import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from test_engine import arguments
from test_engine import command_line as train
from test_report_runs import settings, write_run

from fastreid_fancl.grouping import command_line as group
from fastreid_fancl.visualize.command import command_line as visualize

COMMANDS = {
    "group": lambda *words: group(["--run", *words]),
    "clusters": lambda *words: visualize(["clusters", "--run", *words]),
    "retrieval": lambda *words: visualize(["retrieval", "--run", *words]),
}


@pytest.fixture(scope="module")
def finished(animals, tmp_path_factory):
    """The folder of a finished run of one epoch."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", os.fspath(animals))
        train(arguments("cluster_contrast", folder, SOLVER__MAX_EPOCH=1))
    return folder


@pytest.fixture
def run(finished, datasets, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def code(tmp_path):
    """A file of Python that leaves a trace where it runs, with a blank in its name."""
    path = tmp_path / "their code.py"
    path.write_text(f"open({os.fspath(tmp_path / 'it ran')!r}, 'w').close()\n")
    yield path
    sys.modules.pop(str(path), None)


def add_imports(run: Path, code: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "IMPORTS": [os.fspath(code)]}))


def add_imports_below(run: Path, code: Path) -> None:
    """By a base of the configuration."""
    (run / "base.yaml").write_text(yaml.safe_dump({"IMPORTS": [os.fspath(code)]}))
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["IMPORTS"]
    (run / "config.yaml").write_text(yaml.safe_dump({"_BASE_": "base.yaml", **config}))


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
@pytest.mark.parametrize("add", [add_imports, add_imports_below])
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
