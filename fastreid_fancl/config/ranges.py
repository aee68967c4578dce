"""Which values a key may have, and the ranges of fast-reid's own numbers, which fast-reid does not check."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from fastreid.config import CfgNode

from .access import value_of

LARGEST = 2**32 - 1  # of seeds; nothing that is counted comes near it


class Rule(Protocol):
    """What is valid for a key; as text it completes the words "expected ..."."""

    def holds(self, value: Any) -> bool:
        """Whether a value, of any type, is valid."""


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`.

    Attributes:
        open_low, open_high: whether `low` and `high` themselves are left out.
        length: of a list of such numbers; None for a single number.
        rising: whether none of the list is below the one before.
        words: to describe the range by, in place of the ones made of its numbers.
    """

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    length: int | None = None
    rising: bool = False
    words: str = ""

    def holds(self, value: Any) -> bool:
        """Whether a value, of any type, is in the range."""
        if self.length is None:
            return self._has(value)
        numbers = list(value) if isinstance(value, (list, tuple)) else []
        fits = len(numbers) == self.length and all(map(self._has, numbers))
        return fits and (not self.rising or numbers == sorted(numbers))

    def _has(self, number: Any) -> bool:
        if type(number) not in (int, float) or not math.isfinite(number):
            return False
        left_out = self.open_low and number == self.low or self.open_high and number == self.high
        return self.low <= number <= self.high and not left_out

    def __str__(self) -> str:
        if self.words:
            return self.words
        numbers = "" if self.length is None else f"{self.length} numbers "
        numbers += "in rising order, " if self.rising else ""
        if self.low == -math.inf:
            return f"{numbers}that are finite".strip()
        if self.high != math.inf and not self.open_low and not self.open_high:
            return f"{numbers}between {self.low:g} and {self.high:g}"
        low = f"above {self.low:g}" if self.open_low else f"at least {self.low:g}"
        high = f"below {self.high:g}" if self.open_high else f"at most {self.high:g}"
        return numbers + low + ("" if self.high == math.inf else f", {high}")


class OneOf:
    """One of some values."""

    def __init__(self, *values: Any):
        self.values = values

    def holds(self, value: Any) -> bool:
        """Whether it is one of them."""
        return value in self.values

    def __str__(self) -> str:
        *others, last = map(str, self.values)
        return f"{', '.join(others)} or {last}"


@dataclass(frozen=True)
class WordOrRange:
    """A word, or a number in a range."""

    word: str
    range: Range

    def holds(self, value: Any) -> bool:
        """Whether it is the word or in the range."""
        return value == self.word or self.range.holds(value)

    def __str__(self) -> str:
        return f"{self.word} or {self.range}"


@dataclass(frozen=True)
class Text:
    """Words that are checked elsewhere, if at all; the configuration takes nothing else for such a key."""

    words: str

    def holds(self, value: Any) -> bool:
        """Whether it is a word or a list."""
        return isinstance(value, (str, tuple, list))

    def __str__(self) -> str:
        return self.words


SWITCH = OneOf(True, False)
SHARE = Range(0, 1)
NOT_NEGATIVE = Range(0)
POSITIVE = Range(0, open_low=True)
COUNT = Range(1)
SIZES = Range(1, length=2)

OF_FAST_REID = {
    **dict.fromkeys([f"INPUT.{name}.PROB" for name in ("FLIP", "CJ", "AUTOAUG", "AUGMIX", "REA", "RPT")], SHARE),
    **dict.fromkeys([f"INPUT.CJ.{name}" for name in ("BRIGHTNESS", "CONTRAST", "SATURATION")], NOT_NEGATIVE),
    "INPUT.CJ.HUE": Range(0, 0.5),
    "INPUT.CROP.SCALE": Range(0, 1, open_low=True, length=2, rising=True),
    "INPUT.CROP.RATIO": Range(0, open_low=True, length=2, rising=True),
    "INPUT.PADDING.SIZE": NOT_NEGATIVE,
    "INPUT.REA.VALUE": Range(length=3),
    "MODEL.PIXEL_MEAN": Range(length=3),
    "MODEL.PIXEL_STD": Range(0, open_low=True, length=3),
    "MODEL.BACKBONE.FEAT_DIM": COUNT,
    "MODEL.BACKBONE.LAST_STRIDE": COUNT,
    **dict.fromkeys([f"MODEL.BACKBONE.{name}" for name in ("DROP_PATH_RATIO", "DROP_RATIO", "ATT_DROP_RATE")], SHARE),
    "MODEL.QUEUE_SIZE": COUNT,
    "MODEL.HEADS.EMBEDDING_DIM": NOT_NEGATIVE,
    "MODEL.HEADS.NUM_CLASSES": NOT_NEGATIVE,
    "MODEL.HEADS.MARGIN": NOT_NEGATIVE,
    "MODEL.HEADS.SCALE": POSITIVE,
    **dict.fromkeys([f"MODEL.LOSSES.{name}.SCALE" for name in ("CE", "FL", "TRI", "CIRCLE", "COSFACE")], NOT_NEGATIVE),
    **dict.fromkeys([f"MODEL.LOSSES.{name}.MARGIN" for name in ("TRI", "CIRCLE", "COSFACE")], NOT_NEGATIVE),
    **dict.fromkeys([f"MODEL.LOSSES.{name}.GAMMA" for name in ("FL", "CIRCLE", "COSFACE")], NOT_NEGATIVE),
    **dict.fromkeys([f"MODEL.LOSSES.{name}.ALPHA" for name in ("CE", "FL")], SHARE),
    "KD.EMA.MOMENTUM": SHARE,
    "SOLVER.BASE_LR": POSITIVE,
    **dict.fromkeys([f"SOLVER.{name}_LR_FACTOR" for name in ("HEADS", "BIAS")], NOT_NEGATIVE),
    **dict.fromkeys([f"SOLVER.WEIGHT_DECAY{name}" for name in ("", "_NORM", "_BIAS")], NOT_NEGATIVE),
    **dict.fromkeys([f"SOLVER.{name}" for name in ("WARMUP_ITERS", "FREEZE_ITERS", "DELAY_EPOCHS")], NOT_NEGATIVE),
    "SOLVER.MOMENTUM": SHARE,
    "SOLVER.GAMMA": Range(0, 1, open_low=True),
    "SOLVER.WARMUP_FACTOR": Range(0, 1, open_low=True),
    "SOLVER.ETA_MIN_LR": NOT_NEGATIVE,
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": POSITIVE,
    "DATALOADER.NUM_WORKERS": NOT_NEGATIVE,
    "TEST.AQE.ALPHA": NOT_NEGATIVE,
    **dict.fromkeys(("TEST.AQE.QE_TIME", "TEST.AQE.QE_K", "TEST.RERANK.K1", "TEST.RERANK.K2"), COUNT),
    "TEST.RERANK.LAMBDA": SHARE,
    "TEST.PRECISE_BN.NUM_ITER": COUNT,
}
"""Keys of numbers that have a range, whatever else is set."""


def out_of_range(cfg: CfgNode) -> Iterator[str]:
    """What is wrong with each of fast-reid's numbers that is out of its range."""
    for key, expected in OF_FAST_REID.items():
        value = value_of(cfg, key)
        if not expected.holds(value):
            yield f"{key} {value}: expected {expected}"
    epsilon, norm = cfg.MODEL.LOSSES.CE.EPSILON, cfg.SOLVER.CLIP_GRADIENTS.NORM_TYPE
    if epsilon != -1 and not SHARE.holds(epsilon):
        yield f"MODEL.LOSSES.CE.EPSILON {epsilon}: expected {SHARE}, or -1 for an adaptive one"
    if norm != math.inf and not POSITIVE.holds(norm):
        yield f"SOLVER.CLIP_GRADIENTS.NORM_TYPE {norm}: expected {POSITIVE}, or .inf"
    if cfg.INPUT.CROP.ENABLED and not any(Range(1, length=n).holds(cfg.INPUT.CROP.SIZE) for n in (1, 2)):
        yield f"INPUT.CROP.SIZE {cfg.INPUT.CROP.SIZE}: expected {SIZES}, [height, width]"


def unbounded(value: Any) -> bool:
    """Whether a value is, or a list of it holds, a number that no setting can have: NaN, infinity, a huge integer."""
    if isinstance(value, (list, tuple)):
        return any(map(unbounded, value))
    if type(value) is int:
        return abs(value) > LARGEST
    return type(value) is float and not math.isfinite(value)
