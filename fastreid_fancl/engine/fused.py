"""Local matches of the training images, and an encoder's neighbours by them: PSEUDO_LABELS.LOCAL."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from .. import local
from ..data.datasets import load
from ..data.datasets.photos import Photo
from ..data.datasets.sequences import read_moment
from ..local.calibrate import burst_mates, calibration, simultaneous_pairs

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
    photos = photos_of(cfg.DATASETS.NAMES, [path for path, *_ in items])
    pairs = local.LocalPairs(spots_of(photos))
    pairs.evidence = learned_evidence(pairs, photos) or pairs.evidence
    return pairs


def spots_of(photos: Sequence[Photo]) -> list[local.LocalFeatures]:
    """The keypoints of photographs, without those of the background where stations or cameras are known.

    Raises:
        UnreadableImage: (a UserError) as `read_image`.
    """
    features = local.local_features([photo.path for photo in photos])
    return local.without_background(
        features, [photo.background for photo in photos], [photo.sequence for photo in photos]
    )


def learned_evidence(pairs: local.LocalPairs, photos: Sequence[Photo]) -> local.Calibration | None:
    """A calibration by what is known of the photographs without labels; None where that is too little.

    Photographs of one moment may be cut from one frame and show several animals: their sequences are no positives. Two
    cameras may look at one animal: only named stations give negatives.
    """
    moments = moments_of(photos)
    at_once = Counter((photo.sequence, moment) for photo, moment in zip(photos, moments, strict=True) if moment)
    mixed = {sequence for (sequence, _), number in at_once.items() if number > 1}
    sequences = [None if photo.sequence in mixed else photo.sequence for photo in photos]
    return calibration(
        pairs.inliers, burst_mates(sequences), simultaneous_pairs([photo.station for photo in photos], moments)
    )


def uses_local(options) -> bool:
    """Whether the options, the PSEUDO_LABELS node, have neighbours by local matches too."""
    return options.LOCAL > 0 and options.ALGORITHM != "oracle"


def photos_of(names: Sequence[str], paths: Sequence[str]) -> list[Photo]:
    """What the data sets of these names know of the photographs of some paths.

    Stations, cameras and sequences are named behind their data set, as several may count them from 1.
    """
    known = {photo.path: _behind(name, photo) for name in names for photo in getattr(load(name), "photos", ())}
    return [known.get(path, Photo(path)) for path in paths]


def _behind(name: str, photo: Photo) -> Photo:
    station, camera, sequence = (part and f"{name} {part}" for part in (photo.station, photo.camera, photo.sequence))
    return replace(photo, station=station, camera=camera, sequence=sequence)


def moments_of(photos: Sequence[Photo]) -> list[datetime | None]:
    """When photographs were taken; None where that is not known, or not readable."""

    def moment(photo: Photo) -> datetime | None:
        try:
            return read_moment(photo.taken) if photo.taken else None
        except ValueError:
            return None

    return [moment(photo) for photo in photos]


def neighbours_to_search(options) -> int:
    """Neighbours by the encoder that a clustering by the options, the PSEUDO_LABELS node, begins with."""
    return options.K1 + (local.EXTRA if uses_local(options) else 0)
