"""Memory banks of cluster features. Shapes: N images, B queries, M clusters, D feature dimensions."""

import torch
import torch.nn.functional as F
from fastreid.modeling.losses.utils import concat_all_gather
from fastreid.utils import comm
from torch import Tensor, nn

from .losses import cluster_nce

UPDATES = ("mean", "hard")


def cluster_centroids(features: Tensor, labels: Tensor) -> Tensor:
    """Eq. 8 of FANCL: m_i = the mean feature of the images of cluster i.

    Args:
        features: (N, D).
        labels: (N,) clusters 0..M-1; -1 marks an image left out, which counts nowhere.

    Returns:
        (M, D) float32.
    """
    kept = labels >= 0
    features, labels = features[kept].float(), labels[kept]
    sizes = torch.bincount(labels)
    sums = features.new_zeros(len(sizes), features.shape[1]).index_add_(0, labels, features)
    return sums / sizes[:, None]


def camera_proxies(features: Tensor, labels: Tensor, cameras: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mean feature of each cluster's images in each camera that saw it, by cluster and then camera (ICE; PPLR).

    Args:
        features: (N, D).
        labels: (N,) clusters 0..M-1; -1 marks an image left out, which counts nowhere.
        cameras: (N,) numbers 0...

    Returns:
        The K proxies, (K, D) float32 of unit length, and the cluster and the camera of each, (K,).
    """
    kept, count = labels >= 0, cameras.max() + 1
    pairs, own = (labels * count + cameras)[kept].unique(return_inverse=True)
    return F.normalize(cluster_centroids(features[kept], own), dim=1), pairs // count, pairs % count


class ClusterMemory(nn.Module):
    """One momentum-updated feature a cluster (FANCL, Eq. 4, 8 and 9; Cluster Contrast, its Eq. 2, 4 and 5).

    The bank is a buffer that checkpoints leave out: every epoch fills a new one from the new clustering. As in Cluster
    Contrast's released code the centroids have unit length, at the start and after every update.
    """

    def __init__(self, centroids: Tensor, temperature: float = 0.05, momentum: float = 0.1, update: str = "mean"):
        """
        Args:
            centroids: (M, D), normalised here.
            temperature: tau of Eq. 4.
            momentum: alpha of Eq. 9, the share of the old centroid that stays.
            update: "mean" applies Eq. 9 for every query in turn, "hard" only for the query of each cluster that is
                least similar to its centroid.

        Raises:
            ValueError: on an unknown `update` or a momentum outside [0, 1].
        """
        super().__init__()
        if update not in UPDATES:
            raise ValueError(f"Expected a memory update of {UPDATES}, got {update!r}: correct MEMORY.UPDATE.")
        if not 0 <= momentum <= 1:
            raise ValueError(f"Expected a memory momentum in [0, 1], got {momentum}: correct MEMORY.MOMENTUM.")
        self.temperature, self.momentum, self.update_rule = temperature, momentum, update
        self.register_buffer("centroids", F.normalize(centroids.detach().float(), dim=1), persistent=False)

    def forward(self, queries: Tensor, targets: Tensor) -> Tensor:
        """Eq. 4 against the bank as it stands: queries (B, D), targets (B,) -> scalar. Changes nothing."""
        return cluster_nce(queries, self.centroids, targets, self.temperature)

    @torch.no_grad()
    def update(self, queries: Tensor, targets: Tensor) -> None:
        """Eq. 9: m_i <- alpha m_i + (1 - alpha) f_q, then back to unit length.

        Under several processes the queries of all ranks are applied in rank order on every rank, so that the banks stay
        equal to each other and to those of one process with the global batch.

        Args:
            queries: (B, D), normalised here.
            targets: (B,).
        """
        queries = F.normalize(queries.detach().float(), dim=1)
        if comm.get_world_size() > 1:
            queries, targets = concat_all_gather(queries), concat_all_gather(targets)
        if self.update_rule == "hard":
            hardest = self._hardest(queries, targets)
            queries, targets = queries[hardest], targets[hardest]
        for turn in _turns(targets):
            self._move(targets[turn], queries[turn])

    def _move(self, clusters: Tensor, queries: Tensor) -> None:
        moved = self.momentum * self.centroids[clusters] + (1 - self.momentum) * queries
        self.centroids[clusters] = F.normalize(moved, dim=1)

    def _hardest(self, queries: Tensor, targets: Tensor) -> Tensor:
        """The index of each present cluster's least similar query; of equals, the first."""
        similarity = (queries * self.centroids[targets]).sum(1)
        by_similarity = similarity.argsort(stable=True)
        return by_similarity[_rank_in_cluster(targets[by_similarity]) == 0]


def _rank_in_cluster(targets: Tensor) -> Tensor:
    """How many earlier queries share each query's cluster: [7, 3, 7, 7, 3] -> [0, 0, 1, 2, 1]."""
    order = targets.argsort(stable=True)
    clusters, sizes = targets[order].unique_consecutive(return_counts=True)
    starts = sizes.cumsum(0) - sizes
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - starts.repeat_interleave(sizes)
    return rank


def _turns(targets: Tensor) -> list[Tensor]:
    """Split a batch so that no turn holds a cluster twice: as many turns as the largest cluster has queries.

    Eq. 9 with its normalisation depends on the order within a cluster and on nothing outside it, so all clusters can
    take their n-th query at once.
    """
    rank = _rank_in_cluster(targets)
    by_rank = rank.argsort(stable=True)
    return list(by_rank.split(rank.bincount().tolist()))
