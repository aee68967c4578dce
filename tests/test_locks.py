"""Locks between processes: what waits, and for how long."""

import os
import subprocess
import sys
import threading
import time

import pytest

from fastreid_fancl.locks import exclusive_lock

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path):
    """A lock that another process holds until its input ends."""
    pytest.importorskip("fcntl")
    path = os.fspath(tmp_path / ".lock")
    command = [sys.executable, "-c", HOLD, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        yield path, holder
        holder.stdin.close()


@pytest.mark.parametrize("wait", [0, 0.5])
def test_a_lock_that_stays_held_fails_when_the_wait_ends(held, wait):
    began = time.monotonic()
    with pytest.raises(BlockingIOError), exclusive_lock(held[0], wait=wait):
        pass
    assert wait <= time.monotonic() - began < wait + 10


@pytest.mark.parametrize("wait", [{}, {"wait": 60}])
def test_a_lock_is_taken_when_its_process_ends_in_time(held, wait):
    path, holder = held
    threading.Timer(0.3, holder.stdin.close).start()
    with exclusive_lock(path, **wait):
        assert holder.wait(60) == 0
