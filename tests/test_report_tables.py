"""Tables of runs that are written by hand."""

import csv
import io
import json
from dataclasses import replace

import pytest
from support.run_folders import settings, write_run

from fastreid_fancl.report.systems import Missing, gather
from fastreid_fancl.report.tables import (
    FURTHER,
    RETRIEVAL,
    budgets,
    failures,
    latex,
    markdown,
    report,
    rows,
    runs_csv,
    summary_csv,
    write_tables,
)
from fastreid_fancl.runs.read import read_run


@pytest.fixture
def systems(tmp_path):
    """Two unsupervised systems of two seeds, one of which failed for `spcl`, and a supervised one of one seed."""
    for system, seed, mean in (("fancl", 0, 40.0), ("fancl", 1, 42.0), ("spcl", 0, 30.0)):
        write_run(tmp_path / f"{system}/seed_{seed}", seed=seed, scores=((mean, 60.0),))
    write_run(tmp_path / "pcb_rpp/seed_0", clustered=False, scores=((35.0, 60.0),))
    folders = sorted(tmp_path.glob("*/seed_*"))
    return gather(map(read_run, folders), [Missing("spcl", 1, "killed"), Missing("ice", 0, "no data")])


def test_the_table_has_the_form_of_table_iii(systems):
    # fancl: mean of 40 and 42; sample deviation sqrt((1 + 1) / (2 - 1)) = 1.41. Ascending mAP in each group.
    assert markdown(systems, RETRIEVAL).splitlines() == [
        "| Method | mAP | Rank-1 | Rank-5 | Rank-10 |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| *Supervised* |  |  |  |  |",
        "| pcb_rpp | **35.0** | **60.0** | **80.0** | **90.0** |",
        "| *Unsupervised* |  |  |  |  |",
        "| spcl (1 of 2 seeds) | 30.0 | **60.0** | **80.0** | **90.0** |",
        "| fancl | **41.0** ± 1.4 | **60.0** ± 0.0 | **80.0** ± 0.0 | **90.0** ± 0.0 |",
        "| *Failed or unfinished* |  |  |  |  |",
        "| ice (0 of 1 seeds) |  |  |  |  |",
    ]


def test_latex_says_the_same(systems):
    text = latex(systems, RETRIEVAL, "Comparison (%)")
    assert r"\caption{Comparison (\%)}" in text
    assert r"\multicolumn{5}{l}{Unsupervised} \\" in text
    assert r"fancl & \textbf{41.0} $\pm$ 1.4 & " in text
    assert r"pcb\_rpp & \textbf{35.0}" in text
    assert text.count(r"\\") == 8, "a heading, three groups, four systems"


def test_less_time_and_memory_are_better_and_supervised_systems_have_no_clusters(systems):
    found = rows(systems, FURTHER)
    titles = [column.title for column in FURTHER]
    supervised, (spcl, fancl) = found["Supervised"][0].cells, (row.cells for row in found["Unsupervised"])
    assert supervised[titles.index("ARI")].mean is None
    assert fancl[titles.index("ARI")].mean == 0.5
    assert (fancl[titles.index("Clusters")].text, fancl[titles.index("Identities")].text) == ("7.0", "6")
    assert all(cells[titles.index("Seconds per epoch")].best for cells in (spcl, fancl)), "a tie"
    assert not any(cells[titles.index("Clusters")].best for cells in (spcl, fancl)), "more is not better"


def test_a_smaller_number_wins_where_less_is_better(tmp_path):
    # The peak of write_run's epoch n is 1 + n GiB.
    write_run(tmp_path / "short")
    write_run(tmp_path / "long", scores=((30.0, 50.0),) * 3)
    found = rows(gather(map(read_run, (tmp_path / "short", tmp_path / "long"))), FURTHER[-1:])
    assert {row.label: row.cells[0].best for row in found["Unsupervised"]} == {"short": True, "long": False}


def test_comparison_csv_has_a_row_a_system_and_runs_csv_a_row_a_run(systems):
    summary = {row["system"]: row for row in csv.DictReader(io.StringIO(summary_csv(systems)))}
    assert summary["fancl"]["group"] == "Unsupervised"
    assert (float(summary["fancl"]["mAP"]), float(summary["fancl"]["mAP deviation"])) == pytest.approx((41, 2**0.5))
    assert (summary["spcl"]["seeds"], summary["spcl"]["missing"], summary["ice"]["mAP"]) == ("1", "1", "")
    runs = list(csv.DictReader(io.StringIO(runs_csv(systems))))
    assert [(row["system"], row["seed"], row["state"]) for row in runs if row["group"] != "Supervised"] == [
        ("fancl", "0", "finished"),
        ("fancl", "1", "finished"),
        ("spcl", "0", "finished"),
        ("spcl", "1", "killed"),
        ("ice", "0", "no data"),
    ]
    assert runs[0]["Images seen"] == "40"


def test_all_tables_mark_transductive_scores(tmp_path):
    run = write_run(tmp_path / "fancl")
    start = {"commit": None, "machine": "m", "versions": {}, "processes": 1, "threads": 1, "seen_whole": ["Stripes"]}
    (run / "run.json").write_text(json.dumps([start]))
    write_tables(gather([read_run(run)]), tmp_path / "out")
    for table in (tmp_path / "out").iterdir():
        assert "Stripes (transductive" in table.read_text(), table


def test_the_report_prints_budgets_and_what_is_missing(systems, tmp_path):
    text = report(systems)
    assert "Every system was trained on Stripes, tested on Stripes. Seeds: 0, 1. Commit: unknown." in text
    assert "The budgets of all systems are equal: 5 iterations and 40 images seen." in text
    assert "| fancl | 1 | 5 | 40 | 8 | **1.00** ± 0.00 |" in text  # 7.5 seconds are 8
    assert "- spcl, seed 1: killed" in text
    assert "not equal" not in text
    longer = read_run(write_run(tmp_path / "longer"))
    more = report([*systems, *gather([longer])])
    most = "5 iterations and 40 images seen (fancl, pcb_rpp, spcl)"
    assert f"The budgets are not equal: {most}; 10 iterations and 80 images seen (longer)." in more


def test_seeds_of_a_system_that_have_different_budgets_are_not_equal(tmp_path):
    runs = [read_run(write_run(tmp_path / f"fancl/seed_{seed}", seed=seed)) for seed in (0, 1)]
    longer = replace(runs[1], epochs=(runs[1].epochs[0], replace(runs[1].epochs[1], iterations=1234)))
    found = budgets(gather([runs[0], longer]))
    assert found == "The budgets are not equal: 10 to 1,234 iterations and 80 to 9,872 images seen (fancl)."


def test_seeds_that_failed_for_the_same_reason_are_named_together():
    console = "failed with exit status 1: no data (out/spcl/seed_{}/console.txt)"
    missing = [Missing("spcl", seed, console.format(seed)) for seed in (0, 1, 2)] + [Missing("spcl", 3, "killed")]
    assert failures(gather([], [*missing, Missing("ice", 0, console.format(0))])) == {
        "spcl, seeds 0, 1, 2": console.format("*"),
        "spcl, seed 3": "killed",
        "ice, seed 0": console.format(0),
    }


def test_a_comparison_in_which_all_failed_is_still_written(tmp_path):
    text = write_tables(gather([], [Missing("fancl", 0, "no data")]), tmp_path / "new")
    assert "| fancl (0 of 1 seeds) |  |" in text
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        "comparison.csv",
        "comparison.md",
        "comparison.tex",
        "runs.csv",
    }


def test_an_unfinished_run_is_listed_and_not_averaged(tmp_path):
    write_run(tmp_path / "fancl/seed_0", scores=((40.0, 60.0), (41.0, 60.0)))
    write_run(tmp_path / "fancl/seed_1", seed=1, finished=False)
    text = report(gather(map(read_run, sorted((tmp_path / "fancl").iterdir()))))
    assert "| fancl (1 of 2 seeds) | **41.0** |" in text
    assert "fancl, seed 1: interrupted after epoch 1 of 2: resume it with --resume" in text


@pytest.mark.parametrize("which", ["train", "test"])
def test_runs_of_different_data_sets_are_refused(tmp_path, which):
    write_run(tmp_path / "a", config=settings())
    write_run(tmp_path / "b", config=settings(**{which: "Spots"}))
    with pytest.raises(ValueError, match="same data sets.*Stripes.*Spots.*tables of their own"):
        gather(map(read_run, (tmp_path / "a", tmp_path / "b")))


def test_runs_of_different_settings_are_not_seeds_of_one_system(tmp_path):
    write_run(tmp_path / "fancl/seed_0")
    write_run(tmp_path / "fancl/seed_1", config=settings(seed=1, IMS_PER_BATCH=16))
    with pytest.raises(ValueError, match=r"differ in SOLVER.IMS_PER_BATCH \(8 and 16\)"):
        gather(map(read_run, sorted((tmp_path / "fancl").iterdir())))


def test_seeds_may_start_each_from_its_own_seeds_weights(tmp_path):
    for seed, start in ((0, 0), (1, 1), (2, 1)):
        config = settings(seed, WEIGHTS=f"starts/seed_{start}/model_final.pth")
        write_run(tmp_path / f"seed_{seed}", seed, config=config)
    assert len(gather(read_run(tmp_path / f"seed_{seed}") for seed in (0, 1))[0].runs) == 2
    with pytest.raises(ValueError, match=r"differ in SOLVER.WEIGHTS \(starts/seed_\{seed\}.* and starts/seed_1"):
        gather(read_run(tmp_path / f"seed_{seed}") for seed in (1, 2))


def test_a_seed_counts_once(tmp_path):
    folders = [write_run(tmp_path / "one/fancl"), write_run(tmp_path / "other/fancl")]
    with pytest.raises(ValueError, match="got seed 0 twice"):
        gather(map(read_run, folders))
