"""The ranges of fast-reid's own numbers: it takes any, and trains on what a value out of its range does."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

LARGEST = 2**32 - 1  # of seeds; nothing that is counted comes near it


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`, `low` itself left out where it is `open`.

    Attributes:
        length: of a list of such numbers; None for a number alone.
        rising: whether none of the list is below the one before.
    """

    low: float = -math.inf
    high: float = math.inf
    open: bool = False
    length: int | None = None
    rising: bool = False

    def holds(self, value) -> bool:
        """Whether a value, of any type, is in the range."""
        if self.length is None:
            return self._has(value)
        numbers = list(value) if isinstance(value, (list, tuple)) else []
        fits = len(numbers) == self.length and all(map(self._has, numbers))
        return fits and (not self.rising or numbers == sorted(numbers))

    def _has(self, number) -> bool:
        if type(number) not in (int, float) or not math.isfinite(number):
            return False
        return self.low <= number <= self.high and not (self.open and number == self.low)

    def __str__(self) -> str:
        numbers = "" if self.length is None else f"{self.length} numbers "
        numbers += "in rising order, " if self.rising else ""
        if self.low == -math.inf:
            return f"{numbers}that are finite".strip()
        low = f"above {self.low:g}" if self.open else f"at least {self.low:g}"
        if self.high == math.inf:
            return numbers + low
        return numbers + (f"{low}, at most {self.high:g}" if self.open else f"between {self.low:g} and {self.high:g}")


SHARE = Range(0, 1)
NOT_NEGATIVE = Range(0)
POSITIVE = Range(0, open=True)
COUNT = Range(1)
SIZES = Range(1, length=2)

OF_FAST_REID = {
    **dict.fromkeys([f"INPUT.{name}.PROB" for name in ("FLIP", "CJ", "AUTOAUG", "AUGMIX", "REA", "RPT")], SHARE),
    **dict.fromkeys([f"INPUT.CJ.{name}" for name in ("BRIGHTNESS", "CONTRAST", "SATURATION")], NOT_NEGATIVE),
    "INPUT.CJ.HUE": Range(0, 0.5),
    "INPUT.CROP.SCALE": Range(0, 1, open=True, length=2, rising=True),
    "INPUT.CROP.RATIO": Range(0, open=True, length=2, rising=True),
    "INPUT.PADDING.SIZE": NOT_NEGATIVE,
    "INPUT.REA.VALUE": Range(length=3),
    "MODEL.PIXEL_MEAN": Range(length=3),
    "MODEL.PIXEL_STD": Range(0, open=True, length=3),
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
    "SOLVER.GAMMA": Range(0, 1, open=True),
    "SOLVER.WARMUP_FACTOR": Range(0, 1, open=True),
    "SOLVER.ETA_MIN_LR": NOT_NEGATIVE,
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": POSITIVE,
    "DATALOADER.NUM_WORKERS": NOT_NEGATIVE,
    "TEST.AQE.ALPHA": NOT_NEGATIVE,
    **dict.fromkeys(("TEST.AQE.QE_TIME", "TEST.AQE.QE_K", "TEST.RERANK.K1", "TEST.RERANK.K2"), COUNT),
    "TEST.RERANK.LAMBDA": SHARE,
    "TEST.PRECISE_BN.NUM_ITER": COUNT,
}
"""Keys of numbers that have a range, whatever else is set."""


def out_of_range(cfg) -> Iterator[str]:
    """What is wrong with each of fast-reid's numbers that is out of its range."""
    for key, expected in OF_FAST_REID.items():
        value = cfg
        for part in key.split("."):
            value = value[part]
        if not expected.holds(value):
            yield f"{key} {value}: expected {expected}"
    epsilon, norm = cfg.MODEL.LOSSES.CE.EPSILON, cfg.SOLVER.CLIP_GRADIENTS.NORM_TYPE
    if epsilon != -1 and not SHARE.holds(epsilon):
        yield f"MODEL.LOSSES.CE.EPSILON {epsilon}: expected {SHARE}, or -1 for an adaptive one"
    if norm != math.inf and not POSITIVE.holds(norm):
        yield f"SOLVER.CLIP_GRADIENTS.NORM_TYPE {norm}: expected {POSITIVE}, or .inf"
    if cfg.INPUT.CROP.ENABLED and not any(Range(1, length=n).holds(cfg.INPUT.CROP.SIZE) for n in (1, 2)):
        yield f"INPUT.CROP.SIZE {cfg.INPUT.CROP.SIZE}: expected {SIZES}, [height, width]"


def unbounded(value) -> bool:
    """Whether a value is, or a list of it holds, a number that no setting can have: NaN, infinity, a huge integer."""
    if isinstance(value, (list, tuple)):
        return any(map(unbounded, value))
    if type(value) is int:
        return abs(value) > LARGEST
    return type(value) is float and not math.isfinite(value)
