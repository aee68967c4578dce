"""Paired differences between systems, from the queries of runs that are written by hand."""

import numpy as np
import pytest
from scipy.stats import bootstrap
from support.run_folders import write_queried_run

from fastreid_fancl.report.statistics import difference, differences_by_baseline, interval
from fastreid_fancl.report.systems import gather
from fastreid_fancl.runs.read import read_run


@pytest.fixture
def compare(tmp_path):
    """The difference of two systems, each given as the precisions of each seed."""

    def run(ours, theirs, score="mAP"):
        for name, seeds in (("ours", ours), ("theirs", theirs)):
            for seed, precisions in seeds.items():
                write_queried_run(tmp_path / name, precisions, seed)
        return difference(*gather(map(read_run, sorted(tmp_path.glob("*/seed_*")))), score)

    return run


def test_the_difference_of_two_queries_by_hand(compare):
    # 0.5 - 0.4 and 0.7 - 0.2: 10 and 50 points. Of four resamples one is twice 10, one twice 50: both ends have 25%.
    found = compare({0: [0.5, 0.7]}, {0: [0.4, 0.2]})
    assert (found.mean, found.low, found.high) == pytest.approx((30, 10, 50))
    assert (found.queries, found.seeds) == (2, (0,))


def test_rank_1_counts_the_queries_whose_first_is_right(compare):
    # First ranks 1 1 2 against 2 1 2: one of three.
    assert compare({0: [1, 1, 0.5]}, {0: [0.5, 1, 0.5]}, "Rank-1").mean == pytest.approx(100 / 3)


def test_only_seeds_that_both_have_are_compared_and_they_are_resampled(compare):
    # Seed 0 differs by 0 points, seed 1 by 10, in all queries; seed 2 has no partner. Resampled seeds give 0, 5 or 10.
    found = compare({0: [0.5, 0.5], 1: [0.6, 0.6], 2: [0.9, 0.9]}, {0: [0.5, 0.5], 1: [0.5, 0.5], 5: [0.1, 0.1]})
    assert found.seeds == (0, 1)
    assert (found.mean, found.low, found.high) == pytest.approx((5, 0, 10), abs=1e-9)


def test_queries_without_a_match_do_not_count(compare):
    found = compare({0: [0.5, None, 0.7]}, {0: [0.4, None, 0.2]})
    assert (found.mean, found.queries) == (pytest.approx(30), 2)


def test_queries_are_paired_by_their_path_below_the_data_set(tmp_path):
    ours = write_queried_run(tmp_path / "ours", [0.5, 0.7], root="/data/pandas")
    theirs = write_queried_run(tmp_path / "theirs", [0.4, 0.2], root="/mnt/pandas")
    lines = (theirs / "queries.csv").read_text().splitlines()
    (theirs / "queries.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    found = difference(*gather(map(read_run, (ours, theirs))))
    assert (found.low, found.high) == pytest.approx((10, 50))


def test_a_system_does_not_differ_from_itself_and_exchange_changes_the_sign(tmp_path):
    a, b = np.random.default_rng(0).uniform(size=(2, 30)).tolist()
    for name, precisions in (("a", a), ("b", b), ("copy_of_a", a)):
        write_queried_run(tmp_path / name, precisions)
    found = differences_by_baseline(gather(map(read_run, sorted(tmp_path.glob("*/seed_*")))))
    same, there, back = found["a"]["copy_of_a"]["mAP"], found["a"]["b"]["mAP"], found["b"]["a"]["mAP"]
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))
    assert there.low < there.mean < there.high


def test_with_one_seed_the_interval_is_that_of_scipy():
    differences = np.random.default_rng(1).normal(3, 20, size=(1, 80))
    expected = bootstrap(differences, np.mean, method="percentile", rng=2, n_resamples=20000).confidence_interval
    assert interval(differences) == pytest.approx(expected, abs=0.4)  # the deviation of the mean is 2.2


def test_seeds_that_disagree_widen_the_interval():
    queries = np.random.default_rng(3).normal(0, 20, size=(1, 80))
    narrow, wide = interval(queries.repeat(3, axis=0)), interval(queries + [[-10.0], [0.0], [10.0]])
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])


@pytest.mark.parametrize(
    ("theirs", "seed", "said"),
    [
        ([0.5, 0.7], 1, "no seed in common"),
        ([0.5, 0.7, 0.9], 0, "tested on other queries"),
        ([0.5, None], 0, "tested on other queries"),
    ],
)
def test_systems_that_cannot_be_paired_say_why(compare, theirs, seed, said):
    with pytest.raises(ValueError, match=said):
        compare({0: [0.5, 0.7]}, {seed: theirs})


def test_one_query_has_no_interval(compare):
    with pytest.raises(ValueError, match="only one query has a match"):
        compare({0: [0.5]}, {0: [0.4]})


def test_runs_without_queries_have_no_difference_and_say_so(tmp_path):
    write_queried_run(tmp_path / "a", [0.5, 0.7])
    (write_queried_run(tmp_path / "b", [0.5, 0.7]) / "queries.csv").unlink()
    found = differences_by_baseline(gather(map(read_run, sorted(tmp_path.glob("*/seed_*")))))
    assert found["a"]["b"]["mAP"] == found["b"]["a"]["Rank-1"] == "no queries.csv of the last evaluation"
