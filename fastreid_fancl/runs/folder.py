"""A run's folder as its writers need it: one writer at a time, and a new run replaces an old one."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..errors import UserError
from ..files import CannotWriteError, DiskFullError, explained, make_folder, replacing
from ..locks import exclusive_lock

logger = logging.getLogger(__name__)

# Settings that must stay as they are when a run resumes, because its checkpoint depends on them.
FIXED_BY_CHECKPOINT = (
    *("MODEL.META_ARCHITECTURE", "MODEL.BACKBONE.NAME", "MODEL.BACKBONE.DEPTH", "MODEL.BACKBONE.TIMM"),
    *("MODEL.BACKBONE.BATCHNORM", "MODEL.FREEZE_LAYERS", "SOLVER.OPT", "SOLVER.BASE_LR"),
    *("SOLVER.HEADS_LR_FACTOR", "SOLVER.BIAS_LR_FACTOR", "SOLVER.WEIGHT_DECAY", "SOLVER.MOMENTUM", "SOLVER.NESTEROV"),
    *("SOLVER.SCHED", "SOLVER.STEPS", "SOLVER.GAMMA", "SOLVER.WARMUP"),
)


def write_config(
    folder: Path, settings: str, evaluation: bool = False, before: Callable[[], None] = lambda: None
) -> None:
    """Write the settings (YAML) of a run: config_eval.yaml for an evaluation, otherwise config.yaml.

    `before` is called when the file has been written and has only its temporary name.
    """
    make_folder(folder)
    with replacing(folder / ("config_eval.yaml" if evaluation else "config.yaml")) as temporary:
        Path(temporary).write_text(settings, encoding="utf-8")
        before()


def start_over(folder: Path) -> None:
    """Remove the record of the last checkpoint, so that --resume cannot go on with an earlier run."""
    last = folder / "last_checkpoint"
    if last.exists():
        logger.warning("The earlier run in %s is overwritten; --resume would have continued it.", folder)
        last.unlink()


@contextmanager
def sole_writer(folder: str) -> Iterator[None]:
    """Lock an output folder against other runs.

    Raises:
        UserError: if no folder is named, it cannot be written to, or another run is writing to it.
    """
    if not folder:
        raise UserError("OUTPUT_DIR is empty: name a folder for what the run writes.")
    with ExitStack() as stack:
        path = os.path.join(folder, ".lock")
        try:
            with explained(path):
                stack.enter_context(exclusive_lock(path, wait=0))
        except DiskFullError:
            raise
        except BlockingIOError as error:
            raise UserError(
                f"Another run is writing to {folder}: wait for it, stop it, or give this one its own OUTPUT_DIR."
            ) from error
        except CannotWriteError as error:
            raise UserError(f"OUTPUT_DIR {folder} cannot be written to ({error}): choose another.") from error
        yield
