"""fast-reid's own configuration and trainer on the data set of conftest, small enough for a test.

Import it before anything of fastreid: it fixes fast-reid first.
"""

import fastreid_fancl  # noqa: F401, I001
from fastreid_fancl.errors import UserError

from conftest import REPO
from fastreid.config import CfgNode, get_cfg
from fastreid.engine import DefaultTrainer

__all__ = ["REPO", "refuse", "stock_cfg", "stock_trainer"]


def stock_cfg(output="", **changes) -> CfgNode:
    """The bag of tricks on the CPU; `SOLVER__MAX_EPOCH=1` sets SOLVER.MAX_EPOCH."""
    cfg = get_cfg()
    cfg.merge_from_file(str(REPO / "tests/configs/bagtricks.yml"))
    cfg.OUTPUT_DIR = str(output)
    for key, value in changes.items():
        node = cfg
        *parents, name = key.split("__")
        for parent in parents:
            node = node[parent]
        node[name] = value
    return cfg


def stock_trainer(output, **changes) -> DefaultTrainer:
    return DefaultTrainer(stock_cfg(output, **changes))


def refuse(message: str) -> None:
    """What a process does with a wrong input."""
    raise UserError(message)
