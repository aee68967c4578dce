"""Evaluation: the protocol of a test, fast-reid's evaluator on it, and the groups of its photographs.

fast-reid's evaluator gives the scores of retrieval in percent: mAP, Rank-k (CMC) and mINP, means over the queries that
have a match. WildlifeDatasets and MegaDescriptor report Rank-1 as accuracy (top-1, 1-NN): the share of queries whose
nearest photograph, among those that count, shows the same animal. It has no second name here.

Scores of grouping: see `clustering.grouping_scores`.
"""

import copy
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from fastreid.evaluation import ReidEvaluator
from fastreid.utils import comm
from torch import Tensor

from .. import clustering
from ..compat.evaluation import each_query
from ..data import UNLABELLED
from ..data.check import require_matches
from ..data.datasets import load
from ..data.datasets.photos import Photo
from ..data.datasets.protocols import Protocol, leave_one_out
from ..data.keys import image_keys
from ..errors import UserError
from ..logs import FILE_ONLY
from .labels import assign_labels, clustering_device, explain_cuda_oom
from .record import write_queries
from .seeds import Stream, derive_seed

logger = logging.getLogger(__name__)


def protocol(cfg, name: str) -> Protocol:
    """The queries and gallery to score: a data set's test, or with TEST.TRANSDUCTIVE its training photographs."""
    dataset = load(name)
    if cfg.TEST.TRANSDUCTIVE:
        return leave_one_out(_labelled(dataset, cfg.DATASETS.COMBINEALL))
    return Protocol(dataset.query, dataset.gallery, getattr(dataset, "test_identities", []))


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
        self._predictions = [{name: values[rows] for name, values in whole.items()}]
        with each_query() as rankings, one_process():
            results = super().evaluate()
        for ranking in rankings:
            write_queries(self.path, self.test.query, self.test.names, ranking)
        return results | group_test(
            whole["feats"], whole["pids"].numpy(), self.cfg, image_keys(path for path, *_ in self.test.photographs)
        )


def group_test(features: Tensor, identities: np.ndarray, cfg, keys: np.ndarray | None = None) -> dict[str, float]:
    """Cluster test photographs as PSEUDO_LABELS says and score the groups; {} with a warning if no groups form.

    The oracle's groups would be the truth, so its runs use DBSCAN here. A method's own selection among clusters belongs
    to its training and is left out, as local matches are, so that the groups of all encoders are made in the same way.

    Args:
        features: (N, D) at test time, of any length.
        identities: (N,) integers.
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


@contextmanager
def one_process() -> Iterator[None]:
    """Make fast-reid's evaluator believe in one process, as the main process has gathered all features before."""
    with mock.patch.object(comm, "get_world_size", return_value=1):
        yield
