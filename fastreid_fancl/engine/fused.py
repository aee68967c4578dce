"""Local matches of the training images, and an encoder's neighbours by them: PSEUDO_LABELS.LOCAL."""

import logging
from collections.abc import Sequence
from datetime import datetime

from .. import local
from ..data.datasets import load
from ..data.datasets.photos import Photo
from ..data.datasets.sequences import read_moment
from ..local.calibrate import FEWEST, apart, burst_mates, calibration, copy_inliers

logger = logging.getLogger(__name__)


def local_pairs(cfg, items: Sequence[tuple]) -> local.LocalPairs | None:
    """What compares the images (path, pid, camid) by their local matches; None where the configuration asks for none.

    Keypoints come from the photographs as they are now, whatever the encoder learns. What repeats within a station is
    left out, where stations are known.

    Raises:
        UserError: where faiss is not installed, or a photograph cannot be read.
    """
    if not uses_local(cfg.PSEUDO_LABELS):
        return None
    photos = photos_of(cfg.DATASETS.NAMES)
    known = [photos.get(path, Photo(path)) for path, *_ in items]
    stations, sequences = [photo.station for photo in known], [photo.sequence for photo in known]
    features = local.local_features([photo.path for photo in known])
    pairs = local.LocalPairs(local.without_background(features, stations, sequences))
    pairs.evidence = learned_evidence(pairs, known) or pairs.evidence
    return pairs


def learned_evidence(pairs: local.LocalPairs, photos: Sequence[Photo]) -> local.Calibration | None:
    """A calibration by what is known of the photographs without labels; None where that is too little.

    Changed copies stand in for burst-mates where there are few of these.
    """
    stations, sequences = [photo.station for photo in photos], [photo.sequence for photo in photos]
    positives, negatives = burst_mates(sequences), apart(stations, moments_of(photos))
    copies = None
    if len(negatives) >= FEWEST > len(positives):
        copies = copy_inliers([photos[n * len(photos) // FEWEST].path for n in range(FEWEST)])
    return calibration(pairs.inliers, positives, negatives, copies)


def uses_local(options) -> bool:
    """Whether the options, the PSEUDO_LABELS node, have neighbours by local matches too."""
    return options.LOCAL > 0 and options.ALGORITHM != "oracle"


def photos_of(names: Sequence[str]) -> dict[str, Photo]:
    """Path -> what is known of it in the data sets of these names, where they tell."""
    return {photo.path: photo for name in names for photo in getattr(load(name), "photos", ())}


def moments_of(photos: Sequence[Photo]) -> list[datetime | None]:
    """When photographs were taken; None where that is not known, or not readable."""

    def moment(photo: Photo) -> datetime | None:
        try:
            return read_moment(photo.taken) if photo.taken else None
        except ValueError:
            return None

    return [moment(photo) for photo in photos]


def searched(options) -> int:
    """Neighbours by the encoder that a clustering by the options, the PSEUDO_LABELS node, begins with."""
    return options.K1 + (local.EXTRA if uses_local(options) else 0)
