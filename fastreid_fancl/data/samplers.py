"""Plan which images form each batch of an epoch, by pure functions of a seed, and give each rank its part.

An epoch is planned as a whole, as global batches. Rank r of W takes the r-th of W equal slices of each batch, so
several processes together see exactly the batches that one process would see. Every position of every batch has its
own random seed for augmentation, so the numbers of workers and processes change nothing.
"""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from ..errors import UserError


def cluster_batches(labels: np.ndarray, batch_size: int, num_instances: int, iterations: int, seed: int) -> np.ndarray:
    """Plan batches of ``batch_size / num_instances`` clusters with ``num_instances`` images each.

    All clusters are visited equally often (counts differ by at most one), and so are the images within a cluster. A
    batch repeats a cluster only if there are fewer clusters than it needs; a visit repeats an image only if the cluster
    has fewer images than it needs.

    Args:
        labels: (N,) integers; images with a negative label are left out.
        batch_size: images per global batch, divisible by ``num_instances``.
        num_instances: images of a cluster per visit.
        iterations: number of batches.
        seed: the plan is a function of the seed and the other arguments.

    Returns:
        (iterations, batch_size) int64 indices into ``labels``; the images of a cluster are next to each other.

    Raises:
        ValueError: if the sizes do not fit, or no image has a label.
    """
    labels = np.asarray(labels)
    _check_sizes(batch_size, iterations)
    if num_instances < 1 or batch_size % num_instances:
        raise UserError(
            f"the batch size must be a multiple of the images per cluster, got {batch_size} and {num_instances}; "
            "set SOLVER.IMS_PER_BATCH to a multiple of DATALOADER.NUM_INSTANCE"
        )
    _, members = _group(labels)
    if not members:
        raise UserError(
            f"no cluster to sample from: all of the {len(labels)} labels are -1 (left out); "
            "raise PSEUDO_LABELS.EPS or lower PSEUDO_LABELS.MIN_SAMPLES"
        )
    rng = np.random.default_rng(seed)
    visits = _balanced_groups(len(members), batch_size // num_instances, iterations, rng).ravel()
    batches = np.empty((len(visits), num_instances), dtype=np.int64)
    for cluster, rows in zip(*_group(visits), strict=True):
        images = members[cluster]
        batches[rows] = images[_balanced_groups(len(images), num_instances, len(rows), rng)]
    return batches.reshape(iterations, batch_size)


def cluster_and_outlier_batches(
    labels: np.ndarray, batch_size: int, num_instances: int, iterations: int, seed: int
) -> np.ndarray:
    """Plan batches of all images: each image labelled -1 is a class of its own, visited as often as a cluster is.

    A round visits all classes in random order, with ``num_instances`` images of a cluster and the one image of an
    outlier. Rounds are concatenated and cut into batches, so a visit to a cluster may be spread over two batches.

    Arguments, return value and errors are those of :func:`cluster_batches`, except that ``batch_size`` need not be a
    multiple of ``num_instances``, and that all images may be outliers.
    """
    _check_sizes(batch_size, iterations)
    labels = np.asarray(labels)
    _, members = _group(labels)
    outliers = np.flatnonzero(labels < 0)
    size_of_round = len(members) * num_instances + len(outliers)
    if not size_of_round:
        raise UserError("there are no training images to sample from")
    rng = np.random.default_rng(seed)
    rounds = -(-iterations * batch_size // size_of_round)
    visits = [images[_balanced_groups(len(images), num_instances, rounds, rng)] for images in members]
    plan = np.hstack([*visits, np.tile(outliers, (rounds, 1))])
    # The class of each column: a round shuffles its classes and keeps the columns of a visit together.
    classes = np.concatenate([np.arange(len(members)).repeat(num_instances), len(members) + np.arange(len(outliers))])
    places = rng.permuted(np.tile(np.arange(len(members) + len(outliers)), (rounds, 1)), axis=1)
    order = places[:, classes].argsort(axis=1, kind="stable")
    return np.take_along_axis(plan, order, axis=1).ravel()[: iterations * batch_size].reshape(iterations, batch_size)


def shuffled_batches(n: int, batch_size: int, iterations: int, seed: int) -> np.ndarray:
    """Plan batches (iterations, batch_size) of ``range(n)`` without labels; no image repeats before all have been used.

    A batch repeats an image only if ``n < batch_size``.

    Raises:
        ValueError: if there are no images, or a size is below one.
    """
    _check_sizes(batch_size, iterations)
    if n < 1:
        raise UserError("there are no training images to sample from")
    return _balanced_groups(n, batch_size, iterations, np.random.default_rng(seed))


class GlobalBatchSampler(Sampler[list[tuple[int, int]]]):
    """Yield one rank's slice of planned global batches, as lists of ``(index, item seed)``.

    Args:
        batches: (iterations, batch_size) indices, from one of the functions above.
        seed: together with the batch number and the position in the global batch, it determines the item seeds.
        rank: this process takes the ``rank``-th of ``world_size`` contiguous slices of every batch.
        world_size: number of processes; it must divide the batch size.

    Raises:
        ValueError: if the batches cannot be divided into ``world_size`` equal slices.
    """

    def __init__(self, batches: np.ndarray, seed: int, rank: int = 0, world_size: int = 1):
        self.batches = np.asarray(batches)
        if self.batches.ndim != 2:
            raise UserError(f"expected batches of shape (iterations, batch size), got {self.batches.shape}")
        if not 0 <= rank < world_size:
            raise UserError(f"rank must lie in 0..{world_size - 1}, got {rank}")
        batch_size = self.batches.shape[1]
        if batch_size % world_size:
            raise UserError(
                f"a batch of {batch_size} images cannot be shared equally by {world_size} processes; "
                "make SOLVER.IMS_PER_BATCH a multiple of their number"
            )
        self.seed = seed
        share = batch_size // world_size
        self.slice = slice(rank * share, (rank + 1) * share)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for number, batch in enumerate(self.batches):
            seeds = np.random.SeedSequence((self.seed, number)).generate_state(len(batch))
            yield list(zip(batch[self.slice].tolist(), seeds[self.slice].tolist(), strict=True))


def _check_sizes(batch_size: int, iterations: int) -> None:
    if batch_size < 1 or iterations < 1:
        raise UserError(f"expected at least 1 image per batch and 1 batch, got {batch_size} and {iterations}")


def _group(values: np.ndarray) -> tuple[list[int], list[np.ndarray]]:
    """Return the distinct non-negative values, in order, and the positions of each, in order."""
    order = np.argsort(values, kind="stable")
    order = order[np.searchsorted(values[order], 0) :]
    distinct, first = np.unique(values[order], return_index=True)
    return distinct.tolist(), np.split(order, first[1:]) if len(order) else []


def _balanced_groups(n: int, size: int, groups: int, rng: np.random.Generator) -> np.ndarray:
    """Draw (groups, size) values from ``range(n)``, all equally often overall (counts differ by at most one).

    Shuffled rounds of all n values are concatenated and cut into groups. No group repeats a value, even if it spans two
    rounds. With ``size > n``, every group holds all n values as often as they fit, and the rest is drawn as above.
    """
    whole, rest = divmod(size, n)
    if whole:
        drawn = np.tile(np.arange(n), (groups, whole))
        if rest:
            drawn = np.hstack([drawn, _balanced_groups(n, rest, groups, rng)])
        return rng.permuted(drawn, axis=1)
    rounds = -(-groups * size // n)
    order = rng.permuted(np.tile(np.arange(n), (rounds, 1)), axis=1)
    for number in range(1, rounds):
        begun = number * n % size
        if begun:
            order[number] = _avoid(order[number], order[number - 1, n - begun :], size - begun)
    return order.ravel()[: groups * size].reshape(groups, size)


def _avoid(order: np.ndarray, taken: np.ndarray, count: int) -> np.ndarray:
    """Move the first ``count`` values that are not in ``taken`` to the front of ``order``."""
    first = np.flatnonzero(~np.isin(order, taken))[:count]
    return np.concatenate([order[first], np.delete(order, first)])
