"""Ranking, re-ranking and distances. Q queries, G gallery images, D dimensions, N = Q + G."""

import numpy as np
import torch
from fastreid.evaluation import query_expansion, rank, reid_evaluation
from fastreid.utils import compute_dist
from torch import Tensor

from ..ranking import BLOCK, checked_market1501
from .imports import AbsentFaiss, replace, wrap


def skip_compilation(self) -> None:
    """Symptom: ``SystemExit 1`` or ``FileNotFoundError: 'make'`` at the first evaluation; files in site-packages.

    Cause: evaluation/reid_evaluation.py:138 compiles rank_cylib with whatever `make` and `python3` it finds.
    Fix: nothing is compiled; `evaluate_rank` below is as fast.
    """


reid_evaluation.ReidEvaluator._compile_dependencies = skip_compilation


@wrap(rank.evaluate_rank)
def evaluate_rank(
    stock, distmat, q_pids, g_pids, q_camids, g_camids, max_rank=50, use_metric_cuhk03=False, use_cython=True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Symptom: ``IndexError`` with fewer than 10 gallery images, ``ValueError ... inhomogeneous shape`` (or, compiled,
    numbers left from the query before) with fewer than 50, an AssertionError without advice where no query matches.

    Cause: evaluation/reid_evaluation.py:112, evaluation/rank.py:138-156, rank_cylib/rank_cy.pyx.
    Fix: `ranking.checked_market1501` gives the same numbers; ranks beyond the gallery count as matched; errors name
    the cure.
    """
    if use_metric_cuhk03:
        return stock(distmat, q_pids, g_pids, q_camids, g_camids, max_rank, use_metric_cuhk03, use_cython)
    ranking = checked_market1501(distmat, q_pids, g_pids, q_camids, g_camids).of_matched()
    return ranking.shares(max_rank), ranking.precision, ranking.penalty


class TorchIndex:
    """Exact nearest neighbours by squared Euclidean distance, with the two methods of faiss.IndexFlatL2 in use."""

    def __init__(self, dimensions: int):
        self.features = torch.empty(0, dimensions)

    def add(self, features: np.ndarray) -> None:
        self.features = torch.cat([self.features, torch.from_numpy(features)])

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(N, D) -> squared distances (N, k) and indices (N, k), nearest first."""
        blocks = torch.from_numpy(queries).split(max(1, BLOCK // len(self.features)))
        nearest = [torch.cdist(block, self.features).square().topk(k, largest=False) for block in blocks]
        return torch.cat([f.values for f in nearest]).numpy(), torch.cat([f.indices for f in nearest]).numpy()


if isinstance(compute_dist.faiss, AbsentFaiss):
    compute_dist.index_init_cpu = TorchIndex


@wrap(compute_dist.compute_jaccard_distance)
def compute_jaccard_distance(stock, features: Tensor, k1=20, k2=6, search_option=3, fp16=False) -> np.ndarray:
    """Symptom: TEST.RERANK on: "Found no NVIDIA driver"; without faiss no re-ranking at all.

    Cause: utils/compute_dist.py:56 asks for the GPU search; :99 needs faiss; with k1 > N faiss answers -1, which
    then means the last image.
    Fix: exact search on the CPU, by faiss or by PyTorch, and at most N neighbours.
    """
    return stock(features.cpu(), k1=min(k1, len(features)), k2=min(k2, len(features)), search_option=3, fp16=fp16)


@wrap(query_expansion.aqe)
def aqe(stock, query_feat: Tensor, gallery_feat: Tensor, qe_times=1, qe_k=10, alpha=3.0) -> tuple[Tensor, Tensor]:
    """Symptom: TEST.AQE on: ``ValueError: kth(=6) out of bounds`` with fewer images than TEST.AQE.QE_K.

    Cause: evaluation/query_expansion.py:33.
    Fix: at most as many neighbours as there are other images.
    """
    return stock(query_feat, gallery_feat, qe_times, min(qe_k, len(query_feat) + len(gallery_feat) - 1), alpha)


@replace(compute_dist.compute_euclidean_distance)
@torch.no_grad()
def compute_euclidean_distance(features: Tensor, others: Tensor) -> np.ndarray:
    """Symptom: TEST.METRIC euclidean warns of a deprecated overload of addmm_.

    Cause: utils/compute_dist.py:183.
    Fix: the same squared distances, (Q, D) and (G, D) -> (Q, G), in today's call.
    """
    squares = features.square().sum(1, keepdim=True) + others.square().sum(1)
    return squares.addmm_(features, others.t(), beta=1, alpha=-2).cpu().numpy()
