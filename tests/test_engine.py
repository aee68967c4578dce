"""Real runs through the command line, on a data set of coloured stripes and a small network."""

import csv
import gzip
import multiprocessing
import os
import re
import shutil
import signal
from contextlib import nullcontext
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from conftest import REPO, write_animals
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset
from fastreid.engine import default_argument_parser, launch
from fastreid.engine.hooks import PeriodicWriter
from support.runs import (
    METHODS,
    TINY,
    UNSUPERVISED,
    arguments,
    by_name,
    configured,
    metrics,
    same,
    shell,
    tiny,
    weights,
)

from fastreid_fancl import load_config
from fastreid_fancl.clustering import SweepRow
from fastreid_fancl.engine.labels import explain_cuda_oom, oracle_labels
from fastreid_fancl.engine.pseudo_labels import PseudoLabels
from fastreid_fancl.engine.run import command_line, evaluate, one_process, train
from fastreid_fancl.engine.trainer import Trainer, check_data, is_unsupervised
from fastreid_fancl.errors import UserError
from fastreid_fancl.methods import ClusterContrast
from fastreid_fancl.processes import choose_backend
from fastreid_fancl.runs.folder import sole_writer
from fastreid_fancl.runs.tables import cluster_tables, read_sweeps, write_clusters, write_sweep


@pytest.mark.parametrize("method", METHODS)
def test_a_run_trains_evaluates_and_can_be_evaluated_again(datasets, tmp_path, method, capsys):
    keys = tiny(method) if method != "resnet50" else {}  # one with a ResNet of fast-reid
    command_line(arguments(method, tmp_path / "run", **keys))
    logged = by_name(tmp_path / "run")
    assert 0 < logged["mAP"][-1] <= 100
    assert {"total_loss", "Rank-1", "seconds_training", "seconds_evaluation"} <= logged.keys()
    first, final = weights(tmp_path / "run", "model_0000.pth"), weights(tmp_path / "run")
    moved = [name for name in final if name.startswith("backbone.") and not torch.equal(first[name], final[name])]
    assert len(moved) > 20

    final_weights = os.fspath(tmp_path / "run/model_final.pth")
    command_line(arguments(method, tmp_path / "evaluation", "--eval-only", MODEL__WEIGHTS=final_weights, **keys))
    assert f"{logged['mAP'][-1]:.2f}" in (tmp_path / "evaluation/log.txt").read_text()


def test_an_unsupervised_run_logs_its_clusters(datasets, tmp_path):
    command_line(arguments("fancl", tmp_path, **TINY))
    logged = by_name(tmp_path)
    expected = {"clusters", "left_out", "mean_cluster_size", "ari", "nmi", "purity", "eps"}
    expected |= {"seconds_features", "seconds_clustering", "seconds_memory", "loss_consistency", "loss_cluster_fused"}
    assert expected <= logged.keys()
    assert len(logged["clusters"]) == 2, "once per epoch"
    tables = [gzip.decompress(path.read_bytes()) for path in cluster_tables(tmp_path).values()]
    for table, clusters in zip(tables, logged["clusters"], strict=True):
        rows = list(csv.DictReader(table.decode().splitlines()))
        assert len(rows) == 36
        assert len({row["cluster"] for row in rows} - {""}) == clusters
    assert (tmp_path / "clusters.csv").read_bytes() == tables[-1]
    assert list(tmp_path.glob("events.out.tfevents*"))


@pytest.mark.parametrize("method", ["resnet50", "fancl"])
def test_losses_that_are_brought_together_are_logged_as_one_by_one(datasets, tmp_path, monkeypatch, method):
    """An epoch of 25 iterations, written at the 20th, 25th and 40th, the last one."""
    logged = []
    for together in (1, 20):
        monkeypatch.setattr("fastreid_fancl.compat.hooks.STEPS_TOGETHER", together)
        (output := tmp_path / str(together)).mkdir()
        torch.manual_seed(0)
        trainer = Trainer(configured(method, output, SOLVER__ITERS_PER_EPOCH=25, **TINY))
        next(hook for hook in trainer._hooks if isinstance(hook, PeriodicWriter))._period = 20
        trainer.train()
        logged.append(
            [{k: v for k, v in line.items() if not re.search("time|seconds|memory", k)} for line in metrics(output)]
        )
    assert logged[0] == logged[1]
    assert [line["iteration"] for line in logged[1] if "total_loss" in line] == [19, 24, 39, 49]
    assert ("cls_accuracy" in logged[1][0]) == (method == "resnet50")


def test_a_loss_that_diverges_stops_the_run_before_anything_is_saved(datasets, tmp_path, monkeypatch):
    losses, steps = ClusterContrast.losses, iter(range(9))
    broken = lambda *args: {k: v / (next(steps) != 2) for k, v in losses(*args).items()}  # noqa: E731
    monkeypatch.setattr(ClusterContrast, "losses", broken)
    with pytest.raises(SystemExit, match="infinite or NaN at iteration=2!(?s:.*)Lower SOLVER.BASE_LR"):
        command_line(arguments("cluster_contrast", tmp_path, SOLVER__ITERS_PER_EPOCH=5, **TINY))
    assert not list(tmp_path.glob("*.pth"))
    assert not (tmp_path / "metrics.json").exists() or "total_loss" not in by_name(tmp_path)


@pytest.mark.parametrize(
    ("method", "cameras", "eps"), [*((method, 0, 0.5) for method in UNSUPERVISED), ("ice", 2, "auto")]
)
def test_identities_of_the_training_images_are_not_read(tmp_path, monkeypatch, method, cameras, eps):
    for name, identity in (("truth", lambda number: number // 6), ("nonsense", lambda number: number * 7 % 5)):
        write_animals(tmp_path / name / "Stripes", identity=identity, cameras=cameras)
        monkeypatch.setenv("FASTREID_DATASETS", os.fspath(tmp_path / name))
        command_line(arguments(method, tmp_path / f"{name}_run", PSEUDO_LABELS__EPS=eps, **tiny(method)))
    assert same(weights(tmp_path / "truth_run"), weights(tmp_path / "nonsense_run"))


@pytest.mark.parametrize("folder", ["RedPanda", "Synthetic", "SyntheticSmall"])
def test_no_unsupervised_configuration_is_left_out_of_the_tests(folder):
    configs = [load_config(os.fspath(path)) for path in (REPO / "configs" / folder).glob("[a-z]*.yml")]
    known = {load_config(arguments(method, "")[1]).MODEL.META_ARCHITECTURE for method in UNSUPERVISED}
    assert {cfg.MODEL.META_ARCHITECTURE for cfg in configs if is_unsupervised(cfg)} == known


@pytest.mark.parametrize(("method", "losses"), [("ice", 4), ("pplr", 4), ("jcl", 2)])
def test_cameras_are_used_where_they_are_known(stripes, tmp_path, method, losses):
    stripes(2)
    command_line(arguments(method, tmp_path / "run", **tiny(method)))
    logged = by_name(tmp_path / "run")
    found = [name for name in logged if name.startswith("loss_")]
    assert len(found) == losses
    assert ("loss_camera" in found) == (method != "jcl"), "JCL leaves clusters out by them instead"
    assert logged["mAP"]


def test_the_oracle_reads_them_and_says_so(datasets, tmp_path):
    command_line(arguments("cluster_contrast", tmp_path, PSEUDO_LABELS__ALGORITHM="oracle", **TINY))
    assert (tmp_path / "log.txt").read_text().count("ORACLE") == 1
    assert by_name(tmp_path)["ari"] == [1, 1]


def test_images_without_identities_can_be_trained_on_but_not_by_the_supervised(tmp_path, monkeypatch):
    write_animals(tmp_path / "Stripes", identity=lambda number: "")
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(tmp_path))
    command_line(arguments("cluster_contrast", tmp_path / "run", DATASETS__TESTS="()", **TINY))
    assert "clusters" in by_name(tmp_path / "run")
    assert "ari" not in by_name(tmp_path / "run")
    assert (tmp_path / "run/model_final.pth").exists()
    with pytest.raises(SystemExit, match="identit"):
        command_line(arguments("resnet50", tmp_path / "supervised"))


def train_each(commands: list[list[str]]) -> None:
    """Several runs, one after the other, in one of two processes."""
    for command in commands:
        train(default_argument_parser().parse_args(command))


@pytest.fixture(scope="module")
def pairs(animals, tmp_path_factory):
    """Folders with the run of one and the run of two processes in them, by method; BatchNorm is frozen."""
    frozen = {"MODEL__BACKBONE__NORM": "FrozenBN", "MODEL__HEADS__NORM": "FrozenBN", "SOLVER__OPT": "SGD"}
    frozen |= {"MODEL__BACKBONE__BATCHNORM": "frozen"}  # timm's backbones do not read NORM
    frozen |= {"MODEL__HEADS__WITH_BNNECK": False}  # fast-reid's head cannot freeze its own
    folders = {method: tmp_path_factory.mktemp(method) for method in METHODS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", os.fspath(animals))
        for method, folder in folders.items():
            command_line(arguments(method, folder / "one", **frozen, **tiny(method)))
        commands = [
            arguments(method, folder / "two", "--num-gpus", "2", **frozen, **tiny(method))
            for method, folder in folders.items()
        ]
        choose_backend("cpu")
        launch(train_each, num_gpus_per_machine=2, dist_url="auto", args=(commands,))
    yield folders
    for folder in folders.values():
        shutil.rmtree(folder)


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_train_as_one_with_the_same_global_batch(pairs, method):
    first, one, two = (
        torch.cat([value.flatten().float() for value in weights(pairs[method] / run, name).values()])
        for run, name in (("one", "model_0000.pth"), ("one", "model_final.pth"), ("two", "model_final.pth"))
    )
    assert (two - one).norm() < 0.01 * (one - first).norm(), "1% of how far the last epoch moves the weights"
    assert by_name(pairs[method] / "two")["mAP"] == pytest.approx(by_name(pairs[method] / "one")["mAP"], abs=1e-3)


def hold(folder: str, held, stop) -> None:
    """Write to a folder, as another run would, until told to stop."""
    with sole_writer(folder):
        held.set()
        stop.wait()


def test_a_folder_takes_one_run_at_a_time(datasets, tmp_path):
    fork = multiprocessing.get_context("fork")
    held, stop = fork.Event(), fork.Event()
    other = fork.Process(target=hold, args=(os.fspath(tmp_path), held, stop))
    other.start()
    try:
        assert held.wait(60)
        with pytest.raises(SystemExit, match="Another run is writing.*OUTPUT_DIR"):
            command_line(arguments("cluster_contrast", tmp_path))
        assert not (tmp_path / "config.yaml").exists()
    finally:
        stop.set()
        other.join()


def test_a_process_that_outlives_a_killed_run_keeps_nobody_out(tmp_path):
    fork = multiprocessing.get_context("fork")
    held, stop = fork.Event(), fork.Event()

    def run() -> None:
        with sole_writer(os.fspath(tmp_path)):
            fork.Process(target=stop.wait).start()  # such as a worker that loads images
            held.set()
            os.kill(os.getpid(), signal.SIGKILL)

    killed = fork.Process(target=run)
    killed.start()
    assert held.wait(60)
    killed.join()
    with sole_writer(os.fspath(tmp_path)):
        stop.set()


def test_eps_by_data_is_logged_with_its_reason_and_its_sweep(datasets, tmp_path):
    command_line(arguments("cluster_contrast", tmp_path, PSEUDO_LABELS__EPS="auto", **TINY))
    logged = by_name(tmp_path)["eps"]
    assert len(logged) == 2 and all(0 < eps < 1 for eps in logged)
    assert f"eps {logged[0]:.3g} by data: " in (tmp_path / "log.txt").read_text()
    with open(tmp_path / "eps_sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    used = [(int(row["epoch"]), float(row["eps"])) for row in rows if row["used"] == "1"]
    assert used == list(enumerate(logged))
    assert {row["epoch"] for row in rows} == {"0", "1"} and len(rows) == 2 * 29


def test_hdbscan_needs_no_eps(datasets, tmp_path):
    command_line(arguments("fancl", tmp_path, PSEUDO_LABELS__ALGORITHM="hdbscan", **TINY))
    epochs = [line for line in metrics(tmp_path) if "clusters" in line]
    assert len(epochs) == 2 and all(line["clusters"] > 1 and "eps" not in line for line in epochs)


def test_spcl_does_not_train_on_hdbscan(datasets, tmp_path):
    with pytest.raises(SystemExit, match="three radii of DBSCAN"):
        command_line(arguments("spcl", tmp_path, PSEUDO_LABELS__ALGORITHM="hdbscan"))


def test_iterations_per_epoch_can_be_set(datasets, tmp_path):
    command_line(arguments("cluster_contrast", tmp_path, SOLVER__ITERS_PER_EPOCH=5, **TINY))
    assert metrics(tmp_path)[-1]["iteration"] == 9


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"PSEUDO_LABELS__EPS": "loose"}, "PSEUDO_LABELS.EPS"),
        ({"PSEUDO_LABELS__EPSS": 1}, "PSEUDO_LABELS.EPS"),
        ({"DATASETS__NAMES": "('Nowhere',)"}, "Nowhere"),
        ({"FANA__LAYER": "conv9"}, "conv1"),
        ({"FANA__LAYER": "layer1"}, "such as layer1.0"),  # fast-reid's ResNet runs its blocks one by one
        ({"MODEL__META_ARCHITECTURE": "FANKL"}, "FANCL"),
        ({"SOLVER__IMS_PER_BATCH": 6}, "NUM_INSTANCE"),
        ({"MODEL__WEIGHTS": "nowhere.pth"}, "nowhere.pth"),
        ({"PSEUDO_LABELS__MIN_SAMPLES": 40}, "Expected clusters to train on"),
        ({"PSEUDO_LABELS__MIN_SAMPLES": 40, "PSEUDO_LABELS__ALGORITHM": "hdbscan"}, "0 clusters of 36 images"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_input_ends_in_one_message(datasets, tmp_path, changes, said):
    with pytest.raises(SystemExit) as stop:
        command_line(arguments("fancl", tmp_path, **changes))
    assert said in str(stop.value.code)


def test_a_wrong_key_leaves_the_shell_with_a_message_and_no_traceback(datasets, tmp_path):
    run = shell("fancl", tmp_path, FANA__RATE=0.1)
    assert run.returncode != 0
    assert "FANA.RATIO" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(("pretrain", "weights"), [(False, ""), (True, ""), (True, "trained.pth")])
def test_an_evaluation_of_random_weights_says_so(monkeypatch, pretrain, weights):
    built, logger = [], Mock()
    monkeypatch.setattr(Trainer, "build_model", lambda cfg: built.append(cfg.MODEL.BACKBONE.PRETRAIN) or Mock())
    monkeypatch.setattr(Trainer, "test", lambda cfg, model: {})
    monkeypatch.setattr("fastreid_fancl.engine.trained_model.StrictCheckpointer", Mock())
    monkeypatch.setattr("fastreid_fancl.engine.trained_model.executed_modules", Mock())
    monkeypatch.setattr("fastreid_fancl.engine.run.random_parts", lambda model, size: [])
    monkeypatch.setattr("fastreid_fancl.engine.trained_model.logger", logger)
    evaluate(configured("fancl", MODEL__BACKBONE__PRETRAIN=pretrain, MODEL__WEIGHTS=weights))
    assert built == [pretrain and not weights]
    assert logger.warning.called == (not pretrain)


def test_all_that_combineall_trains_on_is_read_before(tmp_path, monkeypatch):
    write_animals(tmp_path / "Stripes", animals=3, images=2)
    (tmp_path / "Stripes/images/2_1.png").write_bytes(b"")  # of the gallery
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(tmp_path))
    for combined in (False, True):
        cfg = configured("fancl", DATASETS__TESTS="()", DATASETS__COMBINEALL=combined)
        with pytest.raises(ValueError, match="2_1.png: the file is empty") if combined else nullcontext():
            check_data(cfg)


@pytest.mark.parametrize(
    ("train", "query", "said"),
    [
        ([("1", "c"), (1, "c")], (0, 0), "pid of the training images either text or integers .* got 1 .*0_1.png"),
        ([("1", "c"), ("1", 2)], (0, 0), "camid of the training images either text or integers"),
        ([("1", "c"), ("1", "c")], (0, "north"), "camid of the query and gallery images a Python int"),
    ],
)
def test_a_data_set_of_mixed_types_is_refused(datasets, monkeypatch, train, query, said):
    paths = [os.fspath(datasets / f"Stripes/images/0_{number}.png") for number in range(2)]

    class Mixed(ImageDataset):
        def __init__(self, root):
            items = [(path, *names) for path, names in zip(paths, train, strict=True)]
            super().__init__(items, [(paths[0], *query)], [(paths[1], 0, 1)])

    monkeypatch.setitem(DATASET_REGISTRY._obj_map, "Mixed", Mixed)
    with pytest.raises(ValueError, match=said):
        check_data(configured("fancl", DATASETS__NAMES="('Mixed',)", DATASETS__TESTS="('Mixed',)"))


def test_an_epoch_that_is_run_again_takes_the_place_of_its_sweep(tmp_path):
    path, row = os.fspath(tmp_path / "sweep.csv"), SweepRow(0.5, 4, 0.1, 0.3, 0.9, 0.8, 0.6)
    for epoch, score in ((0, 0.1), (1, 0.2), (2, 0.3), (1, 0.4)):
        write_sweep(path, epoch, 0.5, (row._replace(score=score),))
    with open(path, newline="") as file:
        assert [(row["epoch"], row["score"]) for row in csv.DictReader(file)] == [("0", "0.1"), ("1", "0.4")]


def test_a_sweep_of_an_older_version_is_read_and_continued(tmp_path):
    path = tmp_path / "eps_sweep.csv"
    path.write_text(
        "epoch,eps,clusters,left_out,largest,robustness,modularity,score,used\n0,0.5,4,0.1,0.3,0.9,0.8,0.6,1\n"
    )
    assert read_sweeps(path)[0][0]["score"] == 0.6
    write_sweep(os.fspath(path), 1, 0.5, (SweepRow(0.5, 4, 0.1, 0.3, 0.7, 0.8, 0.5),))
    with open(path, newline="") as file:
        assert [row["stability"] for row in csv.DictReader(file)] == ["0.9", "0.7"]
    assert list(read_sweeps(path)) == [0, 1]


def test_an_epoch_that_is_run_again_takes_the_place_of_its_clusters_and_of_later_ones(tmp_path):
    for epoch, labels in ((0, [0, 0]), (9, [0, 1]), (10, [1, 1]), (9, [-1, 2])):
        write_clusters(os.fspath(tmp_path), epoch, [("a",), ("b",)], np.array(labels))
    assert list(tables := cluster_tables(tmp_path)) == [1, 10]
    assert gzip.decompress(tables[10].read_bytes()).split() == [b"path,cluster", b"b,2", b"a,"]


def test_oracle_labels_number_the_known_identities():
    assert oracle_labels(np.array([4, -1, 2, 4])).tolist() == [1, -1, 0, 1]
    with pytest.raises(ValueError, match="found 1"):
        oracle_labels(np.array([4, -1, 4]))


@pytest.mark.parametrize("rank", [0, 1])
def test_what_one_process_alone_may_meet_is_told_whichever_it_is(monkeypatch, rank):
    for name, value in (("get_rank", rank), ("get_local_rank", rank), ("get_world_size", 2)):
        monkeypatch.setattr(f"fastreid_fancl.engine.run.comm.{name}", lambda value=value: value)

    def out_of_memory(args):
        with explain_cuda_oom():
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr("fastreid_fancl.engine.run.train", out_of_memory)
    with pytest.raises(SystemExit, match=rf"process {rank}: .*CUDA out of memory.*PSEUDO_LABELS.DEVICE cpu"):
        one_process(None)

    def of_all(args):
        raise UserError("all say it")

    monkeypatch.setattr("fastreid_fancl.engine.run.train", of_all)
    with pytest.raises(SystemExit) as stop:
        one_process(None)
    assert stop.value.code == (1 if rank else "error: all say it")


def test_fewer_images_than_processes_are_refused(monkeypatch):
    monkeypatch.setattr("fastreid_fancl.engine.pseudo_labels.comm.get_world_size", lambda: 3)
    with pytest.raises(ValueError, match="got 2 images: lower --num-gpus"):
        PseudoLabels._features(None, ["one.png", "two.png"])


def test_weights_of_another_backbone_are_refused_in_training_and_evaluation(datasets, tmp_path):
    command_line(arguments("cluster_contrast", tmp_path / "run", SOLVER__MAX_EPOCH=1))
    start = {"MODEL__WEIGHTS": tmp_path / "run/model_final.pth"}
    for flags in ((), ("--eval-only",)):
        with pytest.raises(SystemExit, match="MODEL.BACKBONE"):
            command_line(arguments("fancl", tmp_path / "other", *flags, MODEL__BACKBONE__DEPTH="34x", **start))
    with pytest.raises(SystemExit, match="weights of the test-time feature are missing"):
        command_line(arguments("pcb", tmp_path / "other", "--eval-only", **start))
    command_line(arguments("pcb", tmp_path / "other", SOLVER__MAX_EPOCH=1, **start))  # its head is new


def test_an_evaluation_without_tests_and_a_run_without_a_folder_are_refused(datasets, tmp_path):
    with pytest.raises(SystemExit, match="DATASETS.TESTS is empty"):
        command_line(arguments("fancl", tmp_path, "--eval-only", DATASETS__TESTS="()"))
    with pytest.raises(SystemExit, match="OUTPUT_DIR is empty"):
        command_line(arguments("fancl", ""))


@pytest.mark.parametrize("changes", [{"MODEL__BACKBONE__PRETRAIN": False}, {"MODEL__WEIGHTS": "w.pth"}], ids=str)
def test_weights_that_would_not_be_used_are_told(datasets, tmp_path, changes):
    torch.save({}, tmp_path / "w.pth")
    own = {"MODEL__BACKBONE__PRETRAIN": True, "MODEL__BACKBONE__PRETRAIN_PATH": tmp_path / "w.pth"} | {
        key: tmp_path / value if value else value for key, value in changes.items()
    }
    with pytest.raises(SystemExit, match="PRETRAIN_PATH .* would not be used"):
        command_line(arguments("fancl", tmp_path / "run", **own))
