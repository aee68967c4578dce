"""What patterns say: keypoints -> candidates -> verified matches -> a similarity fused with that of an encoder."""

from .calibrate import Calibration
from .candidates import descriptor_candidates
from .features import DEFAULT, EXTRACTORS, LocalFeatures, Settings, extract
from .match import FEWEST, Matches, ratio_matches, verified_matches
from .pairs import EXTRA, LocalPairs, verifying
from .points import points
from .repeats import foreground, without_background
from .store import local_features

__all__ = [
    "DEFAULT",
    "EXTRA",
    "EXTRACTORS",
    "FEWEST",
    "Calibration",
    "LocalFeatures",
    "LocalPairs",
    "Matches",
    "Settings",
    "descriptor_candidates",
    "extract",
    "foreground",
    "local_features",
    "points",
    "ratio_matches",
    "verified_matches",
    "verifying",
    "without_background",
]
