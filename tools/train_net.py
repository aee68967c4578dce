#!/usr/bin/env python3
"""Train or evaluate any method: `train_net.py --config-file FILE [--resume | --eval-only] [KEY VALUE ...]`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastreid_fancl.engine.run import command_line  # noqa: E402

if __name__ == "__main__":
    command_line()
