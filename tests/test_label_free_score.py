"""Runs without a test keep the epoch whose groups have the best label-free score."""

import shutil

import pytest
import torch
from label_free import signs_of_last
from support.runs import TINY, arguments, by_name, metrics, same, weights

from fastreid_fancl.engine.run import command_line

EPOCHS = 3


def run(output, *flags, method="cluster_contrast", **changes):
    command_line(arguments(method, output, *flags, DATASETS__TESTS="()", TEST__EVAL_PERIOD=1, **TINY, **changes))


@pytest.mark.parametrize("eps", ["auto", 0.5])
def test_without_a_test_the_best_score_names_the_best_model(datasets, tmp_path, eps):
    run(tmp_path, SOLVER__MAX_EPOCH=EPOCHS, PSEUDO_LABELS__EPS=eps)
    scores = by_name(tmp_path)["label_free_score"]
    best = scores.index(max(scores))
    assert len(scores) == EPOCHS
    names = [*(f"model_{epoch:04d}.pth" for epoch in range(EPOCHS - 1)), "model_final.pth"]
    kept = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert kept["epoch"] == best
    assert same(kept["model"], weights(tmp_path, names[best]))


def test_the_score_is_that_of_the_clustering_that_follows(datasets, tmp_path):
    """The clustering after an epoch begins the next one: the sweep of epoch 1 has the score that was logged after 0."""
    run(tmp_path, SOLVER__MAX_EPOCH=2, PSEUDO_LABELS__EPS="auto")
    rows = [line.split(",") for line in (tmp_path / "eps_sweep.csv").read_text().splitlines()]
    chosen = [dict(zip(rows[0], row, strict=True)) for row in rows[1:] if row[0] == "1" and row[-1] == "1"]
    assert [float(row["score"]) for row in chosen] == pytest.approx(by_name(tmp_path)["label_free_score"][:1])


@pytest.mark.parametrize("method", ["cluster_contrast", "spcl"])
def test_the_score_is_that_of_the_encoder_that_is_saved(datasets, tmp_path, method):
    """SpCL clusters the features in its memory, which no saved model gives."""
    run(tmp_path, method=method, SOLVER__MAX_EPOCH=2, PSEUDO_LABELS__EPS="auto")
    assert signs_of_last(tmp_path, 2)["score"] == pytest.approx(by_name(tmp_path)["label_free_score"][-1])


def test_a_resumed_run_keeps_the_same_best_model(datasets, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(whole, SOLVER__MAX_EPOCH=3, PSEUDO_LABELS__EPS="auto")
    shutil.copytree(whole, parts)
    for name in ("model_final.pth", "model_best.pth", "model_0001.pth"):
        (parts / name).unlink()
    (parts / "last_checkpoint").write_text("model_0000.pth")
    kept = torch.load(whole / "model_best.pth", weights_only=True)["epoch"]
    run(parts, "--resume", SOLVER__MAX_EPOCH=3, PSEUDO_LABELS__EPS="auto")
    logged = [[line.get("label_free_score") for line in metrics(run)] for run in (parts, whole)]
    assert logged[0] == logged[1]
    if kept > 0:
        assert same(weights(parts, "model_best.pth"), weights(whole, "model_best.pth"))
    assert same(weights(parts), weights(whole))


def test_with_a_test_its_score_decides(datasets, tmp_path):
    command_line(arguments("cluster_contrast", tmp_path, TEST__EVAL_PERIOD=1, **TINY))
    assert "label_free_score" not in by_name(tmp_path)
    assert (tmp_path / "model_best.pth").exists()
