"""From the keypoints of two photographs to those that show the same spots: ratio test, then one geometry for all.

Shapes: n and m keypoints of two photographs, M matches.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from .features import LocalFeatures

RATIO = 0.8  # of the distances to the nearest and the second nearest descriptor (Lowe, IJCV 2004)
# Distance of a match from where the geometry puts it, as a share of the keypoints' extent: about 8 of 400 pixels.
MAX_ERROR = 0.02
ITERATIONS = 300
CONFIDENCE = 0.999
FEWEST = 5  # inliers; an affine map fits any three points
LARGEST_SCALE = 3.0  # of one photograph in the other
LARGEST_STRETCH = 2.5  # of one direction against the other: a flank that turns away from the camera


@dataclass(frozen=True)
class Matches:
    """Verified matches: row numbers of keypoints in the first and the second photograph, each (M,) int64."""

    first: np.ndarray
    second: np.ndarray

    def __len__(self):
        return len(self.first)


NONE = Matches(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


def verified_matches(a: LocalFeatures, b: LocalFeatures) -> Matches:
    """The matches of two photographs that pass the ratio test and agree on one plausible affine map.

    The search goes from the photograph whose digest comes first, so that the order of the two does not matter.
    """
    if a.digest > b.digest:
        swapped = verified_matches(b, a)
        return Matches(swapped.second, swapped.first)
    matches = ratio_matches(a.descriptors, b.descriptors)
    if len(matches) < FEWEST:
        return NONE
    max_error = MAX_ERROR * float(np.ptp(b.pixels, axis=0).max())
    affine, inliers = fit_affine(a.pixels[matches.first], b.pixels[matches.second], max_error)
    if inliers.sum() < FEWEST or not is_plausible(affine):
        return NONE
    return Matches(matches.first[inliers], matches.second[inliers])


def ratio_matches(a: np.ndarray, b: np.ndarray, ratio: float = RATIO) -> Matches:
    """Descriptors (n, W) whose nearest one of (m, W) is nearer than `ratio` of the second nearest; uint8 or float.

    Where several have the same nearest one, only the nearest of them stays: a spot is in a photograph once.
    """
    if not len(a) or len(b) < 2:
        return NONE
    a, b = a.astype(np.float32), b.astype(np.float32)
    # Whole numbers below 2^24: every sum is exact, so that ties are ties on every machine.
    squared = (b * b).sum(axis=1) - 2 * (a @ b.T)
    rows = np.arange(len(a))
    nearest = squared.argmin(axis=1)
    own = (a * a).sum(axis=1)
    first = squared[rows, nearest] + own
    squared[rows, nearest] = np.inf
    second = squared.min(axis=1) + own
    kept = np.flatnonzero(first < ratio**2 * second)
    kept = kept[np.lexsort((kept, first[kept]))]
    _, once = np.unique(nearest[kept], return_index=True)
    kept = np.sort(kept[once])
    return Matches(kept, nearest[kept])


def fit_affine(a: np.ndarray, b: np.ndarray, max_error: float) -> tuple[np.ndarray | None, np.ndarray]:
    """The affine map (2, 3) that most places (M, 2) agree with, up to `max_error` pixels, and which do, (M,).

    By MAGSAC++ (Barath et al., CVPR 2020) of OpenCV, with a fixed seed. The map is None, and none agree, if the places
    allow no map.
    """
    affine, inliers = cv2.estimateAffine2D(
        a, b, method=cv2.USAC_MAGSAC, ransacReprojThreshold=max_error, maxIters=ITERATIONS, confidence=CONFIDENCE
    )
    if affine is None:
        return None, np.zeros(len(a), dtype=bool)
    return affine, inliers.ravel().astype(bool)


def is_plausible(affine: np.ndarray | None) -> bool:
    """Whether an affine map (2, 3) can be one animal seen twice: no mirror, no large scale, no large stretch."""
    if affine is None or np.linalg.det(affine[:, :2]) <= 0:
        return False
    longest, shortest = np.linalg.svd(affine[:, :2], compute_uv=False)
    scale = np.sqrt(longest * shortest)
    return bool(1 / LARGEST_SCALE <= scale <= LARGEST_SCALE and longest <= LARGEST_STRETCH * shortest)
