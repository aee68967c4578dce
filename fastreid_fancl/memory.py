"""Memory banks of clusters and of images. Shapes: N images, B queries, M clusters, D feature dimensions."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from fastreid.modeling.losses.utils import concat_all_gather
from fastreid.utils import comm
from torch import Tensor, nn

from .errors import UserError
from .losses import cluster_nce, full_precision

UPDATES = ("mean", "hard")
PROBABILITY_FLOOR = 1e-6


def cluster_centroids(features: Tensor, labels: Tensor) -> Tensor:
    """Eq. 8 of FANCL: m_i = the mean feature of the images of cluster i.

    Args:
        features: (N, D).
        labels: (N,) clusters 0..M-1; images labelled -1 are ignored.

    Returns:
        (M, D) float32.
    """
    return _means(features.float(), *_members(labels))


def camera_proxies(features: Tensor, labels: Tensor, cameras: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean feature of the images that a cluster has from one camera, for each such pair (ICE; PPLR).

    Args:
        features: (N, D).
        labels: (N,) clusters 0..M-1; images labelled -1 are ignored.
        cameras: (N,) camera numbers, from 0.

    Returns:
        The K proxies, (K, D) float32 of unit length, and the cluster and the camera of each, both (K,), sorted by
        cluster and then camera.
    """
    kept, count = labels >= 0, cameras.max() + 1
    pairs, own = (labels * count + cameras)[kept].unique(return_inverse=True)
    return F.normalize(cluster_centroids(features[kept], own), dim=1), pairs // count, pairs % count


class ClusterMemory(nn.Module):
    """One momentum-updated feature per cluster (FANCL, Eq. 4, 8 and 9; Cluster Contrast, its Eq. 2, 4 and 5).

    Checkpoints do not hold the bank, since every epoch builds a new one from the new clustering. As in Cluster
    Contrast's released code, the centroids have unit length at the start and after every update.

    Attributes:
        centroids: (M, D) m_i, of unit length.
    """

    centroids: Tensor

    def __init__(self, centroids: Tensor, temperature: float = 0.05, momentum: float = 0.1, update: str = "mean"):
        """Fill the bank.

        Args:
            centroids: (M, D), normalised here.
            temperature: tau of Eq. 4.
            momentum: alpha of Eq. 9, the weight of the old centroid.
            update: "mean" applies Eq. 9 to every query in turn, "hard" only to the query of each cluster that is least
                similar to its centroid.

        Raises:
            ValueError: if `update` is unknown or the momentum is outside [0, 1].
        """
        super().__init__()
        if update not in UPDATES:
            raise UserError(f"Expected a memory update out of {UPDATES}, got {update!r}: correct MEMORY.UPDATE.")
        check_momentum(momentum)
        self.temperature, self.momentum, self.update_rule = temperature, momentum, update
        self.register_buffer("centroids", F.normalize(centroids.detach().float(), dim=1), persistent=False)

    def forward(self, queries: Tensor, targets: Tensor) -> Tensor:
        """Eq. 4 with the current bank, which stays as it is: queries (B, D), targets (B,) -> scalar."""
        return cluster_nce(queries, self.centroids, targets, self.temperature)

    @torch.no_grad()
    def update(self, queries: Tensor, targets: Tensor, repeat_counts: Sequence[int] | None = None) -> None:
        """Eq. 9: m_i <- alpha m_i + (1 - alpha) f_q, normalised to unit length.

        With several processes, every rank applies the queries of all ranks in rank order. So the banks stay equal to
        each other, and to the bank of a single process with the global batch.

        Args:
            queries: (B, D), normalised here.
            targets: (B,).
            repeat_counts: `repeat_counts` of the targets of all ranks. If None they are counted here, which makes the
                CPU wait for the device.
        """
        queries = F.normalize(queries.detach().float(), dim=1)
        queries, targets = gather_ranks(queries, targets)
        repeat_counts = _repeat_counts(targets, repeat_counts)
        if self.update_rule == "hard":
            hardest, repeat_counts = self._hardest(queries, targets, repeat_counts[0]), repeat_counts[:1]
            queries, targets = queries[hardest], targets[hardest]
        momentum_update(self.centroids, targets, queries, self.momentum, repeat_counts)

    def _hardest(self, queries: Tensor, targets: Tensor, clusters: int) -> Tensor:
        """Indices of the least similar query of each cluster in the batch; the first one if several are equal."""
        similarity = (queries * self.centroids[targets]).sum(1)
        by_similarity = similarity.argsort(stable=True)
        return by_similarity[_by_occurrence(targets[by_similarity])[:clusters]]


class InstanceMemory(nn.Module):
    """One momentum-updated feature per image (JCL; SpCL's bank).

    Attributes:
        features: (N, D) v_i, of unit length. Checkpoints hold this buffer if `persistent`.
    """

    features: Tensor

    def __init__(self, features: Tensor, momentum: float, persistent: bool = False):
        """Fill the bank.

        Args:
            features: (N, D), normalised here.
            momentum: m, the weight of the old feature.
            persistent: whether checkpoints hold the bank.

        Raises:
            ValueError: if the momentum is outside [0, 1].
        """
        super().__init__()
        check_momentum(momentum)
        self.momentum = momentum
        self.register_buffer("features", F.normalize(features.detach().float(), dim=1), persistent=persistent)

    @torch.no_grad()
    def update(self, queries: Tensor, indices: Tensor, repeat_counts: Sequence[int] | None = None) -> None:
        """v_i <- m v_i + (1 - m) f_i, normalised to unit length, for the queries of all ranks in turn.

        Args:
            queries: (B, D), normalised here.
            indices: (B,) indices of the images.
            repeat_counts: `repeat_counts` of the indices of all ranks. If None they are counted here, which makes the
                CPU wait for the device.
        """
        queries, indices = gather_ranks(F.normalize(queries.detach().float(), dim=1), indices)
        momentum_update(self.features, indices, queries, self.momentum, _repeat_counts(indices, repeat_counts))


class HybridMemory(InstanceMemory):
    """One feature per image; the feature of a class is the mean of its images (SpCL, Section 3.2, Eq. 1 and 3).

    Checkpoints hold the bank: it persists through all epochs, and only the labels change from epoch to epoch.

    Attributes:
        labels: (N,) class of each image, numbered from 0 without gaps: the clusters, and a class of its own for each
            outlier. Assign it after every clustering; at first every image is a class of its own.
    """

    labels: Tensor

    def __init__(self, features: Tensor, temperature: float = 0.05, momentum: float = 0.2):
        """Fill the bank; at first every image is a class of its own.

        Args:
            features: (N, D), normalised here.
            temperature: tau of Eq. 1.
            momentum: m of Eq. 3, the weight of the old feature.
        """
        super().__init__(features, momentum, persistent=True)
        self.temperature = temperature
        self.register_buffer("labels", torch.arange(len(features), device=features.device))
        self._sorted: tuple[Tensor, int, tuple[Tensor, Tensor]] | None = None

    def forward(self, queries: Tensor, indices: Tensor) -> Tensor:
        """Eq. 1: -log softmax over the classes of f.c_k / tau, at the query's own class. The bank stays as it is.

        c_k is the mean feature of a class. It is shorter than unit length unless all images agree, so a spread-out
        cluster attracts less. As in the reference code, and unlike Eq. 1, `PROBABILITY_FLOOR` is added to the
        probability, so a query that is far from its class gets hardly any gradient.

        Args:
            queries: (B, D) of unit length.
            indices: (B,) indices of the images.

        Returns:
            The mean over the batch, a float32 scalar.
        """
        with full_precision(queries.device):
            similarity = queries.float() @ self.class_means().T
            probability = (similarity / self.temperature).softmax(dim=1)
            return F.nll_loss((probability + PROBABILITY_FLOOR).log(), self.labels[indices])

    def class_means(self) -> Tensor:
        """Mean feature c_k of each class, (classes, D)."""
        labels = self.labels
        if self._sorted is None or self._sorted[0] is not labels or self._sorted[1] != labels._version:
            # Sort only when the labels have changed, since sorting makes the CPU wait for the device.
            self._sorted = labels, labels._version, _members(labels)
        return _means(self.features, *self._sorted[2])


def check_momentum(momentum: float, name: str = "MEMORY.MOMENTUM") -> None:
    """Check that a momentum is in [0, 1].

    Raises:
        ValueError: if it is not; the message calls it `name`.
    """
    if not 0 <= momentum <= 1:
        raise UserError(f"Expected {name} in [0, 1], since it is the weight of the old value, got {momentum}.")


def gather_ranks(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Concatenate the tensors (B, ...) of all processes in rank order, without gradients."""
    return tuple(concat_all_gather(tensor) for tensor in tensors) if comm.get_world_size() > 1 else tensors


def repeat_counts(rows: np.ndarray) -> list[int]:
    """Count how many rows occur in a batch (B,) at least once, at least twice, and so on; the counts sum to B."""
    _, counts = np.unique(rows, return_counts=True)
    return [int((counts > repeat).sum()) for repeat in range(counts.max())]


def momentum_update(bank: Tensor, rows: Tensor, queries: Tensor, momentum: float, repeat_counts: Sequence[int]) -> None:
    """Update rows (B,) of a bank (M, D) in place with queries (B, D); queries of the same row apply one after another.

    Eq. 9 with its normalisation depends on the order of the queries of a row, but not on other rows. So step n applies
    the n-th query of every row at once; there are as many steps as the most frequent row has queries.
    """
    for places in _by_occurrence(rows).split(list(repeat_counts)):
        moved = momentum * bank[rows[places]] + (1 - momentum) * queries[places]
        bank[rows[places]] = F.normalize(moved, dim=1)


def _members(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Sort the images by class, without those labelled -1; also return where each class begins, (M,)."""
    sizes = torch.bincount(labels[labels >= 0])
    members = labels.argsort(stable=True)[len(labels) - int(sizes.sum()) :]
    return members, sizes.cumsum(0) - sizes


def _means(features: Tensor, members: Tensor, begins: Tensor) -> Tensor:
    """Mean feature of each class of `_members`, (M, D).

    embedding_bag adds the images of a class in order. index_add on a GPU adds in any order, so each run and each
    process would get slightly different means.
    """
    return F.embedding_bag(members, features, begins, mode="mean")


def _by_occurrence(targets: Tensor) -> Tensor:
    """Sort queries by how many earlier ones have the same target: [7, 3, 7, 7, 3] -> [0, 1, 2, 4, 3].

    Nothing here makes the CPU wait for a GPU.
    """
    order = targets.argsort(stable=True)
    grouped = targets[order]
    earlier = torch.arange(len(order), device=order.device) - torch.searchsorted(grouped, grouped)
    return torch.empty_like(order).scatter_(0, order, earlier).argsort(stable=True)


def _repeat_counts(rows: Tensor, counts: Sequence[int] | None) -> Sequence[int]:
    """Check the `repeat_counts` of rows (B,); if None, count them."""
    if counts is None:
        return repeat_counts(rows.cpu().numpy())
    if sum(counts) != len(rows):
        raise UserError(
            f"Expected the repeat counts of {len(rows)} rows, got those of {sum(counts)}: pass those of all ranks."
        )
    return counts
