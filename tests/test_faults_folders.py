"""A run's folder stays whole: whatever fails, is killed, runs out of disk or loses its folder."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.runs import arguments
from torch.multiprocessing import ProcessExitedException

from fastreid_fancl.engine.run import command_line
from fastreid_fancl.files import CannotWriteError, replacing

try:
    import resource
except ImportError:  # on Windows
    resource = None

STARTS = {
    "missing weights": {"MODEL__WEIGHTS": "nowhere.pth"},
    "damaged weights": {"MODEL__WEIGHTS": "damaged.pth"},
    "weights of another model": {"MODEL__WEIGHTS": "other.pth"},
    "an unknown layer to freeze": {"MODEL__FREEZE_LAYERS": "('stem',)", "SOLVER__FREEZE_ITERS": 2},
    "a batch of broken groups": {"DATALOADER__NUM_INSTANCE": 3},
    "a data set that is not there": {"DATASETS__NAMES": "('Spots',)"},
    "a precise BatchNorm": {"TEST__PRECISE_BN__ENABLED": True},
}


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
    with pytest.raises(SystemExit, match="was started with other settings"):
        command_line(arguments("cluster_contrast", run, "--resume", SOLVER__MAX_EPOCH=2, **changes))
    assert content(run) == before


def test_a_resume_from_a_damaged_checkpoint_leaves_the_folder_as_it_was(run):
    (run / "model_final.pth").write_bytes(b"PK")
    before = content(run)
    with pytest.raises(SystemExit, match="error: .*model_final.pth"):
        command_line(arguments("cluster_contrast", run, "--resume", SOLVER__MAX_EPOCH=2))
    assert content(run) == before


def space_ends(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_at_the_start_is_one_message_and_leaves_no_empty_file(datasets, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("os.fsync", space_ends)
    with pytest.raises(SystemExit, match="error: .*config.yaml could not be written, as its disk is full"):
        command_line(arguments("cluster_contrast", tmp_path / "run", SOLVER__MAX_EPOCH=1))
    assert not (tmp_path / "run/config.yaml").exists()
    assert "Traceback" not in caplog.text


def test_a_folder_removed_during_a_run_is_one_line(datasets, tmp_path, monkeypatch, caplog):
    folder = tmp_path / "run"
    monkeypatch.setattr("fastreid_fancl.engine.trainer.MeanStatistics.after_epoch", lambda _: shutil.rmtree(folder))
    with pytest.raises(SystemExit, match=r"error: .*run.* could not be written, as its folder is no longer there"):
        command_line(arguments("cluster_contrast", folder, SOLVER__MAX_EPOCH=1))
    assert "Traceback" not in caplog.text and not folder.exists()


def by_torch(path: Path) -> None:
    torch.save({"model": torch.zeros(100_000)}, path)


def by_python(path: Path) -> None:
    path.write_bytes(bytes(400_000))


def by_numpy(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, zeros=np.zeros(50_000))


@pytest.mark.skipif(resource is None, reason="no limits of processes")
@pytest.mark.parametrize("write", [by_torch, by_python, by_numpy])
def test_a_file_that_may_not_grow_is_one_message_and_leaves_the_file_before_it(tmp_path, write):
    (tmp_path / "a").write_text("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(CannotWriteError, match=r"a c(an|ould) ?not be written"), replacing(tmp_path / "a") as path:
            write(Path(path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.ENAMETOOLONG]
)
def test_whatever_keeps_a_file_from_being_written_is_one_message(tmp_path, number):
    (tmp_path / "a").write_text("before")
    with pytest.raises(CannotWriteError, match="a c(an|ould) ?not be written"), replacing(tmp_path / "a") as path:
        Path(path).write_text("half")
        raise OSError(number, os.strerror(number))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGTERM"])
def test_a_process_ended_by_a_signal_is_named_with_the_way_on(datasets, tmp_path, monkeypatch, name):
    def launch(*args, **kwargs):
        number = -signal.Signals[name]
        raise ProcessExitedException("", error_index=1, error_pid=1, exit_code=number, signal_name=name)

    monkeypatch.setattr("fastreid_fancl.engine.run.launch", launch)
    with pytest.raises(SystemExit, match=f"error: process 1 was ended by {name}.*--resume to continue"):
        command_line(arguments("cluster_contrast", tmp_path / "run"))


def test_a_resumed_run_logs_the_losses_of_one_never_stopped(datasets, tmp_path):
    command_line(arguments("cluster_contrast", tmp_path / "whole", SOLVER__MAX_EPOCH=2))
    command_line(arguments("cluster_contrast", tmp_path / "parts", SOLVER__MAX_EPOCH=1))
    command_line(arguments("cluster_contrast", tmp_path / "parts", "--resume", SOLVER__MAX_EPOCH=2))
    whole, parts = (losses(tmp_path / name) for name in ("whole", "parts"))
    assert len(whole) == 2 and whole == parts


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    return [line["total_loss"] for line in lines if "total_loss" in line]


def test_a_run_ends_with_the_process_that_started_it():
    code = "from fastreid_fancl.engine.run import end_with_input; end_with_input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    process.stdin.close()
    assert process.wait(120) == -signal.SIGTERM
