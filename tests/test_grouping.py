"""tools/group.py on the tiny data set: a table of all photographs by trained weights."""

import csv
import os
import subprocess
import sys

import pytest
from conftest import REPO
from support.runs import arguments

from fastreid_fancl import load_config
from fastreid_fancl.data.datasets import load
from fastreid_fancl.engine.run import command_line as train
from fastreid_fancl.individuals.grouping import command_line, group


@pytest.fixture
def run(datasets, tmp_path):
    train(arguments("fancl", tmp_path / "run", SOLVER__MAX_EPOCH=1))
    return tmp_path / "run"


def table(path) -> dict[str, str]:
    with open(path) as file:
        return {row["path"]: row["cluster"] for row in csv.DictReader(file)}


def test_every_photograph_is_grouped_by_the_last_weights_and_again_alike(run, tmp_path, capsys):
    command_line(["--run", os.fspath(run)])
    first = table(run / "groups.csv")
    dataset = load(load_config(os.fspath(run / "config.yaml")).DATASETS.NAMES[0])
    assert first.keys() == {path for path, *_ in dataset.train + dataset.query + dataset.gallery}
    groups = len(set(first.values()) - {""})
    assert groups > 1
    assert f"{len(first)} photographs, {groups} groups" in capsys.readouterr().out
    command_line(["--run", os.fspath(run), "--output", os.fspath(tmp_path / "new" / "again.csv")])
    assert table(tmp_path / "new" / "again.csv") == first
    assert (run / "clusters.csv").exists(), "of the epoch's beginning, left alone"


def test_the_training_of_a_project_is_known_to_every_command(run):
    """`discover --train` leaves such a run, and no other command imports what trained it."""
    config = (run / "config.yaml").read_text()
    assert config.count("META_ARCHITECTURE: FANCL") == 1
    (run / "config.yaml").write_text(config.replace("META_ARCHITECTURE: FANCL", "META_ARCHITECTURE: LinkedFANCL"))
    words = [sys.executable, os.fspath(REPO / "fancl.py"), "group", "--run", os.fspath(run)]
    found = subprocess.run(words, capture_output=True, text=True, cwd=REPO, timeout=280)
    assert found.returncode == 0, found.stderr
    groups = table(run / "groups.csv").values()
    assert f"54 photographs, {len(set(groups) - {''})} groups" in found.stdout


def test_the_oracle_groups_by_identity(run):
    items, found = group(load_config(os.fspath(run / "config.yaml"), weights(run, "PSEUDO_LABELS.ALGORITHM", "oracle")))
    pairs = {(pid, label) for (_, pid, _), label in zip(items, found.labels, strict=True)}
    assert len(pairs) == len({pid for pid, _ in pairs}) == len({label for _, label in pairs})


def test_wrong_input_ends_in_a_message(run, tmp_path):
    with pytest.raises(SystemExit, match=r"error: There are no trained weights"):
        command_line(["--config-file", os.fspath(run / "config.yaml"), "MODEL.WEIGHTS", ""])
    with pytest.raises(
        SystemExit, match="error: Expected a method that clusters, got MODEL.META_ARCHITECTURE Baseline"
    ):
        command_line(["--config-file", "configs/RedPanda/resnet50.yml", "MODEL.DEVICE", "cpu"])
    with pytest.raises(SystemExit, match="error: .*nowhere"):
        command_line(["--run", os.fspath(tmp_path / "nowhere")])


def weights(run, *more: str) -> list[str]:
    return ["MODEL.WEIGHTS", os.fspath(run / "model_final.pth"), *more]
