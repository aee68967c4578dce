"""What comparisons through the command line share."""

import os
import sys

from conftest import REPO

from .runs import SMALL, TINY

JOBS = ("--jobs", "2")
TRAIN = [sys.executable, os.fspath(REPO / "tools/train_net.py")]
KEYS = SMALL | {key.replace("__", "."): value for key, value in TINY.items()}
SET = [str(word) for pair in KEYS.items() for word in pair]
