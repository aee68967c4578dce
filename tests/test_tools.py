import os
import subprocess
import sys

import pytest
from conftest import REPO

COMMANDS = [
    *("tools/train_net.py", "tools/demo.py", "tools/compare.py", "tools/group.py"),
    *("benchmarks/step.py", "benchmarks/clustering.py", "benchmarks/training.py", "benchmarks/plan.py"),
    *("benchmarks/eps.py", "benchmarks/phases.py", "benchmarks/gpu.py", "benchmarks/gpu_pack.py"),
]
# Starts each command in a fork of a process that has loaded what takes seconds, and nothing of this package.
START = """
import os, runpy, sys
import numba, scipy.stats, sklearn.cluster, sklearn.metrics, torch, torch.utils.tensorboard, torchvision

assert not [name for name in sys.modules if name.startswith("fastreid")]
folder, *commands = sys.argv[1:]
for number, command in enumerate(commands):
    process = os.fork()
    if process == 0:
        for stream in (1, 2):
            os.dup2(os.open(f"{folder}/{number}.{stream}", os.O_WRONLY | os.O_CREAT), stream)
        sys.argv, sys.path[0] = [command, "--help"], os.path.dirname(command)
        runpy.run_path(command, run_name="__main__")
        sys.exit()
    with open(f"{folder}/{number}.status", "w") as file:
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), file=file)
"""


def test_a_command_starts_in_a_fresh_process():
    run = subprocess.run([sys.executable, COMMANDS[0], "--help"], capture_output=True, text=True, cwd=REPO, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "usage" in run.stdout


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A folder with the exit status and the output of each command by its number."""
    folder = tmp_path_factory.mktemp("commands")
    subprocess.run([sys.executable, "-c", START, os.fspath(folder), *COMMANDS], cwd=REPO, check=True, timeout=600)
    return folder


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=COMMANDS)
def test_a_command_starts_where_nothing_of_the_package_is_loaded(started, number):
    status, output, errors = ((started / f"{number}.{name}").read_text() for name in ("status", "1", "2"))
    assert int(status) == 0, errors
    assert "usage" in output
