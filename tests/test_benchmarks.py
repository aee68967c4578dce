"""What benchmarks count and read; seconds are for them to say."""

import csv
import json
import math

import hardware  # noqa: E402
import phases  # noqa: E402
import plan as planned_and_actual  # noqa: E402
import pytest
import tables  # noqa: E402
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from fastreid_fancl.engine.estimate import Estimate, Phase
from fastreid_fancl.errors import UserError


@pytest.mark.parametrize(("recomputed", "products"), [(False, 5), (True, 6)])
def test_operations_are_those_of_both_passes_and_of_what_is_computed_again(recomputed, products):
    layers, inputs = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 5)), torch.ones(3, 5)

    def step():
        (checkpoint(layers, inputs, use_reentrant=False) if recomputed else layers(inputs)).sum().backward()

    # Products of 3 * 5 * 7 = 105 multiplications and additions: two forward, two for the gradients of weights, one for
    # that of what is between the layers, and one more to compute this again.
    assert hardware.operations(step) == products * 2 * 105


def test_the_peak_leaves_the_precision_of_products_as_it_was(monkeypatch):
    ticks, before = iter(range(100)), torch.backends.cuda.matmul.allow_tf32
    monkeypatch.setitem(hardware.SIZES, "cpu", 8)
    # Each product takes a tick of this clock, and 2 * 8^3 operations.
    assert hardware.peak(torch.device("cpu"), torch.bfloat16, lambda: next(ticks)) == 1024
    assert torch.backends.cuda.matmul.allow_tf32 == before != torch.backends.cudnn.allow_tf32


def test_all_that_a_plan_prints_is_read():
    expected = (Phase("features", 6, 10), Phase("training", 6, 100), Phase("checkpoint", 2, 3))
    found = planned_and_actual.planned(str(Estimate(expected, (1.5, 2.0), (3.0, 0.5))))
    assert math.isnan(found.pop("start and end, s")), "it is in no plan"
    assert found == {
        "features, s": 60,
        "training, s": 600,
        "checkpoint, s": 6,
        "the run, s": 666,
        "resident memory, GiB": 1.5,
        "GPU memory, GiB": 2,
        "checkpoints, GiB": 3,
        "decoded photographs, GiB": 0.5,
    }


def test_tables_are_printed_and_kept_as_they_come(tmp_path, capsys):
    found = tables.Tables(tmp_path / "new" / "speed", "a machine", threads=2)
    found.show([{"system": "ours", "step_ms": 1234.5}, {"system": "theirs"}])
    found.keep([{"system": "ours", "step_ms": 1234.5}])
    found.keep([{"system": "theirs", "images": 7}])
    printed = capsys.readouterr().out
    assert printed.startswith("a machine, 2 threads; Python 3")
    assert "| system | step ms |\n|---|---|\n| ours | 1.23e+03 |\n| theirs |  |\n" in printed
    assert (tmp_path / "new" / "speed.md").read_text() == printed
    with (tmp_path / "new" / "speed.csv").open() as file:
        ours, theirs = csv.DictReader(file)
    assert (ours["step_ms"], ours["images"], theirs["images"], theirs["machine"]) == ("1234.5", "", "7", "a machine")
    assert "torch" in theirs["versions"]


def test_a_phase_has_its_mean_over_the_epochs_that_had_it(tmp_path):
    lines = [
        {"iteration": 0, "seconds_training": 4, "seconds_evaluation": 1e-4},
        {"iteration": 1, "seconds_training": 6, "seconds_evaluation": 2, "mAP": 9},
    ]
    (tmp_path / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    assert phases.shares(tmp_path) == [  # 10 and 2 of 12 seconds
        {"phase": "training", "times": 2, "seconds_each": 5, "share": 10 / 12},
        {"phase": "evaluation", "times": 1, "seconds_each": 2, "share": 2 / 12},
    ]


@pytest.mark.parametrize("content", ["", "not JSON\n", '{"iteration": 0}\n', "[1]\n"])
def test_a_run_without_seconds_has_no_phases_and_says_so(tmp_path, content):
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(UserError, match="has no seconds of an epoch"):
        phases.shares(tmp_path)


def test_a_damaged_run_ends_the_table_of_phases_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["phases.py", str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match="There is no run .*nowhere"):
        phases.main()
