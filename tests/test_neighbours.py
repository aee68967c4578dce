"""PSEUDO_LABELS.NEIGHBOURS, from the command line to the search."""

import csv
import logging
import os
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from support.runs import arguments

from fastreid_fancl import load_config
from fastreid_fancl.clustering import knn
from fastreid_fancl.clustering.neighbors import faiss as faiss_search
from fastreid_fancl.config import checks
from fastreid_fancl.engine.run import command_line as train
from fastreid_fancl.individuals.grouping import command_line as group

faiss = pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def run(animals, tmp_path_factory):
    """A run that was trained with faiss's search."""
    output = tmp_path_factory.mktemp("faiss") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", os.fspath(animals))
        train(arguments("fancl", output, SOLVER__MAX_EPOCH=1, PSEUDO_LABELS__NEIGHBOURS="faiss"))
    return output


def groups(run, output, *opts: str) -> list[dict]:
    group(["--run", os.fspath(run), "--output", os.fspath(output), *opts])
    with open(output) as file:
        return list(csv.DictReader(file))


def test_a_run_trains_and_groups_by_faiss_as_by_every_exact_search(run, datasets, tmp_path):
    assert load_config(os.fspath(run / "config.yaml")).PSEUDO_LABELS.NEIGHBOURS == "faiss"
    assert (run / "clusters.csv").exists()
    by_faiss = groups(run, tmp_path / "faiss.csv")
    assert len(by_faiss) > 1
    for search in ("auto", "exact"):
        assert groups(run, tmp_path / f"{search}.csv", "PSEUDO_LABELS.NEIGHBOURS", search) == by_faiss


def test_approximate_neighbours_say_their_recall(run, datasets, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        groups(run, tmp_path / "ivf.csv", "PSEUDO_LABELS.NEIGHBOURS", "faiss_ivf")
    assert "Approximate neighbours by faiss_ivf: recall" in caplog.text


def test_an_unknown_search_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="NEIGHBOURS 'annoy': expected auto, exact, faiss or faiss_ivf"):
        load_config(opts=["PSEUDO_LABELS.NEIGHBOURS", "annoy"])


@pytest.mark.parametrize("search", ["faiss", "faiss_ivf"])
def test_faiss_that_is_not_installed_is_named_with_the_line_that_installs_it(search, monkeypatch):
    monkeypatch.setattr(checks, "has_faiss", lambda: False)
    options = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False", "PSEUDO_LABELS.NEIGHBOURS"]
    with pytest.raises(ValueError, match=f"{search}: faiss is not installed; pip install faiss-cpu, or faiss-gpu"):
        checks.check_config(load_config("configs/RedPanda/fancl.yml", [*options, search]))
    checks.check_config(load_config("configs/RedPanda/fancl.yml", [*options, "exact"]))


def rows(number: int = 40) -> np.ndarray:
    features = np.random.default_rng(0).normal(size=(number, 8)).astype(np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def operand_of(features: np.ndarray):
    centred = torch.from_numpy(features)
    return faiss_search.Operand(centred, torch.ones(len(features)), (centred**2).sum(dim=1))


def test_the_flat_index_lies_on_the_gpu_of_the_features_where_faiss_has_gpus(monkeypatch):
    placed = Mock(side_effect=lambda resources, device, index: index)
    for name, value in (("get_num_gpus", lambda: 2), ("StandardGpuResources", Mock()), ("index_cpu_to_gpu", placed)):
        monkeypatch.setattr(faiss, name, value, raising=False)
    operand = operand_of(rows())
    on_gpu = faiss_search.flat_candidates(operand, 5, torch.device("cuda:1"))
    assert placed.call_args.args[1] == 1
    on_cpu = faiss_search.flat_candidates(operand, 5, torch.device("cpu"))
    assert placed.call_count == 1
    np.testing.assert_array_equal(on_gpu.row, on_cpu.row)


@pytest.mark.parametrize(("gpus", "said"), [(0, "pip install faiss-gpu"), (1, "5 candidates per image are more than")])
def test_an_index_that_stays_on_the_cpu_says_why(gpus, said, monkeypatch, caplog):
    monkeypatch.setattr(faiss_search, "MOST_ON_GPU", 4)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: gpus, raising=False)
    faiss_search.log_once.cache_clear()
    with caplog.at_level(logging.INFO):
        faiss_search.flat_candidates(operand_of(rows()), 5, torch.device("cuda"))
    assert "faiss searches on the CPU" in caplog.text and said in caplog.text


@pytest.mark.cuda
def test_faiss_finds_the_same_on_a_gpu():
    if not faiss.get_num_gpus():
        pytest.skip("needs faiss-gpu")
    features = rows(500)
    for values, expected in zip(knn(torch.from_numpy(features).cuda(), 9, "faiss"), knn(features, 9), strict=True):
        np.testing.assert_array_equal(values, expected)
