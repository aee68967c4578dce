"""Two machines on one: by fast-reid's launch, by torchrun, and with a process that dies."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO
from fastreid.engine import launch
from support.runs import arguments, metrics, same, weights

from fastreid_fancl import processes
from fastreid_fancl.engine.run import command_line

TRAIN = os.fspath(REPO / "tools/train_net.py")
LONG = {"SOLVER__MAX_EPOCH": 3, "SOLVER__ITERS_PER_EPOCH": 2}
# Imported by IMPORTS: the second process dies once, in the middle of the run.
FATAL = """
import os, pathlib, signal
from fastreid.utils import comm
from fastreid_fancl.engine.loader import EpochLoader

serve, mark = EpochLoader.__next__, pathlib.Path(__file__ + ".died")

def die_once(loader):
    if comm.get_rank() == 1 and loader.served_epoch == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return serve(loader)

def start(loader, batches, epoch, *rest, begin=EpochLoader.start):
    loader.served_epoch = epoch
    begin(loader, batches, epoch, *rest)

EpochLoader.__next__, EpochLoader.start = die_once, start
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def on_each(commands: list[list[str]], folder: Path, **environment: str) -> list[str]:
    """Run one command a machine at the same time; what they print, into the folder. All must succeed."""
    logs = [folder / f"machine_{number}.txt" for number in range(len(commands))]
    machines = [
        subprocess.Popen(
            command, stdout=log.open("w"), stderr=subprocess.STDOUT, cwd=REPO, env=os.environ | environment
        )
        for command, log in zip(commands, logs, strict=True)
    ]
    try:
        for machine in machines:
            machine.wait(timeout=400)
    finally:
        for machine in machines:
            machine.terminate()  # torchrun then stops its processes
    printed = [log.read_text() for log in logs]
    assert [machine.returncode for machine in machines] == [0] * len(machines), "\n".join(s[-3000:] for s in printed)
    return printed


def torchrun(machine: int, port: int, *options: str) -> list[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    command += ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=test", f"--node-rank={machine}"]
    return [*command, "--local-addr=127.0.0.1", "--monitor-interval=0.2", *options, TRAIN]


@pytest.fixture(scope="module")
def launched(animals, tmp_path_factory) -> Path:
    """A run of two machines by `--num-machines`."""
    folder, port = tmp_path_factory.mktemp("launched"), free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", os.fspath(animals))
        machines = ["--num-machines", "2", "--dist-url", f"tcp://127.0.0.1:{port}", "--machine-rank"]
        on_each(
            [
                [sys.executable, TRAIN, *arguments("cluster_contrast", folder, *machines, str(rank), **LONG)]
                for rank in range(2)
            ],
            folder,
        )
    return folder


def test_two_machines_train_as_two_processes_of_one(datasets, tmp_path, launched):
    command_line(arguments("cluster_contrast", tmp_path, "--num-gpus", "2", **LONG))
    assert same(weights(tmp_path), weights(launched))


def test_under_torchrun_a_process_that_dies_changes_nothing(datasets, tmp_path, launched):
    fatal, run, port = tmp_path / "fatal.py", tmp_path / "run", free_port()
    fatal.write_text(FATAL)
    resumed = arguments("cluster_contrast", run, "--resume", IMPORTS=f"('{fatal}',)", **LONG)
    machines = [[*torchrun(machine, port, "--max-restarts=3"), *resumed] for machine in range(2)]
    on_each(machines, tmp_path, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
    assert Path(f"{fatal}.died").exists()
    assert same(weights(run), weights(launched))
    assert [line["iteration"] for line in metrics(run)] == [line["iteration"] for line in metrics(launched)]


def test_several_machines_need_an_address(datasets, tmp_path):
    with pytest.raises(SystemExit, match="--dist-url tcp://HOST:PORT"):
        command_line(arguments("cluster_contrast", tmp_path, "--num-machines", "2"))


def test_machines_that_do_not_share_the_checkpoint_are_stopped(datasets, tmp_path, monkeypatch):
    command_line(arguments("cluster_contrast", tmp_path, SOLVER__MAX_EPOCH=1))
    monkeypatch.setattr("fastreid_fancl.engine.trainer.comm.all_gather", lambda epoch: [epoch, 0])
    with pytest.raises(SystemExit, match=r"epochs \[1, 0\]: let the machines share OUTPUT_DIR"):
        command_line(arguments("cluster_contrast", tmp_path, "--resume", SOLVER__MAX_EPOCH=2))


def test_the_processes_of_torchrun_are_counted(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "6")
    assert processes.torchrun_processes() == 0, "other launchers set it too"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    assert processes.torchrun_processes() == 6


@pytest.mark.parametrize(("shared", "restarts", "warned"), [("True", 3, True), ("True", 0, False), ("False", 3, False)])
def test_the_store_that_torchrun_shares_between_rounds_is_warned_of(monkeypatch, caplog, shared, restarts, warned):
    variables = {"TORCHELASTIC_RUN_ID": "job", "WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
    variables |= {"GROUP_RANK": 0, "TORCHELASTIC_USE_AGENT_STORE": shared, "TORCHELASTIC_MAX_RESTARTS": restarts}
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr("fastreid_fancl.compat.launch.distributed_worker", lambda *args: None)
    launch(print, 1)
    assert ("TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in caplog.text) == warned
