"""Losses that two or more methods share. Shapes: B queries, M clusters, K proxies, D feature dimensions."""

import torch
import torch.nn.functional as F
from torch import Tensor


def full_precision(device: torch.device) -> torch.autocast:
    """Context that switches autocast off.

    A cosine divided by a temperature of 0.05 needs more than the three digits of half precision.
    """
    return torch.autocast(device.type, enabled=False)


def cosine(u: Tensor, v: Tensor) -> Tensor:
    """Cosine similarity, Eq. 5 of FANCL, row by row: sim(u, v) = u.v / (|u| |v|).

    Args:
        u: (B, D).
        v: (B, D).

    Returns:
        (B,) in float32, whatever precision autocast has chosen for the features.
    """
    with full_precision(u.device):
        return F.cosine_similarity(u.float(), v.float(), dim=1)


def cosine_matrix(u: Tensor, v: Tensor) -> Tensor:
    """Cosine similarity, Eq. 5 of FANCL, of every row of u (B, D) with every row of v (K, D): (B, K) in float32."""
    with full_precision(u.device):
        return F.normalize(u.float(), dim=1) @ F.normalize(v.float(), dim=1).T


def cluster_nce(queries: Tensor, centroids: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Cluster-level InfoNCE, Eq. 4-5 of FANCL: -log softmax_i(sim(f_q, m_i) / tau) at the query's own cluster.

    Args:
        queries: (B, D) features f_q, of any length.
        centroids: (M, D) cluster features m_i, of any length.
        targets: (B,) cluster of each query, in 0..M-1.
        temperature: tau.

    Returns:
        The mean over the batch, a float32 scalar.
    """
    return F.cross_entropy(cosine_matrix(queries, centroids) / temperature, targets)


def proxy_contrast(similarity: Tensor, positives: Tensor, negatives: Tensor, temperature: float, hard: int) -> Tensor:
    """Contrast each query with all its positive proxies and with the most similar of its negative proxies.

    The cross-camera loss of ICE and of PPLR: -1/|P| sum_{p in P} log(exp(s_p / tau) / sum_{P + H} exp(s_j / tau)).

    Args:
        similarity: (B, K) s of each query to each of K proxies.
        positives: (B, K) bool, P.
        negatives: (B, K) bool; the `hard` most similar of them form H, or all of them if there are fewer.
        temperature: tau.
        hard: number of hard negatives, |H|.

    Returns:
        (B,) float32; zero for a query without a positive.
    """
    with full_precision(similarity.device):
        logits = similarity.float() / temperature
        lowest = torch.finfo(logits.dtype).min
        hardest = logits.masked_fill(~negatives, lowest).topk(min(hard, logits.shape[1]), dim=1).values
        total = torch.cat([logits.masked_fill(~positives, lowest), hardest], dim=1).logsumexp(dim=1)
        count = positives.sum(dim=1)
        mean = (logits * positives).sum(dim=1) / count.clamp(min=1)
        return torch.where(count > 0, total - mean, 0)
