"""What a plan says before a run against what the run then does; seconds belong in benchmarks."""

import os
import re

import pytest
import torch
from support.runs import arguments, by_name

from fastreid_fancl import load_config
from fastreid_fancl.engine.estimate import Estimate, Phase, config_of_one_process, estimate_run, periods
from fastreid_fancl.engine.run import command_line
from fastreid_fancl.engine.timing import AHEAD, batches_of, seconds_each


def configuration(method: str, output, **changes):
    options = arguments(method, output, **changes)
    return load_config(options[1], options[2:])


@pytest.mark.parametrize("method", ["fancl", "spcl", "ice", "pplr", "resnet50"])
def test_a_run_has_the_phases_and_leaves_the_files_of_its_plan(datasets, tmp_path, monkeypatch, method):
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "home"))
    keys = {"SOLVER__MAX_EPOCH": 3, "SOLVER__CHECKPOINT_PERIOD": 2, "TEST__EVAL_PERIOD": 3}
    expected = estimate_run(configuration(method, tmp_path / "run", **keys))
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob("home/*/*.npy")), "a plan writes nothing that stays"

    command_line(arguments(method, tmp_path / "run", **keys))
    logged = by_name(tmp_path / "run")
    times = {phase.name: phase.times for phase in expected.phases}
    for phase in ("features", "clustering", "memory"):
        epochs = len(logged.get(f"seconds_{phase}", []))
        assert times.get(phase, 0) == (1 if (method, phase) == ("spcl", "features") else epochs)
    assert times["training"] == 3
    assert times["evaluation"] == len(logged["mAP"]) == 1
    saved = list((tmp_path / "run").glob("*.pth"))
    assert times["checkpoint"] == len(saved) == 3, "after two epochs, the last one and the best one"
    assert expected.disk[0] == pytest.approx(sum(file.stat().st_size for file in saved) / 2**30, rel=0.01)
    log = (tmp_path / "run" / "log.txt").read_text()
    assert log.rindex("Decoded and resized") < log.index("Starting training"), "before the clocks of the phases run"
    decoded = [file.stat().st_size for file in tmp_path.glob("home/*/*.npy")]
    assert expected.disk[1] == pytest.approx(sum(decoded) / 2**30, rel=0.1)
    assert all(phase.seconds > 0 for phase in expected.phases)


def test_a_plan_is_printed_and_nothing_starts(datasets, tmp_path, capsys):
    command_line(arguments("cluster_contrast", tmp_path / "run", "--plan"))
    printed = capsys.readouterr().out
    rows = re.findall(r"^\| (\w+) \| (\d+) \|", printed, flags=re.MULTILINE)
    before = [("features", "2"), ("clustering", "2"), ("memory", "2")]
    assert rows == [*before, ("training", "2"), ("evaluation", "1"), ("checkpoint", "3")]
    assert "Memory of a process" in printed
    assert not (tmp_path / "run").exists()


def test_a_plan_counts_the_best_checkpoint_once(datasets, tmp_path):
    expected = estimate_run(configuration("resnet50", tmp_path / "run", SOLVER__MAX_EPOCH=4, TEST__EVAL_PERIOD=2))
    assert expected.phases[-1].name == "checkpoint"
    assert expected.phases[-1].times == 5, "after each of four epochs, and the best one"
    command_line(arguments("resnet50", tmp_path / "run", SOLVER__MAX_EPOCH=4, TEST__EVAL_PERIOD=2))
    saved = [file.stat().st_size for file in (tmp_path / "run").glob("*.pth")]
    assert len(saved) == 5
    assert expected.disk[0] == pytest.approx(sum(saved) / 2**30, rel=0.01)


def test_a_plan_without_a_test_counts_the_scoring_of_groups(datasets, tmp_path):
    keys = {"DATASETS__TESTS": "()", "SOLVER__MAX_EPOCH": 2}
    phases = {
        phase.name: phase.times for phase in estimate_run(configuration("cluster_contrast", tmp_path, **keys)).phases
    }
    assert (phases["features"], phases["clustering"], phases["memory"]) == (3, 3, 2), "once more after the last epoch"
    assert phases["checkpoint"] == 3, "of two epochs, and the best one"


def test_a_plan_counts_what_scoring_costs_a_method_that_stores_its_features(datasets, tmp_path):
    keys = {"DATASETS__TESTS": "()", "SOLVER__MAX_EPOCH": 4, "TEST__EVAL_PERIOD": 2}
    phases = {phase.name: phase.times for phase in estimate_run(configuration("spcl", tmp_path, **keys)).phases}
    assert phases["features"] == 1 + 2, "before the first epoch, and for the scores after epochs 2 and 4"
    assert phases["clustering"] == 4 + 2


def test_a_plan_knows_all_that_an_evaluation_can_do(datasets, tmp_path):
    everything = {f"TEST__{name}__ENABLED": True for name in ("FLIP", "AQE", "RERANK", "ROC")}
    phases = estimate_run(configuration("resnet50", tmp_path, **everything)).phases
    assert [phase.name for phase in phases] == ["training", "evaluation", "checkpoint"]


def test_a_plan_of_what_cannot_start_says_why(datasets, tmp_path):
    with pytest.raises(SystemExit, match=r"nowhere\.pth"):
        command_line(arguments("fancl", tmp_path, "--plan", MODEL__WEIGHTS="nowhere.pth"))


def test_one_of_several_processes_has_its_share_of_the_batches(tmp_path):
    one = config_of_one_process(configuration("fancl", tmp_path), 2, "elsewhere")
    assert (one.SOLVER.IMS_PER_BATCH, one.TEST.IMS_PER_BATCH, one.OUTPUT_DIR) == (4, 8, "elsewhere")


def test_what_happens_every_few_epochs_also_happens_after_the_last():
    assert [periods(6, period) for period in (1, 2, 4, 6, 9, 0, -1)] == [6, 3, 2, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("workers", "load", "compute", "each"),
    [(0, 2, 3, 5), (1, 2, 3, 3), (1, 3, 2, 3), (4, 8, 1, 2), (4, 8, 3, 3), (4, 1, 1, 1)],
)
def test_a_step_waits_for_workers_that_are_slower_whatever_they_have_loaded_ahead(workers, load, compute, each):
    """By a clock of its own: a step in the middle of an epoch takes max(compute, load / workers), or their sum."""
    now, taken, ready = 0.0, 0, [0.0] * batches_of(workers)

    def order():  # worker n loads batches n, n + workers, ..., each when it was ordered and the one before is done
        for batch in range(taken, min(taken + AHEAD * workers, len(ready))):
            before = ready[batch - workers] if batch >= workers else 0.0
            ready[batch] = ready[batch] or max(now, before) + load

    def skip():
        nonlocal now, taken
        order()
        now = max(now, ready[taken]) if workers else now + load
        taken += 1
        order()

    def step():
        nonlocal now
        skip()
        now += compute + (100 if taken == 1 else 0)  # the first one is slow

    found = seconds_each(step, skip, workers, torch.device("cpu"), clock=lambda: now)
    assert found == pytest.approx(each, rel=0.2)
    assert len(ready) - taken == AHEAD * workers, "workers are loading when the clock stops"


def test_minutes_are_those_of_all_times():
    printed = str(Estimate((Phase("training", 6, 100), Phase("evaluation", 2, 30)), (1.0, 2.0), (3.0, 0.5)))
    assert "| training | 6 | 100 | 10 |" in printed
    assert "| the run | | | 11 |" in printed
    assert "1.00 GiB, 2.00 GiB of its GPU" in printed


def test_whole_groups_are_no_rule_for_one_process(datasets, tmp_path):
    cfg = configuration("fancl", tmp_path, SOLVER__IMS_PER_BATCH=12, DATALOADER__NUM_INSTANCE=4)
    assert config_of_one_process(cfg, 6, "elsewhere").DATALOADER.NUM_INSTANCE == 2
    assert estimate_run(cfg, 6).seconds > 0


def test_a_run_on_true_identities_can_be_planned(datasets, tmp_path):
    phases = estimate_run(configuration("cluster_contrast", tmp_path, PSEUDO_LABELS__ALGORITHM="oracle")).phases
    assert [phase.name for phase in phases][:3] == ["features", "clustering", "memory"]
