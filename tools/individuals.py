#!/usr/bin/env python3
"""From a folder of photographs to individuals: `individuals.py discover | match | export PROJECT ...`.

docs/individuals.md is the guide; `--help` after a command lists its options.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastreid_fancl.individuals.command import command_line  # noqa: E402

if __name__ == "__main__":
    command_line()
