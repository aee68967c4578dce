"""Which epoch to keep where no test says so: a sign that needs no labels."""

import logging

from .. import clustering
from .distributed import broadcast_from_main
from .pseudo_labels import PseudoLabels
from .seeds import Stream, derive_seed

logger = logging.getLogger(__name__)


class GroupSigns:
    """Judge the groups of the training images without labels; called in the place of an evaluation.

    The sign is the score by which `PSEUDO_LABELS.EPS auto` chooses a radius: high where images of a group are more
    alike than images at large (modularity), and where a part of the pairs finds the same groups again (stability). Its
    best value decides what `model_best` is. RESULTS.md compares that epoch with the last and with the best one.
    """

    def __init__(self, cfg, labels: PseudoLabels):
        self.cfg, self.labels = cfg, labels

    def __call__(self) -> dict[str, float]:
        """Numbers by name; "metric" is what `model_best` is chosen by."""
        options, epoch = self.cfg.PSEUDO_LABELS, self.labels.trainer.epoch + 1
        distance = self.labels.snapshot(epoch).distance
        radii = None if options.EPS == "auto" else (options.EPS,)
        seed = derive_seed(self.cfg.SEED, epoch, Stream.CLUSTERING)
        keys = self.labels.trainer.data_loader.dataset.keys
        eps, sweep = broadcast_from_main(
            lambda: clustering.choose_eps(distance, options.MIN_SAMPLES, radii, seed, keys)
        )
        row = next(row for row in sweep if row.eps == eps)
        logger.info(
            "The training images after %d epochs: %d groups, %.0f%% left out; sign %.3f (modularity %.2f, stability "
            "%.2f). The sign needs no labels and is no accuracy; the epoch with the highest one becomes model_best.",
            *(epoch, row.clusters, 100 * row.left_out, row.score, row.modularity, row.robustness),
        )
        return {"sign": row.score, "modularity": row.modularity, "stability": row.robustness, "metric": row.score}
