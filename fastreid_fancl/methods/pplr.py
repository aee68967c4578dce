"""Part-based Pseudo Label Refinement for Unsupervised Person Re-identification (PPLR; Cho et al., CVPR 2022).

Global and part features refine each other's pseudo-labels, in proportion to how well their nearest neighbours agree.
Shapes: N images, B queries, G gallery, P parts, M clusters, K camera proxies, D dimensions.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from fastreid.config import configurable
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from fastreid.utils import comm
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather

from ..clustering import knn
from ..clustering.neighbors.device import BLOCK_BYTES
from ..clustering.neighbors.search import SEARCHES
from ..errors import UserError
from ..heads import PartHead
from ..losses import full_precision, proxy_contrast
from ..memory import camera_proxies, cluster_centroids, gather_ranks
from .base import PseudoLabelMethod


def cross_agreement(
    features_global: Tensor, features_parts: Tensor, k: int, block_bytes: int = BLOCK_BYTES, backend: str = "auto"
) -> Tensor:
    """Cross agreement score C = |R_g n R_p| / |R_g u R_p|, R the k nearest neighbours without the image itself.

    Args:
        features_global: (N, D).
        features_parts: (N, P, D).
        k: neighbours; at most N - 1 are used.
        block_bytes, backend: as for `knn`.

    Returns:
        (N, P) in [0, 1], on the device of the features.
    """
    spaces = (features_global, *features_parts.unbind(1))
    own, *parts = (knn(space, k + 1, backend, block_bytes)[1][:, 1:] for space in spaces)
    # No list holds an image twice, so equal neighbours in the sorted union of two lists are the shared images.
    shared = np.stack([(np.diff(np.sort(np.hstack([own, part]))) == 0).sum(axis=1) for part in parts], axis=1)
    return torch.from_numpy(shared / (2 * own.shape[1] - shared)).to(features_global)


def part_guided_label_refinement(
    logits_global: Tensor, logits_parts: Tensor, targets: Tensor, agreement: Tensor, beta: float
) -> Tensor:
    """L_pglr: cross-entropy of the global logits with beta y + (1 - beta) sum_p softmax_p(C) softmax(logits_p).

    Args:
        logits_global: (B, M).
        logits_parts: (B, P, M); this loss gives them no gradient.
        targets: (B,) cluster of each query.
        agreement: (B, P) C.
        beta: weight of the pseudo-label.

    Returns:
        The mean over the batch.
    """
    pseudo_labels = F.one_hot(targets, logits_global.shape[1])
    predicted = (agreement.softmax(1)[:, :, None] * logits_parts.detach().softmax(2)).sum(1)
    return F.cross_entropy(logits_global, beta * pseudo_labels + (1 - beta) * predicted)


def agreement_aware_label_smoothing(logits_parts: Tensor, targets: Tensor, agreement: Tensor) -> Tensor:
    """L_aals = C H(y, q) + (1 - C) KL(u || q): q is a part's prediction, u uniform over the M clusters.

    Args:
        logits_parts: (B, P, M), q before the softmax.
        targets: (B,) cluster of each query.
        agreement: (B, P) C.

    Returns:
        The mean over the batch and the parts.
    """
    log_q = logits_parts.log_softmax(2)
    cross_entropy = -log_q.gather(2, targets[:, None, None].expand(-1, log_q.shape[1], 1))[..., 0]
    divergence = -log_q.mean(2) - math.log(log_q.shape[2])
    return (agreement * cross_entropy + (1 - agreement) * divergence).mean()


def soft_triplet(queries: Tensor, targets: Tensor, gallery: Tensor, gallery_targets: Tensor) -> Tensor:
    """L_softtriplet = -log(e^d_n / (e^d_p + e^d_n)).

    d_p and d_n are the Euclidean distances to the hardest positive and the hardest negative in the gallery.

    Args:
        queries: (B, D); each is in the gallery too.
        targets: (B,) cluster of each query.
        gallery: (G, D).
        gallery_targets: (G,) cluster of each gallery feature.

    Returns:
        The mean over the batch; a query without a negative counts as zero.
    """
    same = targets[:, None] == gallery_targets
    with torch.no_grad():
        distance = torch.cdist(queries, gallery)
        farthest = distance.masked_fill(~same, -1).argmax(1)
        nearest = distance.masked_fill(same, torch.inf).argmin(1)
    positive, negative = ((queries - gallery[hardest]).norm(dim=1) for hardest in (farthest, nearest))
    return (F.softplus(positive - negative) * ~same.all(1)).mean()


def gather_with_gradients(queries: Tensor) -> Tensor:
    """Gather the queries (B, D) of all processes as (G, D), in rank order; gradients flow back to each process.

    Each process averages the loss over its own queries against the gallery of all processes, and
    DistributedDataParallel averages the gradients. So each weight gets the gradient of the mean loss over the global
    batch.
    """
    return torch.cat(all_gather(queries)) if comm.get_world_size() > 1 else queries


@META_ARCH_REGISTRY.register()
class PPLR(PseudoLabelMethod):
    """One backbone with a global head and a head of P stripes: P + 1 feature spaces, each with a linear classifier.

    The global feature is clustered and tested. As in the released code, classifiers and triplets use the features after
    BatchNorm, while clustering, centroids and proxies use them at unit length. Unlike in that code, positives do not
    fill up the negative camera proxies if there are too few of them.
    """

    @configurable
    def __init__(
        self,
        *,
        part_head: PartHead,
        k: int,
        search_device: str = "",
        search_gib: float = 1.0,
        neighbours: str = "auto",
        beta: float,
        aals_epoch: int,
        label_smoothing: float,
        max_clusters: int,
        camera_weight: float,
        camera_temperature: float,
        camera_negatives: int,
        **kwargs,
    ):
        """Add the part head and the classifiers to the encoder.

        Args:
            part_head: feature map -> (B, P, D).
            k: number of neighbours for `cross_agreement`.
            search_device: device of that neighbour search, PSEUDO_LABELS.DEVICE; "" is the device of the model.
            search_gib: memory of that search in GiB, PSEUDO_LABELS.BLOCK_GIB.
            neighbours: kind of that search, PSEUDO_LABELS.NEIGHBOURS.
            beta: weight of the pseudo-label in `part_guided_label_refinement`.
            aals_epoch: first epoch that uses `agreement_aware_label_smoothing`.
            label_smoothing: label smoothing of the parts in the epochs before.
            max_clusters: rows of each classifier.
            camera_weight: lambda_cam, weight of the camera contrast if the cameras are known.
            camera_temperature: temperature of `proxy_contrast`.
            camera_negatives: number of hard negatives of `proxy_contrast`.
            **kwargs: arguments of `PseudoLabelMethod`.

        Raises:
            ValueError: if the stripes have fewer dimensions than the global feature.
        """
        super().__init__(**kwargs)
        if part_head.dim != part_head.feat_dim:
            raise UserError(f"Expected PARTS.DIM 0, since PPLR's stripes keep all dimensions, got {part_head.dim}.")
        self.part_head = part_head
        self.search = search_device, int(search_gib * 2**30), SEARCHES[neighbours]
        self.k, self.beta, self.aals_epoch, self.label_smoothing = k, beta, aals_epoch, label_smoothing
        self.camera_weight, self.contrast = camera_weight, (camera_temperature, camera_negatives)
        self.spaces = ("original", *(f"part_{number}" for number in range(part_head.parts)))
        self.classifiers = nn.Parameter(torch.zeros(len(self.spaces), max_clusters, part_head.dim))
        for state in ("agreement", "proxies", "proxy_clusters", "proxy_cameras"):
            self.register_buffer(state, None, persistent=False)

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read the arguments of `__init__` from a configuration."""
        return {
            **super().from_config(cfg),
            "part_head": PartHead(cfg),
            "k": cfg.PPLR.K,
            "search_device": cfg.PSEUDO_LABELS.DEVICE,
            "search_gib": cfg.PSEUDO_LABELS.BLOCK_GIB,
            "neighbours": cfg.PSEUDO_LABELS.NEIGHBOURS,
            "beta": cfg.PPLR.BETA,
            "aals_epoch": cfg.PPLR.AALS_EPOCH,
            "label_smoothing": cfg.PPLR.LABEL_SMOOTHING,
            "max_clusters": cfg.PPLR.MAX_CLUSTERS,
            "camera_weight": cfg.PPLR.CAMERA_WEIGHT,
            "camera_temperature": cfg.PPLR.CAMERA_TEMPERATURE,
            "camera_negatives": cfg.PPLR.CAMERA_NEGATIVES,
        }

    def embed(self, images: Tensor) -> Tensor:
        """Embed images (B, 3, H, W) in [0, 255] as (B, P + 1, D) float32 of any length, the global feature first."""
        feature_map = self.backbone(self.normalise(images))
        return torch.cat([self.heads.embed(feature_map)[:, None], self.part_head(feature_map)], dim=1).float()

    def cluster_features(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the global feature, which gets clustered, and those of the parts, all of unit length."""
        features = F.normalize(self.embed(batch["images"]), dim=2)
        return dict(zip(self.spaces, features.unbind(1), strict=True))

    @torch.no_grad()
    def start_epoch(self, features: dict[str, Tensor], labels: Tensor, cameras: Tensor | None = None) -> None:
        """Compute the agreement, fill the first M rows of each classifier with centroids, and set the camera proxies.

        As in the released code, the rows keep the optimiser's moments from the clusters of earlier epochs.

        Raises:
            ValueError: if there are more clusters than rows.
        """
        clusters, rows = int(labels.max()) + 1, self.classifiers.shape[1]
        if clusters > rows:
            raise UserError(
                f"Expected at most {rows} clusters, got {clusters}: raise PPLR.MAX_CLUSTERS, or PSEUDO_LABELS.EPS."
            )
        self.clusters = clusters
        spaces = [features[name] for name in self.spaces]
        device, *search = self.search
        searched = [space.to(device or self.device) for space in spaces]
        agreement = cross_agreement(searched[0], torch.stack(searched[1:], dim=1), self.k, *search)
        self.agreement = agreement.to(self.device)
        centroids = torch.stack([cluster_centroids(space, labels) for space in spaces])
        # In place, since the optimiser's flat buffer shares this memory.
        self.classifiers[:, :clusters] = F.normalize(centroids, dim=2)
        self.proxies = None
        if cameras is not None and self.camera_weight:
            by_space = [camera_proxies(space, labels, cameras) for space in spaces]
            self.proxies = torch.stack([proxies for proxies, _, _ in by_space])
            _, self.proxy_clusters, self.proxy_cameras = by_space[0]

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """L = L_pglr + L_softtriplet + L_aals + lambda_cam L_cam; the last term only if the cameras are known."""
        embeddings, targets = self.embed(batch["images"]), batch["targets"]
        own, agreement = embeddings[:, 0], self.agreement[batch["indices"]]
        with full_precision(self.device):
            logits = torch.einsum("bsd,smd->bsm", embeddings, self.classifiers[:, : self.clusters])
            losses = {
                "loss_global": part_guided_label_refinement(logits[:, 0], logits[:, 1:], targets, agreement, self.beta),
                "loss_parts": self.part_loss(logits[:, 1:], targets, agreement),
                "loss_triplet": soft_triplet(own, targets, gather_with_gradients(own), *gather_ranks(targets)),
            }
            if self.proxies is not None:
                losses["loss_camera"] = self.camera_weight * self.camera_contrast(embeddings, targets, batch["camids"])
        return losses

    def part_loss(self, logits: Tensor, targets: Tensor, agreement: Tensor) -> Tensor:
        """L_aals of logits (B, P, M); before `aals_epoch`, cross-entropy with ordinary label smoothing."""
        if self.epoch >= self.aals_epoch:
            return agreement_aware_label_smoothing(logits, targets, agreement)
        each = targets.repeat_interleave(logits.shape[1])
        return F.cross_entropy(logits.flatten(0, 1), each, label_smoothing=self.label_smoothing)

    def camera_contrast(self, embeddings: Tensor, targets: Tensor, cameras: Tensor) -> Tensor:
        """L_cam: contrast a query's own cluster in other cameras with the hardest proxies of other clusters.

        Args:
            embeddings: (B, P + 1, D).
            targets: (B,) cluster of each query.
            cameras: (B,) camera of each query.

        Returns:
            The mean of the global space plus the mean of the parts; a query without a positive counts as zero.
        """
        same = targets[:, None] == self.proxy_clusters
        positives = same & (cameras[:, None] != self.proxy_cameras)
        similarity = torch.einsum("bsd,skd->sbk", F.normalize(embeddings, dim=2), self.proxies)
        spaces = len(similarity)
        losses = proxy_contrast(
            similarity.flatten(0, 1), positives.repeat(spaces, 1), ~same.repeat(spaces, 1), *self.contrast
        )
        by_space = losses.view(spaces, -1).mean(1)
        return by_space[0] + by_space[1:].mean()
