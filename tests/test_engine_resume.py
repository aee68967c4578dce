"""A run that stops and resumes ends as the run that never stopped."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import REPO, write_animals
from support.runs import METHODS, TINY, arguments, metrics, same, tiny, weights

from fastreid_fancl import load_config
from fastreid_fancl.engine.run import command_line
from fastreid_fancl.engine.trainer import check_state
from fastreid_fancl.methods import ClusterContrast


@pytest.mark.parametrize(
    ("method", "cameras", "iterations"), [("fancl", 0, 4), ("ice", 2, 4), ("resnet50", 0, 12), ("densenet121", 0, 12)]
)
def test_a_killed_run_resumes_to_the_weights_of_one_never_stopped(stripes, tmp_path, method, cameras, iterations):
    stripes(cameras)
    long = {"SOLVER__MAX_EPOCH": 4, "SOLVER__ITERS_PER_EPOCH": iterations, "DATALOADER__NUM_WORKERS": 1}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command_line(arguments(method, whole, **long))

    command = [sys.executable, os.fspath(REPO / "tools/train_net.py"), *arguments(method, killed, **long)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 400  # of which a busy machine may need most
    while not (killed / "last_checkpoint").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)  # into the next epoch
    assert process.poll() is None, "the run ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert (killed / "last_checkpoint").exists()
    assert not (killed / "model_final.pth").exists()

    command_line(arguments(method, killed, "--resume", **long))
    assert same(weights(whole), weights(killed))
    iterations = [line["iteration"] for line in metrics(killed)]
    assert iterations == sorted(set(iterations)), "nothing is logged twice"


@pytest.mark.parametrize(("method", "cameras"), [*((method, 0) for method in METHODS), ("pplr", 2), ("jcl", 2)])
def test_a_run_in_two_parts_ends_with_the_weights_of_one(stripes, tmp_path, method, cameras):
    stripes(cameras)
    keys = tiny(method) if method != "resnet50" else {}  # one with a ResNet of fast-reid
    command_line(arguments(method, tmp_path / "whole", SOLVER__MAX_EPOCH=3, **keys))
    command_line(arguments(method, tmp_path / "parts", SOLVER__MAX_EPOCH=2, **keys))
    command_line(arguments(method, tmp_path / "parts", "--resume", SOLVER__MAX_EPOCH=3, **keys))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_checkpoint_resumes_with_rows_in_another_order_and_not_with_other_images(datasets, tmp_path, monkeypatch):
    command_line(arguments("spcl", tmp_path / "run", SOLVER__MAX_EPOCH=1, **TINY))
    write_animals(tmp_path / "fewer/Stripes", images=5)
    write_animals(tmp_path / "turned/Stripes", identity=lambda number: str(number // 6))
    table = tmp_path / "turned/Stripes/metadata.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head, *reversed(rows)]) + "\n")
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(tmp_path / "fewer"))
    with pytest.raises(SystemExit, match="features of other training images .* or of the same images in another order"):
        command_line(arguments("spcl", tmp_path / "run", "--resume", SOLVER__MAX_EPOCH=2, **TINY))
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(tmp_path / "turned"))
    command_line(arguments("spcl", tmp_path / "run", "--resume", SOLVER__MAX_EPOCH=2, **TINY))
    assert torch.load(tmp_path / "run/model_final.pth", weights_only=True)["epoch"] == 1


def test_a_checkpoint_of_as_many_other_identities_does_not_resume(datasets, tmp_path, monkeypatch):
    command_line(arguments("resnet50", tmp_path / "run", SOLVER__MAX_EPOCH=1, **TINY))
    write_animals(tmp_path / "other/Stripes", identity=lambda number: str(number // 6 + 1))
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(tmp_path / "other"))
    with pytest.raises(SystemExit, match="of other training identities than DATASETS.NAMES now has"):
        command_line(arguments("resnet50", tmp_path / "run", "--resume", SOLVER__MAX_EPOCH=2, **TINY))


def test_an_optimiser_state_of_another_shape_is_refused():
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adam([weight])
    optimizer.state[weight] = {"step": torch.tensor(1.0), "exp_avg": torch.zeros(2)}
    with pytest.raises(ValueError, match="optimiser has 2 weights, the model 3: .* another number of identities"):
        check_state(optimizer)


def test_a_new_run_in_a_used_folder_leaves_no_old_run_to_resume(datasets, tmp_path, monkeypatch):
    command_line(arguments("cluster_contrast", tmp_path, SOLVER__MAX_EPOCH=1, **TINY))
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    with pytest.raises(SystemExit, match="There is no file|no such file"):
        command_line(arguments("cluster_contrast", tmp_path, MODEL__WEIGHTS="nowhere.pth", **TINY))
    assert (tmp_path / "last_checkpoint").exists(), "nothing was started"

    with pytest.raises(SystemExit, match="no data set named 'Strips'"):
        command_line(arguments("cluster_contrast", tmp_path, DATASETS__NAMES="Strips", **TINY))
    assert "Strips" not in (tmp_path / "config.yaml").read_text()

    monkeypatch.setattr(ClusterContrast, "losses", lambda *args: 1 / 0)  # killed early
    with pytest.raises(ZeroDivisionError):
        command_line(arguments("cluster_contrast", tmp_path, SEED=7, **TINY))
    assert not (tmp_path / "last_checkpoint").exists()


def test_resuming_a_finished_run_changes_nothing(datasets, tmp_path):
    command_line(arguments("cluster_contrast", tmp_path, **TINY))
    before, logged = weights(tmp_path), metrics(tmp_path)
    command_line(arguments("cluster_contrast", tmp_path, "--resume", **TINY))
    assert same(before, weights(tmp_path))
    assert metrics(tmp_path) == logged


@pytest.mark.parametrize(
    "changes",
    [
        *({"MODEL__META_ARCHITECTURE": "JCL"}, {"SOLVER__BASE_LR": 1e-6}, {"SOLVER__OPT": "SGD"}),
        *({"SOLVER__GAMMA": 0.5}, {"MODEL__BACKBONE__BATCHNORM": "frozen"}, {"MODEL__FREEZE_LAYERS": "['backbone']"}),
    ],
    ids=str,
)
def test_what_a_checkpoint_keeps_cannot_be_changed_on_resume(datasets, tmp_path, changes):
    command_line(arguments("cluster_contrast", tmp_path, SOLVER__MAX_EPOCH=1, **TINY))
    key = next(iter(changes)).replace("__", ".")
    with pytest.raises(SystemExit, match=rf"other settings .*{key}.*without --resume"):
        command_line(arguments("cluster_contrast", tmp_path, "--resume", SOLVER__MAX_EPOCH=2, **TINY, **changes))
    kept = load_config(os.fspath(tmp_path / "config.yaml"))
    assert kept.SOLVER.MAX_EPOCH == 1, "the folder is as it was"


def test_other_changes_on_resume_are_told(datasets, tmp_path):
    command_line(arguments("cluster_contrast", tmp_path, SOLVER__MAX_EPOCH=1, **TINY))
    command_line(
        arguments("cluster_contrast", tmp_path, "--resume", SOLVER__MAX_EPOCH=2, MEMORY__TEMPERATURE=0.1, **TINY)
    )
    assert "MEMORY.TEMPERATURE (0.05 and 0.1)" in (tmp_path / "log.txt").read_text()
