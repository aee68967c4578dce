#!/usr/bin/env python3
"""Pictures of what a model sees: `visualize.py KIND --run FOLDER [KEY VALUE ...]`.

KIND is fana, attention, retrieval, clusters, eps or matches.

Instead of a run's folder: `--config-file FILE MODEL.WEIGHTS FILE [KEY VALUE ...]`, as for train_net.py.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastreid_fancl.visualize.command import command_line  # noqa: E402

if __name__ == "__main__":
    command_line()
