"""Studies: their files, their runs through the command line on the tiny data set, their plot."""

import os
from dataclasses import replace

import pytest
from conftest import REPO
from PIL import Image
from support.comparisons import JOBS, SET, TRAIN
from support.run_folders import write_run

from fastreid_fancl.compare.command import command_line
from fastreid_fancl.compare.jobs import list_jobs
from fastreid_fancl.compare.study import in_order, lines_of, plot_study, read_study
from fastreid_fancl.report.systems import gather
from fastreid_fancl.report.tables import RETRIEVAL, rows
from fastreid_fancl.runs.read import read_run

STUDIES = REPO / "configs/studies"
FANCL = REPO / "configs/RedPanda/fancl.yml"
AREA = "VARIANTS:\n  a: {FANA.RATIO: 0.0}\n  b: {FANA.RATIO: 0.1, FANA.LAYER: bn1}\nPLOT: {X: FANA.RATIO}\n"


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yml")), ids=lambda path: path.stem)
def test_every_variant_of_every_study_is_a_configuration(tmp_path, path):
    study = read_study(path)
    jobs = list_jobs([FANCL], [0], tmp_path, study=study)
    assert [job.system for job in jobs] == list(study.variants)
    assert all(job.config for job in jobs)


def test_table_ii_has_each_term_alone_and_both(tmp_path):
    jobs = list_jobs([FANCL], [0], tmp_path, study=read_study(STUDIES / "consistency.yml"))
    terms = {job.system: (job.config["CONSISTENCY"]["CLUSTER"], job.config["CONSISTENCY"]["INSTANCE"]) for job in jobs}
    assert terms == {
        "none": (False, False),
        "cluster": (True, False),
        "instance": (False, True),
        "cluster_instance": (True, True),
    }


def test_figure_3_has_seven_areas_after_two_layers_and_no_noise_in_both_lines(tmp_path):
    study = read_study(STUDIES / "noised_area.yml")
    jobs = list_jobs([FANCL], [0], tmp_path, study=study)
    settings = {(job.config["FANA"]["LAYER"], job.config["FANA"]["RATIO"]) for job in jobs}
    areas = [0.05, 0.1, 0.15, 0.2, 0.3, 0.5]
    # Without noise the layer changes nothing; "auto" is conv1 on a ResNet.
    assert settings == {("auto", 0.0), *((layer, area) for layer in ("conv1", "bn1") for area in areas)}
    systems = gather(read_run(write_run(tmp_path / job.system / "seed_0")) for job in jobs)
    lines = {name: [x for x, _ in points] for name, points in lines_of(study, systems).items()}
    assert lines == {"conv1": [0.0, *areas], "bn1": [0.0, *areas]}


def test_a_study_trains_its_variants_and_ends_in_a_table_and_a_plot(datasets, tmp_path, capsys):
    (tmp_path / "area.yml").write_text(AREA)
    words = ["--config-files", os.fspath(FANCL), "--study", os.fspath(tmp_path / "area.yml")]
    words += ["--output", os.fspath(tmp_path / "out"), *JOBS, "--set", *SET]
    assert command_line(TRAIN, words) == 0
    table = capsys.readouterr().out
    assert "| a | " in table and "| b | " in table
    assert "LAYER: bn1" in (tmp_path / "out/b/seed_0/config.yaml").read_text()
    with Image.open(tmp_path / "out/pictures/area.png") as plot:
        assert plot.width > 1000 and len(plot.convert("L").getcolors()) > 1
    assert "mAP and Rank-1 of the variants of area along FANA.RATIO" in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("VARIANTS: {a b: {FANA.RATIO: 0.1}}", "names of letters"),
        ("VARIANTS: {a: {}}", "VARIANTS"),
        ("- a", "VARIANTS"),
        ("VARIANTS: {a: [", "not a YAML file"),
        (AREA.replace("X: FANA.RATIO", "X: FANA.LAYER"), "X a number in each of them"),
        (AREA.replace("FANA.RATIO: 0.0", "FANA.RATIO: auto"), "X a number in each of them"),
        (AREA.replace("X: FANA.RATIO", "X: MODEL.DEVICE"), "keys in VARIANTS"),
        (AREA.replace("X: FANA.RATIO", "Y: FANA.RATIO"), "X: KEY, LINES: KEY"),
    ],
)
def test_a_file_that_is_no_study_is_refused_with_what_was_expected(tmp_path, text, said):
    (tmp_path / "study.yml").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_study(tmp_path / "study.yml")


@pytest.mark.parametrize(
    ("files", "options", "said"),
    [
        ([FANCL, REPO / "configs/RedPanda/spcl.yml"], [], "one of --config-files"),
        ([FANCL], ["FANA.RATIO", "0.2"], "set FANA.RATIO: leave it out of --set"),
    ],
)
def test_a_study_is_of_one_configuration_and_keeps_its_keys(tmp_path, files, options, said):
    (tmp_path / "area.yml").write_text(AREA)
    with pytest.raises(ValueError, match=said):
        list_jobs(files, [0], tmp_path, options, read_study(tmp_path / "area.yml"))


def test_runs_of_something_else_have_no_place_in_the_plot_of_a_study(tmp_path):
    (tmp_path / "area.yml").write_text(AREA)
    systems = gather([read_run(write_run(tmp_path / "spcl/seed_0"))])
    with pytest.raises(ValueError, match="variants of study area, got spcl"):
        in_order(read_study(tmp_path / "area.yml"), systems)


def test_variants_without_an_axis_stand_side_by_side_in_the_order_of_their_file(tmp_path):
    study = read_study(STUDIES / "consistency.yml")
    systems = gather(read_run(write_run(tmp_path / name / "seed_0")) for name in reversed(study.variants))
    systems = in_order(study, systems)
    (group,) = rows(systems, RETRIEVAL).values()
    assert [row.label for row in group] == list(study.variants)
    with Image.open(plot_study(study, systems, tmp_path)) as plot:
        assert plot.width > 1000


def test_a_variant_without_evaluation_leaves_a_gap_in_the_plot(tmp_path):
    (tmp_path / "area.yml").write_text(AREA.replace("a:", "5:"))
    study = read_study(tmp_path / "area.yml")
    runs = [read_run(write_run(tmp_path / name / "seed_0")) for name in ("5", "b")]
    silent = replace(runs[1], epochs=tuple(replace(epoch, scores={}) for epoch in runs[1].epochs))
    assert plot_study(study, in_order(study, gather([runs[0], silent])), tmp_path).exists()
