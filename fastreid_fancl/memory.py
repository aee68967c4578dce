"""Memory banks of clusters and of images. Shapes: N images, B queries, M clusters, D feature dimensions."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from fastreid.modeling.losses.utils import concat_all_gather
from fastreid.utils import comm
from torch import Tensor, nn

from .losses import cluster_nce, full_precision

UPDATES = ("mean", "hard")
PROBABILITY_FLOOR = 1e-6


def cluster_centroids(features: Tensor, labels: Tensor) -> Tensor:
    """Eq. 8 of FANCL: m_i = the mean feature of the images of cluster i.

    Args:
        features: (N, D).
        labels: (N,) clusters 0..M-1; -1 marks an image left out, which counts nowhere.

    Returns:
        (M, D) float32.
    """
    return _means(features.float(), *_members(labels))


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
        check_momentum(momentum)
        self.temperature, self.momentum, self.update_rule = temperature, momentum, update
        self.register_buffer("centroids", F.normalize(centroids.detach().float(), dim=1), persistent=False)

    def forward(self, queries: Tensor, targets: Tensor) -> Tensor:
        """Eq. 4 against the bank as it stands: queries (B, D), targets (B,) -> scalar. Changes nothing."""
        return cluster_nce(queries, self.centroids, targets, self.temperature)

    @torch.no_grad()
    def update(self, queries: Tensor, targets: Tensor, repeat_counts: Sequence[int] | None = None) -> None:
        """Eq. 9: m_i <- alpha m_i + (1 - alpha) f_q, then back to unit length.

        Under several processes the queries of all ranks are applied in rank order on every rank, so that the banks stay
        equal to each other and to those of one process with the global batch.

        Args:
            queries: (B, D), normalised here.
            targets: (B,).
            repeat_counts: those of the targets of all ranks; without it they are counted, which waits for the device.
        """
        queries = F.normalize(queries.detach().float(), dim=1)
        queries, targets = gather_ranks(queries, targets)
        repeat_counts = _repeat_counts(targets, repeat_counts)
        if self.update_rule == "hard":
            hardest, repeat_counts = self._hardest(queries, targets, repeat_counts[0]), repeat_counts[:1]
            queries, targets = queries[hardest], targets[hardest]
        move(self.centroids, targets, queries, self.momentum, repeat_counts)

    def _hardest(self, queries: Tensor, targets: Tensor, clusters: int) -> Tensor:
        """The index of the least similar query of each of the clusters that are present; of equals, the first."""
        similarity = (queries * self.centroids[targets]).sum(1)
        by_similarity = similarity.argsort(stable=True)
        return by_similarity[_by_rank(targets[by_similarity])[:clusters]]


class InstanceMemory(nn.Module):
    """One momentum-updated feature an image (JCL; the bank of SpCL).

    Attributes:
        features: (N, D) v_i, of unit length. A buffer that checkpoints hold where `persistent`.
    """

    def __init__(self, features: Tensor, momentum: float, persistent: bool = False):
        """
        Args:
            features: (N, D), normalised here.
            momentum: m, the share of the old feature that stays.

        Raises:
            ValueError: on a momentum outside [0, 1].
        """
        super().__init__()
        check_momentum(momentum)
        self.momentum = momentum
        self.register_buffer("features", F.normalize(features.detach().float(), dim=1), persistent=persistent)

    @torch.no_grad()
    def update(self, queries: Tensor, indices: Tensor, repeat_counts: Sequence[int] | None = None) -> None:
        """v_i <- m v_i + (1 - m) f_i, then back to unit length, for every query in turn, those of all ranks.

        Args:
            queries: (B, D), normalised here.
            indices: (B,) of the images.
            repeat_counts: those of the indices of all ranks; without it they are counted, which waits for the device.
        """
        queries, indices = gather_ranks(F.normalize(queries.detach().float(), dim=1), indices)
        move(self.features, indices, queries, self.momentum, _repeat_counts(indices, repeat_counts))


class HybridMemory(InstanceMemory):
    """One feature an image; a class is the mean of its images (SpCL, Section 3.2, Eq. 1 and 3).

    Checkpoints hold it: SpCL's memory lives through all epochs, which change the labels only.

    Attributes:
        labels: (N,) class of each image, numbered 0.. without gaps: clusters, and an own class for each outlier. To be
            assigned; at first every image is alone.
    """

    def __init__(self, features: Tensor, temperature: float = 0.05, momentum: float = 0.2):
        """
        Args:
            features, momentum: of `InstanceMemory`.
            temperature: tau.
        """
        super().__init__(features, momentum, persistent=True)
        self.temperature = temperature
        self.register_buffer("labels", torch.arange(len(features), device=features.device))
        self._sorted: tuple[Tensor, int, tuple[Tensor, Tensor]] | None = None

    def forward(self, queries: Tensor, indices: Tensor) -> Tensor:
        """Eq. 1: -log softmax over classes of f.c_k / tau at the query's own class. Changes nothing.

        c_k is the mean feature of the class, of less than unit length unless its images agree, so a spread cluster
        attracts less. As in the reference code, and unlike Eq. 1, the probability is raised by `PROBABILITY_FLOOR`: a
        query far from its class hardly pulls.

        Args:
            queries: (B, D) of unit length.
            indices: (B,) of the images.

        Returns:
            The mean over the batch, a float32 scalar.
        """
        with full_precision(queries.device):
            similarity = queries.float() @ self.class_means().T
            probability = (similarity / self.temperature).softmax(dim=1)
            return F.nll_loss((probability + PROBABILITY_FLOOR).log(), self.labels[indices])

    def class_means(self) -> Tensor:
        """c_k, (classes, D)."""
        labels = self.labels
        if self._sorted is None or self._sorted[0] is not labels or self._sorted[1] != labels._version:
            self._sorted = labels, labels._version, _members(labels)  # only when they change: it waits for the device
        return _means(self.features, *self._sorted[2])


def check_momentum(momentum: float, name: str = "MEMORY.MOMENTUM") -> None:
    """Raise ValueError, with the name, unless the momentum is in [0, 1]."""
    if not 0 <= momentum <= 1:
        raise ValueError(f"Expected {name} in [0, 1], the share of the old that stays, got {momentum}.")


def gather_ranks(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors (B, ...) of each process joined in rank order, without gradients."""
    return tuple(concat_all_gather(tensor) for tensor in tensors) if comm.get_world_size() > 1 else tensors


def repeat_counts(rows: np.ndarray) -> list[int]:
    """How many different rows a batch (B,) has, how many twice or more, three times or more, and so on: sums to B."""
    _, counts = np.unique(rows, return_counts=True)
    return [int((counts > turn).sum()) for turn in range(counts.max())]


def move(bank: Tensor, rows: Tensor, queries: Tensor, momentum: float, repeat_counts: Sequence[int]) -> None:
    """Move rows of a bank (M, D) in place towards queries (B, D), one after the other where they share a row (B,).

    Eq. 9 with its normalisation depends on the order within a row and on nothing outside it, so all rows can take their
    n-th query at once: as many turns as the most frequent row has queries, `repeat_counts` of the rows.
    """
    for turn in _by_rank(rows).split(list(repeat_counts)):
        moved = momentum * bank[rows[turn]] + (1 - momentum) * queries[turn]
        bank[rows[turn]] = F.normalize(moved, dim=1)


def _members(labels: Tensor) -> tuple[Tensor, Tensor]:
    """The images of class 0, of class 1 and so on without those of -1, and where each class begins among them (M,)."""
    sizes = torch.bincount(labels[labels >= 0])
    members = labels.argsort(stable=True)[len(labels) - int(sizes.sum()) :]
    return members, sizes.cumsum(0) - sizes


def _means(features: Tensor, members: Tensor, begins: Tensor) -> Tensor:
    """(M, D) the mean feature of each class of `_members`.

    One image after the other: additions in any order, as index_add's on GPUs, would give each run and each process
    other means.
    """
    return F.embedding_bag(members, features, begins, mode="mean")


def _by_rank(targets: Tensor) -> Tensor:
    """The queries in the order of how many earlier ones share their cluster: [7, 3, 7, 7, 3] -> [0, 1, 2, 4, 3].

    On a GPU nothing here waits for it.
    """
    order = targets.argsort(stable=True)
    grouped = targets[order]
    earlier = torch.arange(len(order), device=order.device) - torch.searchsorted(grouped, grouped)
    return torch.empty_like(order).scatter_(0, order, earlier).argsort(stable=True)


def _repeat_counts(rows: Tensor, known: Sequence[int] | None) -> Sequence[int]:
    """`repeat_counts` of the rows (B,), which are counted where they are not known."""
    found = repeat_counts(rows.cpu().numpy()) if known is None else known
    if sum(found) != len(rows):
        raise ValueError(
            f"Expected the repeat counts of {len(rows)} rows, got those of {sum(found)}: give those of all ranks."
        )
    return found
