"""fast-reid's own methods, from its own settings, through the command line: train, evaluate, save, resume."""

import json
import os
from pathlib import Path

import pytest
import torch
from conftest import REPO

from fastreid_fancl.engine.run import command_line

METHODS = ["bagtricks", "agw", "mgn", "moco"]


def run(method: str, output: Path, *flags: str, **changes) -> None:
    """`train_net.py --config-file <method> FLAGS KEY VALUE ...` in this process."""
    changes = {**changes, "OUTPUT_DIR": os.fspath(output)}
    opts = [str(word) for key, value in changes.items() for word in (key.replace("__", "."), value)]
    command_line(["--config-file", os.fspath(REPO / f"tests/configs/{method}.yml"), *flags, *opts])


def checkpoint(output: Path, name: str) -> dict:
    return torch.load(output / name, weights_only=True)


def last_metrics(output: Path) -> dict:
    return json.loads((output / "metrics.json").read_text().splitlines()[-1])


@pytest.fixture(scope="module", params=METHODS)
def trained(request, animals, tmp_path_factory):
    """(method, folder) of a run over two epochs."""
    output = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", os.fspath(animals))
        run(request.param, output)
        yield request.param, output
    for path in output.glob("*.pth"):
        path.unlink()


def test_a_stock_method_learns_and_its_last_evaluation_is_logged(trained):
    _, output = trained
    first, last = checkpoint(output, "model_0000.pth"), checkpoint(output, "model_final.pth")
    parameters = [name for name in first["model"] if name.endswith("weight")]
    changed = [name for name in parameters if not torch.equal(first["model"][name], last["model"][name])]
    assert len(changed) == len(parameters)
    logged = last_metrics(output)
    assert 0 < logged["mAP"] <= 100
    assert last["metric"] == pytest.approx(logged["metric"])
    assert checkpoint(output, "model_best.pth")["epoch"] == 1


def test_a_finished_run_resumes_to_its_evaluation(trained, capsys):
    method, output = trained
    before = last_metrics(output)
    run(method, output, "--resume")
    assert "mAP" in capsys.readouterr().out
    assert last_metrics(output) == before


def test_evaluation_alone_gives_the_number_of_the_training(trained, tmp_path, capsys):
    method, output = trained
    config = (output / "config.yaml").read_text()
    capsys.readouterr()
    run(method, output, "--eval-only", MODEL__WEIGHTS=output / "model_final.pth")
    printed = capsys.readouterr().out
    assert f"{last_metrics(output)['mAP']:.2f}" in printed
    assert "Skip loading parameter" not in printed
    assert (output / "config.yaml").read_text() == config


def test_a_run_resumed_from_an_epoch_ends_where_an_uninterrupted_one_ends(datasets, tmp_path):
    run("moco", tmp_path / "whole")
    run("moco", tmp_path / "parts", SOLVER__MAX_EPOCH=1)
    run("moco", tmp_path / "parts", "--resume")
    whole, parts = (checkpoint(tmp_path / name, "model_final.pth")["model"] for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_two_gloo_processes_train_and_evaluate(datasets, tmp_path, capfd):
    run("moco", tmp_path, "--num-gpus", "2", SOLVER__MAX_EPOCH=1, TEST__EVAL_PERIOD=1)
    printed = capfd.readouterr()
    assert 0 < last_metrics(tmp_path)["mAP"] <= 100
    assert "World size: 2" in (tmp_path / "log.txt").read_text()
    for noise in ("warn", "Warning", "Traceback"):
        assert noise not in printed.err
