"""tools/compare.py, from the command line on the tiny data set, and what it refuses."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO
from support.comparisons import JOBS, SET, TRAIN
from support.run_folders import write_run
from support.runs import same, weights

from fastreid_fancl.compare import command
from fastreid_fancl.compare.command import command_line, progress, reason, start
from fastreid_fancl.compare.jobs import list_jobs
from fastreid_fancl.errors import UserError


def write_config(folder, name, base, **keys):
    path = folder / f"{name}.yml"
    lines = [f"_BASE_: {REPO}/configs/RedPanda/{base}.yml"]
    lines += [f"{node}:\n  {key}: {value}" for node, (key, value) in keys.items()]
    path.write_text("\n".join(lines) + "\n")
    return os.fspath(path)


@pytest.fixture(scope="module")
def compared(animals, tmp_path_factory):
    """The arguments, the result and the folder of a comparison of two systems that train and one that cannot."""
    folder = tmp_path_factory.mktemp("compare")
    files = [
        write_config(folder, "clusters", "cluster_contrast"),
        write_config(folder, "broken", "cluster_contrast", MODEL=("WEIGHTS", "nowhere.pth")),
        write_config(folder, "baseline", "resnet50"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", os.fspath(animals))
        output = folder / "out"
        words = ["--config-files", *files, "--seeds", "0", "1", "--output", os.fspath(output), *JOBS]
        command = [sys.executable, os.fspath(REPO / "tools/compare.py"), *words, "--set", *SET]
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPO, timeout=500)
        yield files, done, output


def compare(files, output, *flags, seeds=("0", "1"), options=SET):
    words = ["--config-files", *files, "--seeds", *seeds, "--output", os.fspath(output), *flags, "--set", *options]
    return command_line(TRAIN, words)


def test_systems_and_seeds_end_in_tables_with_what_failed_in_them(compared):
    _, done, output = compared
    assert done.returncode == 1, done.stdout + done.stderr
    assert "0 of 6 runs are finished, 6 to run." in done.stdout
    assert "| broken (0 of 2 seeds) |" in done.stdout
    with open(output / "runs.csv", newline="") as file:
        rows = {(row["system"], row["seed"]): row for row in csv.DictReader(file)}
    assert len(rows) == 6
    for system, group in (("clusters", "Unsupervised"), ("baseline", "Supervised")):
        for seed in "01":
            row = rows[system, seed]
            assert (row["group"], row["state"]) == (group, "finished")
            assert 0 < float(row["mAP"]) <= 100
    assert "nowhere.pth" in rows["broken", "0"]["state"]
    assert "± " in (output / "comparison.md").read_text()


def test_a_report_alone_runs_nothing_and_keeps_why_runs_failed(compared, datasets):
    files, _, output = compared
    table, console = output / "runs.csv", output / "broken/seed_0/console.txt"
    before, at = table.read_text(), console.stat().st_mtime_ns
    assert compare(files, output, "--report-only") == 1
    assert (table.read_text(), console.stat().st_mtime_ns) == (before, at)


def test_finished_runs_are_not_run_again(compared, datasets, capsys):
    files, _, output = compared
    before = {path: path.stat().st_mtime_ns for path in output.rglob("model_final.pth")}
    assert compare([files[0], files[2]], output) == 0
    assert "4 of 4 runs are finished, 0 to run." in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in output.rglob("model_final.pth")} == before


def test_a_dry_run_says_what_would_run_and_starts_nothing(compared, datasets, tmp_path, capsys):
    files, _, output = compared
    misspelt = write_config(tmp_path, "misspelt", "fancl", FANA=("RATE", 0.1))
    assert compare([files[0], misspelt], output, "--dry-run", seeds=["0", "2"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "clusters seed 0: finished, skipped"
    assert said[1].startswith("misspelt seed 0: will fail: Unknown configuration key")
    assert said[2].startswith("clusters seed 2: trains 2 epochs of one pass over the images, batches of 8, about ")
    assert said[2].endswith(" minutes by 4 epochs measured")
    assert said[-1].endswith(" minutes, 1 at a time.")
    assert not (output / "clusters/seed_2").exists()


def test_a_run_has_its_seed_in_settings_that_name_it(tmp_path):
    options = ["MODEL.WEIGHTS", "starts/seed_{seed}/model_final.pth"]
    jobs = list_jobs([Path(write_config(tmp_path, "clusters", "cluster_contrast"))], (3, 7), tmp_path, options)
    assert [job.config["MODEL"]["WEIGHTS"] for job in jobs] == [f"starts/seed_{n}/model_final.pth" for n in (3, 7)]


def test_a_dry_run_rehearses_what_was_never_run(datasets, tmp_path, capsys):
    assert compare([write_config(tmp_path, "new", "resnet50")], tmp_path / "out", "--dry-run", seeds=["0", "1"]) == 0
    *runs, total = capsys.readouterr().out.splitlines()
    assert len(runs) == 2 and all(line.endswith(" minutes by a rehearsal") for line in runs)
    assert float(total.split()[2]) >= 0
    assert not (tmp_path / "out").exists()


def test_an_interrupted_run_goes_on_to_the_same_weights(compared, datasets, capsys):
    files, _, output = compared
    folder = output / "clusters/seed_1"
    whole = weights(folder)
    (folder / "model_final.pth").unlink()
    (folder / "last_checkpoint").write_text("model_0000.pth")
    assert compare(files[:1], output, "--dry-run") == 0
    assert "clusters seed 1: continues after epoch 1 of 2" in capsys.readouterr().out, "that of its checkpoint"
    assert compare(files[:1], output, *JOBS) == 0
    assert same(whole, weights(folder))


def test_folders_of_runs_are_compared_too(tmp_path, capsys):
    folders = [os.fspath(write_run(tmp_path / f"fancl_{seed}", seed=seed)) for seed in range(2)]
    assert command_line(TRAIN, ["--runs", *folders, "--output", os.fspath(tmp_path / "table")]) == 0
    assert "| fancl | **40.0** ± 0.0 |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        command_line(TRAIN, ["--runs", *folders, "--dry-run", "--output", os.fspath(tmp_path / "table")])
    assert "--runs compares existing runs" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="error: There is no run .*nowhere"):
        command_line(TRAIN, ["--runs", os.fspath(tmp_path / "nowhere"), "--output", os.fspath(tmp_path / "table")])


@pytest.mark.parametrize(
    ("names", "flags", "options", "said"),
    [
        (["a", "other/a"], [], [], "different names, got a more than once"),
        (["a", "nowhere"], [], [], "There is no configuration file .*nowhere.yml"),
        (["a"], ["--seeds", "1", "1"], [], "--seeds of different names, got 1 more than once"),
        (["a"], [], ["SEED", "3"], "without SEED and OUTPUT_DIR"),
        (["a"], [], ["SOLVER.MAX_EPOCH"], "Expected --set KEY VALUE"),
        (["a", "spots"], [], [], "same data sets.*trained on Spots"),
        (["a"], ["--baseline", "b"], [], "Expected --baseline to be one of a, got b"),
        (["a"], ["--gpus", "99"], [], "Expected --gpus out of .*, got 99"),
        (["a"], [], ["MODEL.WEIGHTS", "start_{seed}.pth"], "name of a folder seed_{seed}/, .*got start_{seed}.pth"),
    ],
)
def test_comparisons_that_mean_nothing_are_refused_before_anything_runs(tmp_path, names, flags, options, said):
    (tmp_path / "other").mkdir()
    write_config(tmp_path, "a", "fancl")
    write_config(tmp_path, "other/a", "fancl")
    write_config(tmp_path, "spots", "fancl", DATASETS=("NAMES", '("Spots",)'))
    files = [os.fspath(tmp_path / f"{name}.yml") for name in names]
    options = ["--set", *options] if options else []
    with pytest.raises(SystemExit, match=said):
        command_line(TRAIN, ["--config-files", *files, "--output", os.fspath(tmp_path / "out"), *flags, *options])
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_run_of_other_settings_is_not_gone_on_with(compared, datasets):
    files, _, output = compared
    with pytest.raises(SystemExit, match=r"run with other settings.*PSEUDO_LABELS.K1 \(6 and 5\).*another --output"):
        compare(files[:1], output, options=[*SET, "PSEUDO_LABELS.K1", "5"])


def test_a_process_gets_its_gpu_its_threads_and_leaves_its_last_words(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    job = list_jobs([REPO / "configs/RedPanda/fancl.yml"], [0], tmp_path)[0]
    code = "import os, sys; print(os.environ['OMP_NUM_THREADS'], os.environ['CUDA_VISIBLE_DEVICES']); sys.exit(3)"
    process = start(job, [sys.executable, "-c", code], threads=2, gpu="1")
    assert reason(job, process.wait()) == f"failed with exit status 3: 2 1 ({job.folder / 'console.txt'})"


def test_gpus_are_counted_among_those_that_the_user_makes_visible(monkeypatch):
    monkeypatch.setattr(command.torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert command.gpu_names(["1", "0"]) == ["1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8a2f,5")
    assert command.gpu_names(["1", "0"]) == ["GPU-8a2f", "3"]
    with pytest.raises(UserError, match=r"those that PyTorch sees \(0, 1\), got 3"):
        command.gpu_names(["3"])


@pytest.mark.parametrize(("own", "expected"), [("", 3), ("1", 1), ("4,2", 3)])
def test_runs_share_the_cores_unless_the_user_set_their_threads(monkeypatch, own, expected):
    monkeypatch.setattr(command, "available_cores", lambda: 6)
    monkeypatch.setenv("OMP_NUM_THREADS", own)
    assert command.threads(parallel=2) == expected


def test_a_killed_run_says_by_what(tmp_path):
    job = list_jobs([REPO / "configs/RedPanda/fancl.yml"], [0], tmp_path)[0]
    process = start(job, [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], threads=1, gpu=None)
    assert reason(job, process.wait()).startswith("killed by SIGKILL: run the same command again to continue it")


def test_progress_is_read_from_what_a_run_has_logged(tmp_path):
    job = list_jobs([REPO / "configs/RedPanda/fancl.yml"], [0], tmp_path, ["SOLVER.MAX_EPOCH", "2"])[0]
    assert progress(job) == "starting"
    write_run(job.folder, finished=False)
    assert progress(job) == "epoch 1 of 2 done, iteration 6, mAP 30.0"


def test_stopping_the_comparison_stops_its_runs(tmp_path, monkeypatch):
    started = []

    def interrupt(self, *counts):
        raise KeyboardInterrupt

    def start_and_remember(*args):
        started.append(start(*args))
        return started[-1]

    monkeypatch.setattr(command.Reporter, "report", interrupt)
    monkeypatch.setattr(command, "start", start_and_remember)
    config = os.fspath(REPO / "configs/RedPanda/fancl.yml")
    endless = [sys.executable, "-c", "import time; time.sleep(300)"]
    with pytest.raises(SystemExit, match="run the same command again to continue"):
        command_line(endless, ["--config-files", config, "--output", os.fspath(tmp_path / "out")])
    assert [process.poll() is None for process in started] == [False]
