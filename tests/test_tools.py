import subprocess
import sys

import pytest
from conftest import REPO

COMMANDS = [
    *("tools/train_net.py", "tools/demo.py", "tools/compare.py", "tools/group.py"),
    *("benchmarks/step.py", "benchmarks/clustering.py", "benchmarks/training.py", "benchmarks/plan.py"),
    *("benchmarks/eps.py", "benchmarks/phases.py", "benchmarks/gpu.py", "benchmarks/gpu_pack.py"),
]


@pytest.mark.parametrize("path", COMMANDS)
def test_a_command_starts_in_a_fresh_process(path):
    run = subprocess.run([sys.executable, path, "--help"], capture_output=True, text=True, cwd=REPO, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "usage" in run.stdout
