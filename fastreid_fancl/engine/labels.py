"""From features to the pseudo-labels of an epoch.

Shapes: N training images, D feature dimensions, M clusters.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from fastreid.utils import comm
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from .. import clustering, local
from ..clustering.neighbors.search import SEARCHES
from ..errors import UserError
from ..logs import FILE_ONLY, log_once
from .distributed import broadcast_from_main
from .fused import neighbours_to_search, uses_local

logger = logging.getLogger(__name__)

NEAR = 0.01  # scores of radii that are as good as equal


class Labels(NamedTuple):
    """Pseudo-labels of an epoch.

    Attributes:
        labels: (N,) clusters 0..M-1, -1 for images left out.
        eps: the radius used; None for algorithms without one.
        sweep: a row for each radius that an automatic eps was chosen from; empty for a fixed eps.
    """

    labels: np.ndarray
    eps: float | None = None
    sweep: tuple[clustering.SweepRow, ...] = ()


def assign_labels(
    features: Tensor,
    identities: np.ndarray,
    cameras: np.ndarray | None,
    options,
    refine: Callable,
    seed: int = 0,
    distance: csr_matrix | None = None,
    keys: np.ndarray | None = None,
    pairs: local.LocalPairs | None = None,
) -> Labels:
    """Pseudo-labels by PSEUDO_LABELS.ALGORITHM.

    Args:
        features: (N, D).
        identities: (N,) true identities, -1 if unknown; only the oracle reads them.
        cameras: (N,) numbers 0.., None if they are unknown.
        options: the PSEUDO_LABELS node of the configuration.
        refine: a method's `refine_labels`; the oracle's labels are not refined.
        seed: of the choice of an automatic eps.
        distance: of `distance_together`; None to compute it here, on the features' device.
        keys: (N,) uint64 of `image_keys`, for the choice of an automatic eps; None for the row numbers.
        pairs: of `local_pairs`: what ranks the neighbours of a distance that is computed here, and what
            PSEUDO_LABELS.LOCAL_LINKS links; None for the features alone.

    Raises:
        UserError: if no clustering is usable, or the oracle has no identities.
    """
    if options.ALGORITHM == "oracle":
        return Labels(oracle_labels(identities))
    if distance is None:
        distance = distance_alone(features, options, pairs)
    assigned = cluster(distance, options, seed, keys)
    labels = refine(assigned.labels, distance, assigned.eps, options.MIN_SAMPLES, cameras)
    if pairs is not None and options.LOCAL_LINKS:
        labels = linked_labels(labels, pairs.links(options.LOCAL_LINKS), keys)
    return assigned._replace(labels=labels)


def linked_labels(labels: np.ndarray, links: np.ndarray, keys: np.ndarray | None = None) -> np.ndarray:
    """Put linked images, also those linked through others, into the cluster that has most of them, or a new one.

    Clusters do not merge: an image that is in the wrong one moves, and does not bring its cluster along.

    Args:
        labels: (N,) clusters 0..M-1, -1 for images left out.
        links: (P, 2) images of one animal.
        keys: (N,) of `image_keys`: between clusters that have as many, the image of the smallest key decides, and no
            order of images. None for the row numbers.

    Returns:
        (N,) as `labels`; these themselves, with a warning, where the links make a degenerate clustering.
    """
    graph = coo_matrix((np.ones(len(links), dtype=bool), tuple(links.T)), shape=(len(labels),) * 2)
    component = connected_components(graph, directed=False)[1]
    joined, new = labels.copy(), labels.max() + 1
    keys = np.arange(len(labels)) if keys is None else keys
    for members in np.split(np.argsort(component, kind="stable"), np.cumsum(np.bincount(component))[:-1]):
        if len(members) > 1:
            sizes = np.bincount(labels[members] + 1)[1:]
            if sizes.any():
                largest = members[np.isin(labels[members], np.flatnonzero(sizes == sizes.max()))]
                joined[members] = labels[largest[keys[largest].argmin()]]
            else:
                joined[members], new = new, new + 1
    joined = clustering.renumber(joined)
    reason = clustering.degenerate(joined)
    if reason:
        logger.warning("Local links are left out: with them the clustering is degenerate, %s.", reason)
        return labels
    return joined


def distance_alone(features: Tensor, options, pairs: local.LocalPairs | None = None) -> csr_matrix:
    """The Jaccard distance of all images (N, D) on one process, by neighbours of the fused similarity with `pairs`."""
    lists = None
    if pairs is not None:
        _, nearest = clustering.knn(features, neighbours_to_search(options), **_search_options(options))
        lists = pairs.rank(features, nearest, options.LOCAL, options.K1)
    return clustering.jaccard_distance(features, **distance_options(options), neighbors=lists)


def distance_together(features: Tensor, options, pairs: local.LocalPairs | None = None) -> csr_matrix | None:
    """The Jaccard distance of all images (N, D), computed by all processes together.

    All processes call it, each with the features on its own device. The main process gets the distance, the others
    None; the oracle needs none. With PSEUDO_LABELS.LOCAL the main process has the `pairs` and ranks the neighbours for
    all.
    """
    if options.ALGORITHM == "oracle":
        return None
    if comm.get_world_size() == 1:
        return distance_alone(features, options, pairs)
    # All rows are checked on every process, so that an error has the same row numbers everywhere.
    features = clustering.as_features(features)
    neighbors, group = _neighbors_together(features, options), comm._get_global_gloo_group()
    if uses_local(options):
        nearest = neighbors[1]
        neighbors = broadcast_from_main(lambda: pairs.rank(features, nearest, options.LOCAL, options.K1))
    return clustering.jaccard_distance(features, **distance_options(options), neighbors=neighbors, group=group)


def _search_options(options) -> dict:
    """Arguments of `knn` by the options, the PSEUDO_LABELS node."""
    wanted = distance_options(options)
    return {"backend": wanted["backend"], "block_bytes": wanted["block_bytes"]}


def _neighbors_together(features: Tensor, options) -> tuple[np.ndarray, np.ndarray]:
    """What `knn` returns for all images (N, D), on each of several processes.

    They share the searches of this package; faiss needs all images in one index, so the main process searches alone.
    """
    search, number = _search_options(options), neighbours_to_search(options)
    if options.NEIGHBOURS.startswith("faiss"):
        log_once(logger, logging.INFO, "faiss searches on the main process, and the other processes wait for it.")
        return broadcast_from_main(lambda: clustering.knn(features, number, **search))
    ring = comm._get_global_gloo_group() if features.device.type == "cpu" else None  # NCCL
    share = features.tensor_split(comm.get_world_size())[comm.get_rank()]
    lists = comm.all_gather(clustering.ring_knn(share, number, ring, **search))
    return tuple(map(np.concatenate, zip(*lists, strict=True)))


def distance_options(options) -> dict:
    """The arguments of `jaccard_distance` that the PSEUDO_LABELS node sets."""
    return {
        "k1": options.K1,
        "k2": options.K2,
        "max_distance": max_distance_needed(options),
        "block_bytes": int(options.BLOCK_GIB * 2**30),
        "backend": SEARCHES[options.NEIGHBOURS],
    }


@contextmanager
def explain_cuda_oom() -> Iterator[None]:
    """Re-raise CUDA out-of-memory as an error that names the setting to change."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise UserError(
            f"The GPU's memory is too small for the clustering ({error}): set PSEUDO_LABELS.DEVICE cpu, or a smaller "
            "PSEUDO_LABELS.BLOCK_GIB.",
            one_rank=True,
        ) from error


def clustering_device(options, device: torch.device) -> torch.device:
    """PSEUDO_LABELS.DEVICE, or the model's device if that is empty."""
    return torch.device(options.DEVICE) if options.DEVICE else device


def max_distance_needed(options) -> float:
    """The distance up to which a clustering as the PSEUDO_LABELS node says needs pairs.

    Most pairs are farther. DBSCAN does not need them: no radius that is tried for it is above 0.9.
    """
    near = options.ALGORITHM != "hdbscan" and (options.EPS == "auto" or options.EPS <= 0.9)
    return 0.95 if near else 1.0


def cluster(distance: csr_matrix, options, seed: int, keys: np.ndarray | None = None) -> Labels:
    """Cluster images by HDBSCAN or DBSCAN, and refuse or replace degenerate clusterings.

    Raises:
        UserError: if no clustering is usable.
    """
    if options.ALGORITHM == "hdbscan":
        labels = clustering.hdbscan(distance, options.MIN_SAMPLES)
        reason = clustering.degenerate(labels)
        if reason:
            raise clustering.NoClustersError(
                f"HDBSCAN's clustering is degenerate: {reason}. Resume with PSEUDO_LABELS.ALGORITHM dbscan, "
                "which moves its radius until the clusters are usable, or start from better weights.",
                reason,
            )
        return Labels(labels)
    eps, sweep = options.EPS, ()
    if eps == "auto":
        eps, sweep = clustering.choose_eps(distance, options.MIN_SAMPLES, seed=seed, keys=keys)
        logger.info("%s", explain_eps(eps, sweep), extra=FILE_ONLY)
        if near_ties(eps, sweep):
            logger.info("%s", near_ties(eps, sweep), extra=FILE_ONLY)
    labels, used, reason = clustering.guarded_labels(distance, eps, options.MIN_SAMPLES)
    if reason:
        logger.warning("The clustering at eps %.3g is degenerate: %s. eps %.3g takes its place.", eps, reason, used)
    return Labels(labels, used, sweep)


def explain_eps(eps: float, sweep: Sequence[clustering.SweepRow]) -> str:
    """Why an eps was chosen, in a sentence."""
    chosen = next(row for row in sweep if row.eps == eps)
    near = [f"{row.score:.2f} at {row.eps:.3g}" for row in sweep if 0 < abs(row.eps - eps) < 0.06]
    return (
        f"eps {eps:.3g} by data: {chosen.clusters} clusters, stability {chosen.stability:.2f} (how far a part of the "
        f"pairs gives the same clusters; it says nothing of their accuracy), modularity {chosen.modularity:.2f}, "
        f"{chosen.left_out:.0%} of the images left out; label-free score {chosen.score:.2f}, nearby {', '.join(near)}"
    )


def near_ties(eps: float, sweep: Sequence[clustering.SweepRow]) -> str:
    """The radii of other numbers of clusters whose scores are as good as that of `eps`, in a sentence; "" for none."""
    chosen = next(row for row in sweep if row.eps == eps)
    # A score above the best one is of a degenerate clustering.
    near = [row for row in sweep if 0 <= chosen.score - row.score < NEAR and row.clusters != chosen.clusters]
    others = ", ".join(f"{row.clusters} clusters at {row.eps:.3g}" for row in near)
    return others and (
        f"eps {eps:.3g} with {chosen.clusters} clusters is a close choice, as other radii score within {NEAR:g} of it: "
        f"{others}. A small change of the images may choose one of these."
    )


def by_size(labels: np.ndarray, paths: Sequence[str]) -> np.ndarray:
    """Renumber the clusters of labels (N,) by descending size, those of equal size by their first path."""
    first: dict[int, str] = {}
    for path, label in zip(paths, labels.tolist(), strict=True):
        first[label] = min(path, first.get(label, path))
    sizes = Counter(labels.tolist())
    order = sorted(first.keys() - {-1}, key=lambda label: (-sizes[label], first[label]))
    number = {label: n for n, label in enumerate(order)} | {-1: -1}
    return np.array([number[label] for label in labels.tolist()], dtype=np.int64)


def oracle_labels(identities: np.ndarray) -> np.ndarray:
    """The true identities as pseudo-labels, (N,) -> (N,).

    Raises:
        UserError: with fewer than two known identities.
    """
    known = np.unique(identities[identities >= 0])
    if len(known) < 2:
        raise UserError(
            "PSEUDO_LABELS.ALGORITHM oracle needs at least two identities among the training images, found "
            f"{len(known)}: label them, or use dbscan."
        )
    return np.where(identities >= 0, np.searchsorted(known, identities), -1)
