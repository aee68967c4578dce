"""benchmarks/gpu.py: its budget, what it does with items that hang or fail, its rehearsal, and how it travels."""

import csv
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import gpu  # noqa: E402
import gpu_items  # noqa: E402
import gpu_pack  # noqa: E402
import gpu_runs  # noqa: E402
import hardware  # noqa: E402
import pytest
import tables  # noqa: E402
import torch
from conftest import REPO
from gpu_plan import PLAN, Item, Setting  # noqa: E402

# Items as others are: called with (report, setting, *arguments), in a process of their own.
FAULTS = """
import os, signal, subprocess, time

def probe(report, setting):
    report("machine", "a machine")
    report("gpus", 1)

def hang(report, setting, mark):
    child = subprocess.Popen(["sleep", "600"])
    report("begun", child.pid)
    print("hanging")
    open(mark, "w").write(f"{os.getpid()} {child.pid}")
    time.sleep(600)

def fail(report, setting):
    report("begun", 1)
    raise ValueError("no weights\\nin b|c")

def die(report, setting):
    print("all is lost", flush=True)
    print()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def faults(tmp_path, monkeypatch) -> Path:
    """A folder on Python's path with the module `faults`."""
    (tmp_path / "faults.py").write_text(FAULTS)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def runner(folder: Path, left: float = 1000, gpus: int = 1) -> gpu.Runner:
    """A runner that knows its machine."""
    made = gpu.Runner(folder, time.monotonic() + left, False, str(folder))
    made.context, made.machine = multiprocessing.get_context("spawn"), {"gpus": gpus}
    made.tables = tables.Tables(folder / "gpu", "a machine", 1)
    made.tables.begin(gpu.COLUMNS)
    return made


def rows(folder: Path) -> list[dict]:
    with (folder / "gpu.csv").open() as file:
        return list(csv.DictReader(file))


def hanging(folder: Path) -> bool:
    """Whether the item "hang" has a row in the table."""
    return (folder / "gpu.csv").exists() and any(row["item"] == "hang" for row in rows(folder))


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int]) -> bool:
    """Whether all end: a signal takes a moment."""
    for _ in range(200):
        if not any(map(alive, pids)):
            return True
        time.sleep(0.05)
    return False


def test_an_item_that_hangs_is_killed_at_its_limit_with_its_children(faults):
    mark = faults / "mark"
    runner(faults).run_item(Item("hang", "faults.hang", 1, 8, "", (str(mark),)))
    begun, ended = rows(faults)
    assert gone([int(pid) for pid in mark.read_text().split()])
    assert begun["value"] == mark.read_text().split()[1]
    assert ended["note"] == "killed at its limit of 8 s; last line: hanging"


@pytest.mark.parametrize(
    ("function", "note"),
    [
        ("fail", "failed with 1; last line: in b/c"),  # a note has no sign of a table
        ("die", "failed with -9; last line: all is lost"),
        ("missing", "failed with 1; last line: AttributeError: module 'faults' has no attribute 'missing'"),
    ],
)
def test_an_item_that_fails_is_reported_with_its_last_line_and_the_next_one_runs(faults, function, note):
    two = runner(faults)
    two.run_item(Item("first", f"faults.{function}", 1, 600, ""))
    two.run_item(Item("second", "faults.probe", 1, 600, ""))
    first, *second = [row for row in rows(faults) if row["measured"] != "begun"]
    assert first["note"] == note
    assert [row["measured"] for row in second] == ["machine", "gpus", "time"]
    assert second[-1]["note"] == "done"


def test_what_no_longer_fits_or_has_too_few_gpus_is_not_run(tmp_path):
    one = runner(tmp_path, left=20)
    one.run_item(Item("long", "faults.hang", 30, 60, ""))
    one.run_item(Item("wide", "faults.hang", 1, 60, "", gpus=2))
    assert [row["measured"] for row in rows(tmp_path)] == ["not run", "not run"]
    too_long, too_wide = (row["note"] for row in rows(tmp_path))
    assert re.fullmatch(r"needs 30 s, \d+ s left", too_long)
    assert too_wide == "needs 2 GPUs, found 1"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_leaves_a_whole_table_and_no_process(faults, how):
    mark = faults / "mark"
    code = f"""
import sys
sys.path[:0] = [{str(REPO / "benchmarks")!r}, {str(faults)!r}]
import gpu
from gpu_plan import Item
if __name__ == "__main__":
    gpu.PROBE, gpu.PROBES = Item("machine", "faults.probe", 1, 600, ""), (("spawn", 600),)
    hang = Item("hang", "faults.hang", 1, 590, "", ({str(mark)!r},))
    gpu.PLAN = [Item("first", "faults.fail", 1, 590, ""), hang]
    sys.argv[1:] = ["--output", {str(faults)!r}]
    gpu.main()
"""
    (faults / "run.py").write_text(code)
    running = subprocess.Popen([sys.executable, str(faults / "run.py")], stdout=subprocess.DEVNULL)
    try:
        while not (mark.exists() and mark.read_text() and hanging(faults)) and running.poll() is None:
            time.sleep(0.05)
    finally:
        running.send_signal(how)
        running.wait()
    assert gone([int(pid) for pid in mark.read_text().split()])
    found = [(row["item"], row["measured"]) for row in rows(faults)]
    assert found[-3:] == [("first", "begun"), ("first", "time"), ("hang", "begun")]
    lines = (faults / "gpu.md").read_text().splitlines()
    assert [line.count("|") for line in lines[2:]] == [6] * (2 + len(found))


def test_a_table_is_not_replaced_by_half_of_one(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("whole")
    with pytest.raises(RuntimeError), tables.replacing(path) as file:
        file.write("ha")
        raise RuntimeError
    assert path.read_text() == "whole"


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory) -> list[dict]:
    """The rows of `--rehearse`."""
    folder = tmp_path_factory.mktemp("rehearsal")
    command = [sys.executable, str(REPO / "benchmarks/gpu.py"), "--rehearse", "--output", "found"]
    environment = os.environ | {"FASTREID_DATASETS": "datasets"}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (folder / "found/gpu.md").read_text() == done.stdout
    assert (folder / "datasets/SyntheticTiny").is_dir()
    return rows(folder / "found")


def test_a_rehearsal_does_every_item(rehearsed):
    ends = {row["item"]: row for row in rehearsed if row["measured"] == "time"}
    assert list(ends) == ["machine", *(item.name for item in PLAN)]
    assert not {name: row["note"] for name, row in ends.items() if row["note"] not in ("", "done")}


def test_a_rehearsal_measures_what_needs_no_gpu(rehearsed):
    """Every row has a value or says why it has none."""
    assert not [row for row in rehearsed if row["value"] == "" and not row["note"]]
    measured = {row["item"] for row in rehearsed if row["measured"] != "time" and row["value"] not in ("", "0")}
    assert measured == {"machine", *(item.name for item in PLAN)}


def test_a_rehearsed_schedule_trains_the_timm_encoder(rehearsed):
    found = {(row["item"], row["measured"]): row for row in rehearsed}
    for item in ("schedule fancl", "schedule cluster_contrast"):
        # Both start from one encoder, whose scores only training changes.
        assert found[item, "mAP at the start"]["value"] == found["schedule fancl", "mAP at the start"]["value"]
        assert found[item, "mAP at the end"]["value"] != found[item, "mAP at the start"]["value"]
    notes = [row["note"] for row in rehearsed if row["measured"] == "features"]
    assert len(notes) == 3 and all("random weights" in note for note in notes)


def test_what_the_items_share_is_imported_without_cuda(rehearsed):
    """A fork of a process in which CUDA has begun cannot use it."""
    assert [row["value"] for row in rehearsed if row["measured"] == "processes start by"] == ["forkserver"]


def test_a_rehearsal_says_what_needs_cuda(rehearsed):
    without = {(row["item"], row["measured"]) for row in rehearsed if row["note"].endswith("needs CUDA")}
    assert ("tests", "passed") in without
    assert ("step fancl bfloat16", "GPU idle") in without
    assert {("plan fancl", f"GPU memory, {what}") for what in ("planned", "actual")} < without
    assert not [row for row in rehearsed if "remove it" in row["note"] or "keep it" in row["note"]]


def test_a_rehearsal_finds_what_is_equal_on_a_cpu(rehearsed):
    found = {(row["item"], row["measured"]): row["value"] for row in rehearsed}
    for what in ("run repeated", "run resumed"):
        assert float(found["resume", what]) == 0
    assert float(found["clustering 32621 x 2048", "labels of the CPU"]) == 1
    assert float(found["two ranks", "distances alone and shared"]) == 1


def test_every_test_that_needs_a_gpu_has_the_mark():
    other_way = "skipif(not " + "torch.cuda"
    found = [path.name for path in Path(__file__).parent.glob("*.py") if other_way in path.read_text()]
    assert not found, "mark them `cuda`, by which benchmarks/gpu.py finds them"


def test_the_rule_says_whether_to_keep_or_remove_a_way():
    sent = []
    for gpus, without in ((1, 1.04), (1, 1.02), (0, 1.04)):  # 1.04 times as fast, then below 1.03
        setting = Setting(False, gpus, 60, "")
        gpu_items.speed_up(lambda *row: sent.append(row), setting, "a way", 1.0, without)
    assert [row[1] for row in sent] == [1.04, 1.02, 1.04]
    assert [row[3].rpartition(": ")[2] for row in sent] == ["keep it", "remove it", "needs CUDA"]


def test_the_largest_difference_of_weights_is_reported():
    sent = []
    expected = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3])}
    for what, found in (("resumed", expected | {"a": torch.tensor([1.0, 2.5])}), ("again", expected)):
        gpu_runs.compare(lambda *row: sent.append(row), what, expected, found)
    difference = "largest difference"
    assert sent == [("resumed", 0.5, difference, "in a"), ("again", 0.0, difference, "bit-identical")]


def test_kernels_that_run_at_once_count_once():
    # From 0 to 3 and from 5 to 6; a third one lies within the last.
    assert hardware.covered([(5, 6), (0, 2), (1, 3), (5.5, 5.7)]) == 4
    assert hardware.covered([]) == 0


@pytest.fixture
def packing(monkeypatch):
    """Packing without registry, git and drawing: 3 MB."""
    monkeypatch.setattr(gpu_pack, "copy_source", lambda target: target.mkdir())
    monkeypatch.setattr(gpu_pack, "download", lambda wanted, target: (target / "a.whl").write_bytes(bytes(10**6)))
    monkeypatch.setattr(gpu_pack, "pack_data", lambda target: target.write_bytes(bytes(2 * 10**6)))


def test_a_pack_says_its_size_and_one_that_is_too_large_fails(packing, tmp_path, monkeypatch, capsys):
    gpu_pack.pack(tmp_path / "pack")
    assert f"3.00 MB  {tmp_path / 'pack'}, of 60 at most" in capsys.readouterr().out
    assert os.access(tmp_path / "pack/run.sh", os.X_OK)
    monkeypatch.setattr(gpu_pack, "LARGEST", 2.9)
    with pytest.raises(SystemExit, match="more than 2.9 MB"):
        gpu_pack.pack(tmp_path / "pack")


def wheel(folder: Path, name: str) -> None:
    """A wheel of one module without anything in it."""
    folder.mkdir()
    info = f"{name}-1.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


def test_a_pack_installs_what_the_machine_lacks(tmp_path, monkeypatch, capsys):
    wheel(tmp_path / "wheels", "carried_by_wheel")
    monkeypatch.setattr(gpu_pack, "CARRIED", {"carried_by_wheel": "", "yaml": ""})
    gpu_pack.install(tmp_path, tmp_path / "site")
    assert (tmp_path / "site/carried_by_wheel.py").exists()
    assert "installed from the folder: carried_by_wheel; found: yaml" in capsys.readouterr().out


def test_a_machine_must_have_what_is_too_large_to_carry(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_pack, "REQUIRED", ("torch", "not_there_at_all"))
    with pytest.raises(SystemExit, match="install not_there_at_all on this machine first"):
        gpu_pack.install(tmp_path, tmp_path / "site")
