"""Damaged files of a run's folder end in one line that names the file and the place, and never in a traceback."""

import gzip
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.run_folders import settings as config_of
from support.run_folders import write_run

from fastreid_fancl.compare.command import command_line as compare
from fastreid_fancl.report.systems import gather
from fastreid_fancl.report.tables import write_tables
from fastreid_fancl.runs.read import read_epochs, read_run
from fastreid_fancl.runs.tables import cluster_tables, find_cluster_table, read_sweeps
from fastreid_fancl.visualize.clusters import read_clusters

DEEP = "[" * 20_000
QUERIES = "path,pid,ap,first_rank\n"
SWEEP = "epoch,eps,score,clusters,left_out,used\n"
START = {"commit": None, "machine": "m", "versions": {}, "processes": 1, "threads": 1}
DAMAGED = {
    "run.json": [
        *("[{}]", "{}", "null", "[1]", DEEP, "[", '[{"commit": 1}]', "\udcff", "[" + "9" * 5000 + "]"),
        *(json.dumps([{**START, key: value}]) for key, value in (("versions", [1]), ("machine", {}), ("threads", "2"))),
        json.dumps([{**START, "seen_whole": [1]}]),
    ],
    "queries.csv": [
        QUERIES + f"a.png,{'x' * 200_000},0.5,1\n",
        *(QUERIES + row for row in ("a,b,c,1\n", "a,b,0.5,1.5\n", "a,b\n", "a,b,nan,1\n", "a,b,0.5,-\n")),
        *("path,pid\na,b\n", QUERIES + "a,b,0.5,1,2\n", "\udcff", "", QUERIES + "a,b,0.5,99999999999999999999\n"),
    ],
    "config.yaml": [
        *("SEED: zero\n", "[]", "a: [", "a: &a [*a]\n", DEEP, "\udcff", "!!int ''", "!!timestamp x", "? {}\n: 1\n", ""),
        *("SEED: 1\nDATASETS: {NAMES: 1, TESTS: [a]}\n", "SEED: 0\nDATASETS: []\n", "SEED: " + "9" * 5000),
    ],
    "last_checkpoint": ["\udcff", "", "a/b"],
}
CASES = [(name, text) for name, texts in DAMAGED.items() for text in texts]


def write(path: Path, text: str) -> None:
    """Text in which a lone surrogate stands for a byte that is no UTF-8."""
    path.write_bytes(text.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(("name", "text"), CASES, ids=lambda value: repr(value)[:30])
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path, name, text):
    run = write_run(tmp_path / "fancl")
    write(run / name, text)
    with pytest.raises(SystemExit, match=f"error: .*{name} is damaged: .") as stop:
        compare([], ["--runs", os.fspath(run), "--output", os.fspath(tmp_path / "out")])
    assert "\n" not in str(stop.value.code) and len(str(stop.value.code)) < 1000


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "metrics.json", "queries.csv"])
def test_what_is_not_a_file_is_not_waited_for(tmp_path, name):
    run = write_run(tmp_path / "fancl")
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    with pytest.raises(ValueError, match=f"{name} is damaged: it is not a regular file"):
        read_run(run)


BROKEN = ['{"mAP": 30}', "7", "{", DEEP, '{"iteration": "5"}', '{"iteration": 5, "mAP": "30"}', '{"iteration": 1e400}']
BROKEN += ['{"iteration": 5, "mAP": ' + "9" * 400 + "}", '{"iteration": true}', '{"iteration": 5, "mAP": [1]}']
BROKEN += ["\0\0\0", "{}"]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda line: line[:30])
def test_a_broken_line_of_the_history_is_said_and_does_not_end_it(tmp_path, broken, caplog):
    run = write_run(tmp_path / "fancl")
    first, *others = (run / "metrics.json").read_text().splitlines()
    (run / "metrics.json").write_text("\n".join([first, broken, *others]) + "\n")
    assert [epoch.scores["mAP"] for epoch in read_epochs(run)] == [30, 40]
    assert "metrics.json is damaged: line 2, " in caplog.text


def test_numbers_that_are_none_are_no_scores(tmp_path):
    run = write_run(tmp_path / "fancl")
    text = (run / "metrics.json").read_text()
    text = text.replace('"mAP": 40.0', '"mAP": NaN').replace('"ari": 0.5', '"ari": Infinity')
    (run / "metrics.json").write_text(text)
    assert [list(epoch.scores.values())[:1] for epoch in read_epochs(run)] == [[30], []]
    assert all("ari" not in epoch.clustering for epoch in read_epochs(run))
    write_tables(gather([read_run(run)]), tmp_path / "out")


SWEEPS = ["epoch,eps\n0,0.5\n", "", "\udcff", *(SWEEP + row for row in ("", "0,0.5,1,x,0,1", "0,0.5", "0,0.5,1,2,0,0"))]


@pytest.mark.parametrize("text", SWEEPS)
def test_a_damaged_sweep_is_named(tmp_path, text):
    write(tmp_path / "eps_sweep.csv", text)
    with pytest.raises(ValueError, match=r"eps_sweep.csv is damaged: "):
        read_sweeps(tmp_path / "eps_sweep.csv")


WHOLE = gzip.compress(b"path,cluster\n" + b"a.png,0\n" * 5000)
TABLES = {
    "truncated": WHOLE[: len(WHOLE) // 2],
    "empty": b"",
    "no gzip": b"path,cluster\na.png,0\n",
    "another check sum": WHOLE[:-8] + b"\0" * 8,
    "other columns": gzip.compress(b"file,group\na.png,0\n"),
    "a word for a cluster": gzip.compress(b"path,cluster\na.png,big\n"),
    "a cell too many": gzip.compress(b"path,cluster\na.png,0,1\n"),
}


@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES.keys())
def test_a_damaged_table_of_clusters_is_named(tmp_path, content):
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters/epoch_3.csv.gz").write_bytes(content)
    (tmp_path / "clusters/epoch_x.csv.gz").touch()
    epoch, path = find_cluster_table(tmp_path, None)
    assert epoch == 3 and list(cluster_tables(tmp_path)) == [3]
    with pytest.raises(ValueError, match=r"epoch_3.csv.gz is damaged: "):
        read_clusters(path, {"a.png": "a"})


FILES = ("config.yaml", "metrics.json", "run.json", "queries.csv", "last_checkpoint", "pictures/index.json")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with all the files that a comparison reads."""
    pytest.importorskip("plotly")
    config = config_of(epochs=1)
    run = write_run(tmp_path_factory.mktemp("whole") / "fancl", scores=((50.0, 0.0),), config=config)
    (run / "queries.csv").write_text(QUERIES + "a.png,1,0.5,2\nb.png,2,,\n")
    (run / "run.json").write_text(json.dumps([START]))
    (run / "pictures").mkdir()
    picture = {"kind": "fana", "file": "one.png", "caption": "c", "alt": "a"}
    (run / "pictures/index.json").write_text(json.dumps([picture]))
    return run


def mutated(data: st.DataObject, text: bytes) -> bytes:
    """A file with some bytes changed, cut out or put in, or one of its values replaced by any other."""
    kind = data.draw(st.sampled_from(["bytes", "cut", "value", "all"]))
    start = data.draw(st.integers(0, max(0, len(text) - 1)))
    if kind == "bytes":
        return text[:start] + data.draw(st.binary(min_size=1, max_size=4)) + text[start + 1 :]
    if kind == "cut":
        return text[:start]
    value = json.dumps(data.draw(JSON)).encode()
    if kind == "all":
        return value
    end = data.draw(st.integers(start, min(len(text), start + 12)))
    return text[:start] + value + text[end:]


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_damage_of_a_run_is_a_traceback(whole, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    run = shutil.copytree(whole, folder / "fancl")
    for name in data.draw(st.lists(st.sampled_from(FILES), min_size=1, max_size=2, unique=True)):
        (run / name).write_bytes(mutated(data, (run / name).read_bytes()))
    try:
        compare([], ["--runs", os.fspath(run), "--output", os.fspath(folder / "out")])
    except SystemExit as stop:
        assert str(stop.code).startswith("error: ")
    shutil.rmtree(folder)
