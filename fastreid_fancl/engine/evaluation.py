"""Evaluation: the protocol of a test, fast-reid's evaluator on it, and the groups of its photographs.

fast-reid's evaluator gives the scores of retrieval in percent: mAP, Rank-k (CMC) and mINP, means over the queries that
have a match. WildlifeDatasets and MegaDescriptor report Rank-1 as accuracy (top-1, 1-NN): the share of queries whose
nearest photograph, among those that count, shows the same animal. It has no second name here.

Scores of grouping: see `clustering.grouping_scores`.
"""

import copy
import itertools
import logging
from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F
from fastreid.evaluation import ReidEvaluator
from fastreid.evaluation.query_expansion import aqe
from fastreid.evaluation.roc import evaluate_roc
from fastreid.utils import comm
from fastreid.utils.compute_dist import build_dist
from sklearn.metrics import roc_curve
from torch import Tensor

from .. import clustering
from ..data import UNLABELLED
from ..data.check import require_matches
from ..data.datasets import load
from ..data.datasets.photos import Photo
from ..data.datasets.protocols import Protocol, leave_one_out
from ..data.keys import image_keys
from ..errors import UserError
from ..logs import FILE_ONLY
from ..ranking import Ranking, checked_market1501
from .labels import assign_labels, clustering_device, explain_cuda_oom
from .record import write_queries
from .seeds import Stream, derive_seed

logger = logging.getLogger(__name__)
RANKS = (1, 5, 10)


def protocol(cfg, name: str) -> Protocol:
    """The queries and gallery to score: a data set's test, or with TEST.TRANSDUCTIVE its training photographs."""
    dataset = load(name)
    if cfg.TEST.TRANSDUCTIVE:
        return leave_one_out(_labelled(dataset, cfg.DATASETS.COMBINEALL))
    return Protocol(dataset.query, dataset.gallery, getattr(dataset, "test_identities", []), dataset._junk_pids)


def _labelled(dataset, combined: bool) -> list[Photo]:
    """The training photographs with a known identity, each once."""
    sequences = {photo.path: photo.sequence for photo in getattr(dataset, "photos", ())}
    if combined:
        dataset = copy.copy(dataset)
        dataset.combine_all()
    prefix = f"{getattr(dataset, 'dataset_name', '')}_"
    known = {path: str(pid).removeprefix(prefix) for path, pid, _ in dataset.train if pid != UNLABELLED}
    return [Photo(path, identity, sequence=sequences.get(path)) for path, identity in known.items()]


def check_protocols(cfg) -> None:
    """Check that every data set of DATASETS.TESTS can be scored as the configuration says.

    Raises:
        UserError: with TEST.TRANSDUCTIVE on data sets that are not trained on; with no query that has a match; with
            re-ranking or query expansion where queries are in the gallery.
    """
    others = [name for name in cfg.DATASETS.TESTS if name not in cfg.DATASETS.NAMES]
    if cfg.TEST.TRANSDUCTIVE and others:
        raise UserError(
            f"TEST.TRANSDUCTIVE scores the photographs that are trained on, but {', '.join(others)} of DATASETS.TESTS "
            "is not in DATASETS.NAMES: add it there, or set TEST.TRANSDUCTIVE False."
        )
    for name in cfg.DATASETS.TESTS:
        test = protocol(cfg, name)
        require_matches(name, test)
        on = [key for key in ("AQE", "RERANK") if cfg.TEST[key].ENABLED]
        if on and test.leaves_one_out:
            raise UserError(
                f"TEST.{on[0]} takes the queries for other photographs than the gallery's, but {name} is scored by "
                f"leave-one-out, where they are the same: set TEST.{on[0]}.ENABLED False."
            )


class ProtocolEvaluator(ReidEvaluator):
    """fast-reid's evaluator for a `Protocol`: it encodes each photograph once, and writes a table of the queries.

    Args:
        test: the protocol; the loader gives its `photographs` in their order.
        path: the table's file.
    """

    def __init__(self, cfg, test: Protocol, path: str):
        super().__init__(cfg, len(test.query))
        self.test, self.path = test, path

    def evaluate(self) -> dict[str, float]:
        """The scores by name, in percent; empty on all processes except the first."""
        predictions = comm.gather(self._predictions, dst=0)
        if not comm.is_main_process():
            return {}
        parts, rows = list(itertools.chain(*predictions)), self.test.rows
        whole = {name: torch.cat([part[name] for part in parts]) for name in ("feats", "pids", "camids")}
        features, pids, camids = (values[rows] for values in whole.values())
        results = self._score(features, pids.numpy(), camids.numpy())
        identities = np.where(np.isin(whole["pids"], self.test.strangers), -1, whole["pids"])
        groups = group_test(
            whole["feats"], identities, self.cfg, image_keys(path for path, *_ in self.test.photographs)
        )
        return OrderedDict(results | groups)  # fast-reid's table of scores takes no other mapping

    def _score(self, features: Tensor, pids: np.ndarray, camids: np.ndarray) -> dict[str, float]:
        """The scores of retrieval, as fast-reid's evaluator computes them for one process (its own gathers again).

        Args:
            features: (Q + G, D), queries first, as are pids and camids (Q + G,).
        """
        queries = self._num_query
        distances = search(features[:queries], features[queries:], self.cfg.TEST)
        sides = (pids[:queries], pids[queries:], camids[:queries], camids[queries:])
        ranking = checked_market1501(distances, *sides)
        write_queries(self.path, self.test.query, self.test.names, ranking)
        scores = scores_of(ranking)
        return scores | true_positive_rates(distances, *sides) if self.cfg.TEST.ROC.ENABLED else scores


def search(queries: Tensor, gallery: Tensor, options) -> np.ndarray:
    """Distances (Q, G) of features (Q, D) and (G, D), with query expansion and re-ranking as TEST says."""
    if options.AQE.ENABLED:
        queries, gallery = aqe(queries, gallery, options.AQE.QE_TIME, options.AQE.QE_K, options.AQE.ALPHA)
    distances = build_dist(queries, gallery, options.METRIC)
    if not options.RERANK.ENABLED:
        return distances
    if options.METRIC == "cosine":
        queries, gallery = F.normalize(queries, dim=1), F.normalize(gallery, dim=1)
    jaccard = build_dist(queries, gallery, metric="jaccard", k1=options.RERANK.K1, k2=options.RERANK.K2)
    return jaccard * (1 - options.RERANK.LAMBDA) + distances * options.RERANK.LAMBDA


def scores_of(ranking: Ranking) -> dict[str, float]:
    """fast-reid's scores by name, in percent, over the queries that have a match."""
    ranking = ranking.of_matched()
    shares = ranking.shares(max(RANKS))
    mean_precision = np.mean(ranking.precision)
    return {
        **{f"Rank-{rank}": shares[rank - 1] * 100 for rank in RANKS},
        "mAP": mean_precision * 100,
        "mINP": np.mean(ranking.penalty) * 100,
        "metric": (mean_precision + shares[0]) / 2 * 100,
    }


def true_positive_rates(distances: np.ndarray, *sides: np.ndarray) -> dict[str, float]:
    """True positive rates by name at three false positive rates, for TEST.ROC.ENABLED.

    Args:
        distances: (Q, G).
        *sides: pids of queries and gallery, then their camids.
    """
    scores, labels = evaluate_roc(distances, *sides)
    false, true, _ = roc_curve(labels, scores)
    return {f"TPR@FPR={rate:.0e}": true[np.argmin(np.abs(false - rate))] for rate in (1e-4, 1e-3, 1e-2)}


def group_test(features: Tensor, identities: np.ndarray, cfg, keys: np.ndarray | None = None) -> dict[str, float]:
    """Cluster test photographs as PSEUDO_LABELS says and score the groups; {} with a warning if no groups form.

    Runs of the oracle use DBSCAN here, because the oracle's groups are the true ones. A method's selection of clusters
    and local matches belong to training and are left out, so that the groups of all encoders are made in the same way.

    Args:
        features: (N, D) at test time, of any length.
        identities: (N,) integers; -1 where unknown.
        cfg: the configuration.
        keys: (N,) uint64 of `image_keys`; None for the row numbers.
    """
    options = cfg.PSEUDO_LABELS.clone()
    options.defrost()
    options.ALGORITHM = "dbscan" if options.ALGORITHM == "oracle" else options.ALGORITHM
    unit = F.normalize(features, dim=1).to(clustering_device(options, torch.device(cfg.MODEL.DEVICE)))
    try:
        with explain_cuda_oom():
            seed = derive_seed(cfg.SEED, 0, Stream.CLUSTERING)
            labels = assign_labels(unit, identities, None, options, lambda labels, *_: labels, seed, keys=keys).labels
        return log_groups(labels, identities, "test photographs")
    except UserError as error:
        logger.warning("The %d test photographs form no groups, so these are not scored: %s", len(features), error)
        return {}


def log_groups(labels: np.ndarray, identities: np.ndarray, what: str) -> dict[str, float]:
    """Score groups against known identities, and log the scores."""
    scores = clustering.grouping_scores(labels, identities)
    logger.info(
        "Groups of %d %s, counting each ungrouped image as its own group: %s",
        *(len(labels), what, in_words(scores)),
        extra=FILE_ONLY,
    )
    return scores


def in_words(scores: dict[str, float]) -> str:
    """Names with their values."""
    return ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
