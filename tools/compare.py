#!/usr/bin/env python3
"""Compare systems over seeds in one table: `compare.py --config-files FILE ... --seeds 0 1 2 --output DIR`.

Each system and seed is a run of train_net.py in DIR/<system>/seed_<n>: finished ones are skipped, interrupted ones go
on. `--runs FOLDER ...` compares runs that are there.
"""

import signal
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))

from fastreid_fancl.compare.command import command_line  # noqa: E402

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the runs end with this process
    sys.exit(command_line([sys.executable, str(REPO / "tools/train_net.py")]))
