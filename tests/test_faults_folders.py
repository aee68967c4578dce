"""A run's folder stays whole: whatever fails, is killed, runs out of disk or loses its folder."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from test_engine import arguments, command_line

STARTS = {
    "missing weights": {"MODEL__WEIGHTS": "nowhere.pth"},
    "damaged weights": {"MODEL__WEIGHTS": "damaged.pth"},
    "weights of another model": {"MODEL__WEIGHTS": "other.pth"},
    "an unknown layer to freeze": {"MODEL__FREEZE_LAYERS": "('stem',)", "SOLVER__FREEZE_ITERS": 2},
    "a batch of broken groups": {"DATALOADER__NUM_INSTANCE": 3},
    "a data set that is not there": {"DATASETS__NAMES": "('Spots',)"},
    "a precise BatchNorm": {"TEST__PRECISE_BN__ENABLED": True},
}


@pytest.fixture(scope="module")
def finished(animals, tmp_path_factory):
    """The folder of a finished run of one epoch."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", os.fspath(animals))
        command_line(arguments("cluster_contrast", folder, SOLVER__MAX_EPOCH=1))
    return folder


@pytest.fixture
def run(finished, datasets, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the lock, which is empty."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {os.fspath(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("changes", STARTS.values(), ids=STARTS.keys())
def test_a_start_that_fails_leaves_the_folder_of_another_run_as_it_was(run, tmp_path, monkeypatch, changes):
    monkeypatch.chdir(tmp_path)
    Path("damaged.pth").write_bytes(b"PK\x03\x04 and no more")
    torch.save({"fc.weight": torch.zeros(2)}, "other.pth")
    before = content(run)
    for flags in ((), ("--eval-only",)) if "MODEL__WEIGHTS" in changes else ((),):
        with pytest.raises(SystemExit, match="error: "):
            command_line(arguments("cluster_contrast", run, *flags, SEED=7, SOLVER__MAX_EPOCH=1, **changes))
        assert content(run) == before


@pytest.mark.parametrize("changes", [{"MODEL__BACKBONE__DEPTH": "34x"}, {"SOLVER__BASE_LR": 0.5}], ids=str)
def test_a_resume_that_is_refused_leaves_the_folder_as_it_was(run, changes):
    before = content(run)
    with pytest.raises(SystemExit, match="has other settings"):
        command_line(arguments("cluster_contrast", run, "--resume", SOLVER__MAX_EPOCH=2, **changes))
    assert content(run) == before


def test_a_resume_from_a_damaged_checkpoint_leaves_the_folder_as_it_was(run):
    (run / "model_final.pth").write_bytes(b"PK")
    before = content(run)
    with pytest.raises(SystemExit, match="error: .*model_final.pth"):
        command_line(arguments("cluster_contrast", run, "--resume", SOLVER__MAX_EPOCH=2))
    assert content(run) == before
