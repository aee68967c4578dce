#!/usr/bin/env python3
"""Group photographs by animal, with trained weights: `group.py --run FOLDER [--output FILE] [KEY VALUE ...]`.

Other photographs than the run's by `DATASETS.NAMES mine`. Instead of a run's folder:
`--config-file FILE MODEL.WEIGHTS FILE [KEY VALUE ...]`, as for train_net.py; with `MODEL.WEIGHTS ''` the weights that
a training would start from (MODEL.BACKBONE.PRETRAIN True).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastreid_fancl.individuals.grouping import command_line  # noqa: E402

if __name__ == "__main__":
    command_line()
