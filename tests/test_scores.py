"""Scores of the groups of test photographs, and of a start without any training."""

import csv
import os

import numpy as np
import pytest
import torch
from support import oracles
from support.runs import arguments, by_name, configured

from fastreid_fancl import load_config
from fastreid_fancl.clustering import SweepRow
from fastreid_fancl.engine.evaluation import group_test
from fastreid_fancl.engine.labels import explain_eps
from fastreid_fancl.engine.run import command_line, evaluate
from fastreid_fancl.engine.starts import weights_in_use, weights_named
from fastreid_fancl.engine.trained_model import input_size, load_model, random_parts
from fastreid_fancl.engine.trainer import Trainer
from fastreid_fancl.individuals.grouping import command_line as group
from fastreid_fancl.report.tables import FURTHER, cell
from fastreid_fancl.runs.read import CLUSTERING, GROUPING, read_run

SCORED = ["ARI", "Purity", "homogeneity", "completeness"]


def settings(**changes):
    opts = [str(word) for key, value in changes.items() for word in (f"PSEUDO_LABELS.{key}", value)]
    return load_config("", ["MODEL.DEVICE", "cpu", *opts])


def separate(animals: int, images: int) -> tuple[torch.Tensor, np.ndarray]:
    """Features that differ between animals and hardly within one."""
    rng = np.random.default_rng(0)
    centres = np.linalg.qr(rng.normal(size=(32, animals)))[0].T
    features = np.repeat(centres, images, axis=0) + 0.05 * rng.normal(size=(animals * images, 32))
    return torch.from_numpy(features.astype(np.float32)), np.repeat(np.arange(animals), images)


def test_scores_of_the_test_and_of_the_clusters_have_other_names():
    assert set(GROUPING).isdisjoint(CLUSTERING), "metrics.json has both in one line"


def test_animals_that_are_apart_are_found():
    features, animals = separate(8, 12)
    found = group_test(features, animals, settings(K1=12, EPS=0.5))
    assert found == {name: pytest.approx(1) for name in SCORED} | {"groups": 8, "animals": 8, "ungrouped": 0}


def test_scores_do_not_depend_on_the_lengths_of_features_nor_on_the_order_of_photographs():
    features, animals = oracles.hard_features(300, 64, spread=1.0)
    features = torch.as_tensor(features)
    order = np.random.default_rng(1).permutation(len(animals))
    alone = group_test(features, animals, settings())
    assert 0 < alone["ARI"] < 1
    assert group_test(features * torch.arange(1, 301)[:, None], animals, settings()) == pytest.approx(alone)
    assert group_test(features[order], animals[order], settings()) == pytest.approx(alone)


@pytest.mark.parametrize("k1", [30, 500])
def test_k1_may_be_larger_than_the_number_of_photographs(k1):
    features, animals = separate(2, 8)
    assert group_test(features, animals, settings(K1=k1))["ARI"] == 1
    assert group_test(features, animals, settings(K1=k1, EPS="auto"))["ARI"] == 1


@pytest.mark.parametrize("photographs", [1, 2, 3])
@pytest.mark.parametrize("algorithm", ["dbscan", "hdbscan", "oracle"])
def test_where_there_are_no_groups_the_log_says_so_and_nothing_fails(photographs, algorithm, caplog):
    features, animals = separate(3, 1)
    assert group_test(features[:photographs], animals[:photographs], settings(ALGORITHM=algorithm)) == {}
    assert f"The {photographs} test photographs form no groups, so these are not scored: " in caplog.text


def test_one_and_the_same_feature_is_one_cluster_and_not_scored(caplog):
    assert group_test(torch.ones(20, 8), np.arange(20) // 5, settings()) == {}
    assert "The 20 test photographs form no groups" in caplog.text


def test_runs_of_the_oracle_group_without_the_truth():
    features, animals = separate(4, 12)
    mixed = np.tile(np.arange(4), 12)
    assert group_test(features, mixed, settings(ALGORITHM="oracle", K1=12))["ARI"] < 0.1


@pytest.mark.parametrize("method", ["cluster_contrast", "resnet50"])
def test_a_run_has_the_scores_of_the_groups_in_its_metrics_log_and_tables(datasets, tmp_path, method):
    command_line(arguments(method, tmp_path / "seed_0", SOLVER__MAX_EPOCH=1, PSEUDO_LABELS__EPS="auto"))
    logged = by_name(tmp_path / "seed_0")
    assert {*GROUPING} <= logged.keys() and logged["animals"] == [3]
    assert -1 <= logged["ARI"][-1] <= 1 and 2 <= logged["groups"][-1] <= 18
    run = read_run(tmp_path / "seed_0")
    column = next(column for column in FURTHER if column.title == "Test ARI")
    assert cell(column, [run]).mean == logged["ARI"][-1]
    assert "Groups of 18 test photographs" in (tmp_path / "seed_0/log.txt").read_text()


# a start without training


@pytest.fixture
def start(tmp_path):
    """A file of backbone weights, and the keys that start from it."""
    cfg = configured("cluster_contrast", SEED=7)
    torch.manual_seed(7)
    torch.save(Trainer.build_model(cfg).backbone.state_dict(), tmp_path / "start.pth")
    return {"MODEL__BACKBONE__PRETRAIN": True, "MODEL__BACKBONE__PRETRAIN_PATH": tmp_path / "start.pth"}


def test_the_frozen_start_is_scored_by_one_command_which_says_whose_scores_these_are(datasets, tmp_path, start):
    command_line(arguments("cluster_contrast", tmp_path / "start", "--eval-only", **start))
    log = (tmp_path / "start/log.txt").read_text()
    assert f"The scores below are of the frozen start, without training: {tmp_path / 'start.pth'}" in log

    # The same weights, copied by hand, as a checkpoint of a whole model.
    model = Trainer.build_model(configured("cluster_contrast"))
    model.backbone.load_state_dict(torch.load(tmp_path / "start.pth", weights_only=True))
    torch.save({"model": model.state_dict()}, tmp_path / "whole.pth")
    (tmp_path / "whole").mkdir()
    found = evaluate(configured("cluster_contrast", tmp_path / "start", **start))
    expected = evaluate(configured("cluster_contrast", tmp_path / "whole", MODEL__WEIGHTS=tmp_path / "whole.pth"))
    assert found == expected and 0 < found["mAP"] < 100
    assert f"{found['mAP']:.2f}" in log


@pytest.mark.parametrize(
    ("method", "keys", "parts"),
    [
        ("fancl", {}, []),
        ("pcb", {"PARTS__DIM": 4}, ["heads.reduction"]),
        ("jcl", {}, ["backbone.layer2.2", "backbone.layer3.2"]),
    ],
)
def test_parts_of_the_feature_without_pretrained_weights_are_named(method, keys, parts):
    cfg = configured(method, **keys)
    model = Trainer.build_model(cfg).eval()
    assert random_parts(model, input_size(cfg)) == parts
    cfg.defrost()
    cfg.MODEL.BACKBONE.PRETRAIN = True
    said = f", and random weights in {', '.join(parts)}" if parts else ""
    assert weights_in_use(cfg, parts) == f"the frozen start, without training: {weights_named(cfg)}{said}"


def test_jcls_attention_is_not_called_random_if_its_file_has_it(tmp_path):
    torch.save(Trainer.build_model(configured("jcl")).state_dict(), tmp_path / "jcl.pth")
    cfg = configured("jcl", MODEL__BACKBONE__PRETRAIN=True, MODEL__BACKBONE__PRETRAIN_PATH=tmp_path / "jcl.pth")
    assert random_parts(Trainer.build_model(cfg).eval(), input_size(cfg)) == []
    plain = Trainer.build_model(configured("fancl")).backbone.state_dict()
    torch.save(plain, tmp_path / "jcl.pth")
    assert random_parts(Trainer.build_model(cfg).eval(), input_size(cfg)) == ["backbone.layer2.2", "backbone.layer3.2"]


@pytest.mark.parametrize("method", ["fancl", "jcl", "pcb"])
def test_a_backbone_alone_is_no_trained_model_and_the_message_says_what_to_do(method, tmp_path):
    state = Trainer.build_model(configured("fancl")).backbone.state_dict()
    torch.save({**state, "fc.weight": torch.zeros(9, 512)}, tmp_path / "bare.pth")
    with pytest.raises(ValueError, match="bare.pth holds a backbone only, .* give it by MODEL.BACKBONE.PRETRAIN_PATH"):
        load_model(configured(method, MODEL__WEIGHTS=tmp_path / "bare.pth"))


def test_a_model_with_other_heads_is_not_called_a_backbone(tmp_path):
    torch.save({"model": Trainer.build_model(configured("pcb")).state_dict()}, tmp_path / "pcb.pth")
    with pytest.raises(ValueError, match="pcb.pth does not fit .* the run's own configuration, the config.yaml"):
        load_model(configured("cluster_contrast", MODEL__WEIGHTS=tmp_path / "pcb.pth"))


def test_a_start_that_would_not_be_used_is_no_evaluation_of_random_weights(datasets, tmp_path, start):
    with pytest.raises(SystemExit, match="would not be used: with it set MODEL.BACKBONE.PRETRAIN True"):
        command_line(
            arguments("fancl", tmp_path / "run", "--eval-only", **start | {"MODEL__BACKBONE__PRETRAIN": False})
        )


def test_photographs_are_grouped_by_the_frozen_start_and_scored(datasets, tmp_path, start, capsys):
    _, config, *opts = arguments("cluster_contrast", tmp_path, PSEUDO_LABELS__EPS="auto", MODEL__WEIGHTS="", **start)
    group(["--config-file", config, "--output", os.fspath(tmp_path / "groups.csv"), *opts])
    with open(tmp_path / "groups.csv") as file:
        assert len(list(csv.DictReader(file))) == 54
    said = capsys.readouterr().out
    assert f"Weights: the frozen start, without training: {tmp_path / 'start.pth'}" in said
    assert "Against the animals of 54 photographs, counting each ungrouped image as its own group: ARI " in said
    assert "animals 9" in said


def test_a_run_without_checkpoint_is_not_taken_for_its_start(datasets, tmp_path, start):
    command_line(arguments("cluster_contrast", tmp_path / "run", SOLVER__MAX_EPOCH=1, **start))
    (tmp_path / "run/last_checkpoint").unlink()
    with pytest.raises(SystemExit, match="There are no trained weights"):
        group(["--run", os.fspath(tmp_path / "run")])


def test_stability_is_not_called_by_the_name_of_an_accuracy():
    said = explain_eps(0.5, [SweepRow(0.5, 4, 0.1, 0.3, 0.78, 0.6, 0.5)])
    assert "stability 0.78" in said and "nothing of their accuracy" in said and "Rand" not in said
