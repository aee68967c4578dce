"""A score without labels that chooses the epoch to keep when there is no test set."""

import logging

from .. import clustering
from .distributed import broadcast_from_main
from .pseudo_labels import PseudoLabels
from .seeds import Stream, derive_seed

logger = logging.getLogger(__name__)


class LabelFreeScore:
    """Scores DBSCAN's groups of the training images without labels; called in place of an evaluation.

    It is the score by which `PSEUDO_LABELS.EPS auto` chooses a radius: high if images of a group are more alike than
    images in general (modularity), and if a part of the pairs gives the same groups (stability). The epoch with the
    highest score becomes `model_best`. RESULTS.md compares it with the last and with the best epoch. The features are
    those of the encoder that is saved, and not those that SpCL has in its memory.
    """

    def __init__(self, cfg, labels: PseudoLabels):
        self.cfg, self.labels = cfg, labels

    def __call__(self) -> dict[str, float]:
        """Numbers by name; "metric" chooses `model_best`."""
        options, epoch = self.cfg.PSEUDO_LABELS, self.labels.trainer.epoch + 1
        distance = self.labels.distance_of_encoder(epoch)
        radii = None if options.EPS == "auto" else (options.EPS,)
        seed = derive_seed(self.cfg.SEED, epoch, Stream.CLUSTERING)
        keys = self.labels.trainer.data_loader.dataset.keys
        eps, sweep = broadcast_from_main(
            lambda: clustering.choose_eps(distance, options.MIN_SAMPLES, radii, seed, keys)
        )
        row = next(row for row in sweep if row.eps == eps)
        logger.info(
            "DBSCAN's groups of the training images after %d epochs: %d, %.0f%% left out; label-free score %.3f "
            "(modularity %.2f, stability %.2f). It is not an accuracy; the epoch with the highest score becomes "
            "model_best.",
            *(epoch, row.clusters, 100 * row.left_out, row.score, row.modularity, row.stability),
        )
        return {
            "label_free_score": row.score,
            "modularity": row.modularity,
            "stability": row.stability,
            "metric": row.score,
        }
