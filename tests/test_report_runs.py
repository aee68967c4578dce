"""What is read from a run's folder, and what the engine leaves there for it."""

import subprocess

import numpy as np
import pytest
import yaml
from support.run_folders import settings, write_run
from support.runs import TINY, arguments

from fastreid_fancl.engine.record import commit, write_queries
from fastreid_fancl.engine.run import command_line
from fastreid_fancl.ranking import market1501
from fastreid_fancl.report.systems import gather
from fastreid_fancl.runs.read import Query, read_epochs, read_run
from fastreid_fancl.runs.settings import differences


def test_a_finished_run_says_what_it_was_and_what_it_cost(tmp_path):
    run = read_run(write_run(tmp_path / "fancl/seed_3", seed=3, scores=((30.0, 65.0), (40.0, 50.0))))
    assert (run.system, run.seed, run.finished, run.supervised) == ("fancl", 3, True, False)
    assert run.datasets == (("Stripes",), ("Stripes",))
    assert run.last.scores["mAP"] == 40 and run.last.number == 1
    assert run.clustering == {"clusters": 7, "left_out": 3, "identities": 6, "ari": 0.5, "nmi": 0.75}
    assert run.epochs[0].losses == {"loss_cluster": 3}
    assert run.epochs[0].seconds == {"features": 2, "clustering": 1, "training": 4, "evaluation": 0.5}
    # Two epochs of 5 batches of 8 images, 2 + 1 + 4 seconds each and 0.5 of evaluation.
    assert (run.iterations, run.images_seen) == (10, 80)
    assert (run.seconds, run.seconds_per_epoch, run.peak_memory) == (15, 7, 2)


def test_an_interrupted_run_has_its_finished_epochs(tmp_path):
    run = read_run(write_run(tmp_path / "run", finished=False))
    assert not run.finished
    assert [epoch.scores["mAP"] for epoch in run.epochs] == [30]


@pytest.mark.parametrize("without", ["last_checkpoint", "model_final.pth"])
def test_a_run_without_its_checkpoint_is_not_finished(tmp_path, without):
    (write_run(tmp_path / "run") / without).unlink()
    (system,) = gather([read_run(tmp_path / "run")])
    assert system.runs == () and len(system.unfinished) == 1
    assert system.missing[0].reason.startswith("interrupted after epoch 2 of 2, without a checkpoint")


def test_a_run_that_shall_train_longer_is_not_finished(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "config.yaml").write_text(yaml.safe_dump(settings(epochs=4)))
    assert not read_run(folder).finished


def test_methods_without_clusters_and_the_oracle_are_supervised(tmp_path):
    assert read_run(write_run(tmp_path / "resnet", clustered=False)).supervised
    config = settings() | {"PSEUDO_LABELS": {"ALGORITHM": "oracle"}}
    assert read_run(write_run(tmp_path / "oracle", config=config)).supervised


@pytest.mark.parametrize("path", ["fancl/seed_1", "fancl_1", "fancl"])
def test_a_folder_names_the_system(tmp_path, path):
    assert read_run(write_run(tmp_path / path, seed=1)).system == "fancl"


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("", "There is no run"),
        ("config.yaml", "Expected the OUTPUT_DIR of a run"),
        ("metrics.json", "no finished epoch in metrics.json"),
    ],
)
def test_a_folder_that_is_no_whole_run_is_explained(tmp_path, without, said):
    if without:
        (write_run(tmp_path / "run") / without).unlink()
    with pytest.raises(ValueError, match=said):
        read_run(tmp_path / "run")


def test_several_test_sets_are_refused(tmp_path):
    config = settings() | {"DATASETS": {"NAMES": ["A"], "TESTS": ["A", "B"]}}
    with pytest.raises(ValueError, match="2 test sets: give DATASETS.TESTS one"):
        read_run(write_run(tmp_path / "run", config=config))


def test_a_line_that_is_being_written_does_not_count(tmp_path):
    folder = write_run(tmp_path / "run")
    with open(folder / "metrics.json", "a") as file:
        file.write('{"iteration": 14, "seconds_tr')
    assert len(read_epochs(folder)) == 2


def test_differences_are_named_by_key_without_those_that_every_seed_has():
    one, other = settings(seed=0), settings(seed=1, IMS_PER_BATCH=16)
    assert differences(one, other) == {"SOLVER.IMS_PER_BATCH": (8, 16)}
    assert differences(one, settings(seed=1)) == {}
    del other["SOLVER"]["IMS_PER_BATCH"]  # of a version that did not have it
    assert differences(one, other) == {}


def test_queries_are_written_with_what_was_found_for_each(tmp_path):
    # Query a: the stranger (identity 2) is nearer than its match, rank 2 and AP 1/2. Query b: no identity 9.
    found = market1501(
        np.array([[0.2, 0.1], [0.1, 0.2]]), np.array([1, 9]), np.array([1, 2]), np.array([0, 0]), np.array([1, 1])
    )
    folder = write_run(tmp_path / "run", scores=((50.0, 0.0),))
    write_queries(folder / "queries.csv", [("a.png", 0, 0), ("b.png", 1, 0)], ["Ann", "9"], found)
    assert read_run(folder).queries == (Query("a.png", "Ann", 0.5, 2), Query("b.png", "9", None, None))


def test_queries_of_another_evaluation_are_left_out(tmp_path):
    folder = write_run(tmp_path / "run", scores=((40.0, 0.0),))
    (folder / "queries.csv").write_text("path,identity,ap,first_rank\na.png,1,0.5,2\n")
    assert read_run(folder).queries == ()


def test_the_engine_records_code_machine_memory_and_queries(datasets, tmp_path):
    command_line(arguments("cluster_contrast", tmp_path, SOLVER__MAX_EPOCH=1, **TINY))
    command_line(arguments("cluster_contrast", tmp_path, "--resume", SOLVER__MAX_EPOCH=2, **TINY))
    command_line(arguments("cluster_contrast", tmp_path, "--resume", SOLVER__MAX_EPOCH=2, **TINY))
    run = read_run(tmp_path)
    assert [start["iteration"] for start in run.starts] == [0, run.iterations // 2], "the third trained nothing"
    assert run.starts[0]["versions"].keys() == {"fastreid_fancl", "fastreid", "torch", "numpy", "python"}
    assert run.starts[0]["processes"] == 1
    assert 0.1 < run.peak_memory < 100
    assert [query.identity for query in run.queries] == ["6", "7", "8"], "the names in metadata.csv"
    assert sum(query.first_rank == 1 for query in run.queries) / 3 == pytest.approx(run.last.scores["Rank-1"] / 100)


def test_the_commit_is_that_of_the_package_and_of_no_repository_around_it(tmp_path):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=tmp_path, check=True)

    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    assert commit(package) is None
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "around it")
    assert commit(package) is None
    git("add", ".")
    git("commit", "-q", "-m", "with it")
    assert len(commit(package)) == 12
    (package / "__init__.py").write_text("changed = True\n")
    assert commit(package).endswith("-dirty")
