"""fast-reid's logger: one handler each, and on the console only what a person needs."""

import functools
import logging
import sys

from fastreid.utils import logger as fastreid_logger

from ..runs.log import EscapingFormatter, emit_beside_bars, for_a_person
from .imports import wrap


@wrap(fastreid_logger.setup_logger)
def setup_logger(stock, output=None, distributed_rank=0, *, color=True, name="fastreid", abbrev_name=None):
    """Symptom: with two trainers in one process every line appears twice, and in the first one's log file too.

    Cause: utils/logger.py:34 adds handlers for each new output and removes none.
    Fix: the handlers of the previous call are removed first.

    Symptom: the few lines that matter are lost among hundreds of settings; names of files can move the cursor.
    Cause: utils/logger.py:50 sends everything to the console, unescaped.
    Fix: `runs.log.for_a_person` decides, and the rest comes as `coloured`, beside the bars of `progress`.
    """
    log = logging.getLogger(name)
    for handler in log.handlers[:]:
        log.removeHandler(handler)
    # Without its cache, so that a second call with the same output adds its handlers again.
    log = stock.__wrapped__(output, distributed_rank, color=color, name=name, abbrev_name=abbrev_name)
    for handler in log.handlers:
        handler.setFormatter(EscapingFormatter(handler.formatter))
        if getattr(handler, "stream", None) is sys.stdout:
            handler.addFilter(for_a_person)
            handler.emit = functools.partial(emit_beside_bars, handler.emit)
    return log
