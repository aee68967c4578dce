"""ICE: Inter-instance Contrastive Encoding for Unsupervised Person Re-identification (Chen et al., ICCV 2021).

Shapes: B images of one process, S images of all processes, N training images, M clusters, K camera proxies, D
dimensions. Where a loss takes features of S images, the slice `own` selects the B images of this process.
"""

from typing import ClassVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from fastreid.config import configurable
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from fastreid.utils import comm
from torch import Tensor

from ..losses import cosine_matrix, full_precision, proxy_contrast
from ..memory import camera_proxies, cluster_centroids, gather_ranks
from ..teacher import MeanTeacher
from .base import PseudoLabelMethod

ALL = slice(None)


def cluster_proxy_contrast(
    student: Tensor, centroids: Tensor, targets: Tensor, temperature: float, smoothing: float
) -> Tensor:
    """Proxy loss: cross-entropy of the logits f.p_j / tau_c with label-smoothed targets.

    As in the released code, f is the feature before L2 normalisation, and p_j is a mean that is not normalised.

    Args:
        student: (B, D) f.
        centroids: (M, D) p.
        targets: (B,) cluster of each image.
        temperature: tau_c.
        smoothing: share of the target's probability that is spread over all clusters.

    Returns:
        The mean over the batch.
    """
    with full_precision(student.device):
        logits = student.float() @ centroids.float().T / temperature
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)


def hard_instance_contrast(
    student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, own: slice = ALL
) -> Tensor:
    """Hard instance loss: contrast each image with the least similar one of its cluster, against all other clusters.

    -log(exp(s_h / tau_v) / (exp(s_h / tau_v) + sum_n exp(s_n / tau_v))), where s are the cosines of a student's feature
    with the teacher's features, s_h is the smallest one inside the cluster, and s_n are those outside it.

    Args:
        student: (B, D), of any length.
        teacher: (S, D) of the second view, of any length.
        targets: (S,) cluster of each image.
        temperature: tau_v.
        own: which of the S images are the student's B.

    Returns:
        The mean over the B images.
    """
    similarity = cosine_matrix(student, teacher)
    same = targets[own, None] == targets
    hardest = similarity.masked_fill(~same, torch.inf).argmin(dim=1, keepdim=True)
    positive = torch.zeros_like(same).scatter_(1, hardest, True)
    return proxy_contrast(similarity, positive, ~same, temperature, hard=len(targets)).mean()


def similarity_consistency(
    student: Tensor, teacher: Tensor, teacher_weak: Tensor, scale: float, own: slice = ALL
) -> Tensor:
    """Soft instance loss: KL(Q || P) between an image's similarities to all others in weak and in strong views.

    P = softmax_j(cos(f_i, f'_j) / scale) compares the student with the teacher's strong view, and
    Q = softmax_j(cos(w_i, w_j) / scale) compares the teacher's weak view with itself.

    Args:
        student: (B, D) f, of any length.
        teacher: (S, D) f', of any length.
        teacher_weak: (S, D) w, of any length.
        scale: the temperature of both distributions.
        own: which of the S images are the student's B.

    Returns:
        The mean over the B images.
    """
    strong = F.log_softmax(cosine_matrix(student, teacher) / scale, dim=1)
    weak = F.log_softmax(cosine_matrix(teacher_weak[own], teacher_weak) / scale, dim=1)
    return F.kl_div(strong, weak, log_target=True, reduction="batchmean")


def camera_contrast(
    student: Tensor,
    targets: Tensor,
    cameras: Tensor,
    proxies: Tensor,
    proxy_clusters: Tensor,
    temperature: float,
    hard: int,
    own: slice = ALL,
) -> Tensor:
    """Cross-camera loss: `proxy_contrast` with the proxies of an image's cluster, averaged per camera and then summed.

    This corrects two errors of the released code: it normalises the proxies over the wrong axis, and it counts
    positives among the negatives if there are fewer than `hard` of them.

    Args:
        student: (B, D), of any length.
        targets: (S,) cluster of each image.
        cameras: (S,) camera of each image.
        proxies: (K, D), of any length.
        proxy_clusters: (K,) cluster of each proxy.
        temperature: beta.
        hard: number of hard negatives, the most similar proxies of other clusters.
        own: which of the S images are the student's B.

    Returns:
        The sum over the cameras. With several processes, the mean over their return values is this sum.
    """
    positives = targets[own, None] == proxy_clusters
    losses = proxy_contrast(cosine_matrix(student, proxies), positives, ~positives, temperature, hard)
    images_of_camera = (cameras[own, None] == cameras).sum(dim=1)
    return len(cameras) * (losses / images_of_camera).mean()


@META_ARCH_REGISTRY.register()
class ICE(PseudoLabelMethod):
    """Contrast a student with cluster proxies, camera proxies, and a mean teacher's features of other views.

    The teacher's features are clustered and tested. The teacher is updated at the beginning of a step, with the
    student's weights after the previous step, as in MoCo. The released code updates it at the end of a step, so the
    features that it clusters are one step newer. That code also runs both networks on views whose features enter no
    loss, and prefers batches in which the images of a cluster come from many cameras; this implementation does neither.
    """

    VIEWS: ClassVar = {"images_teacher": "train", "images_weak": "test"}
    TWINS = ("teacher.",)

    @configurable
    def __init__(
        self,
        *,
        momentum: float,
        cluster: dict[str, float],
        instance_temperature: float,
        consistency_scale: float,
        consistency_weight: float,
        camera: dict[str, float],
        camera_weight: float,
        **kwargs,
    ):
        """Assemble the student and its teacher, and set the weights of the losses.

        Args:
            momentum: alpha of the teacher.
            cluster: "temperature" and "smoothing" of `cluster_proxy_contrast`.
            instance_temperature: temperature of `hard_instance_contrast`.
            consistency_scale: scale of `similarity_consistency`.
            consistency_weight: weight of `similarity_consistency` in the total loss.
            camera: "temperature" and "hard" of `camera_contrast`.
            camera_weight: weight of `camera_contrast` in the total loss.
            **kwargs: arguments of `PseudoLabelMethod`.
        """
        super().__init__(**kwargs)
        self.teacher = MeanTeacher(momentum, backbone=self.backbone, heads=self.heads)
        self.cluster, self.camera, self.camera_weight = cluster, camera, camera_weight
        self.instance_temperature = instance_temperature
        self.consistency_scale, self.consistency_weight = consistency_scale, consistency_weight
        for bank in ("centroids", "proxies", "proxy_clusters"):
            self.register_buffer(bank, None, persistent=False)

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read the arguments of `__init__` from a configuration."""
        ice = cfg.ICE
        return {
            **super().from_config(cfg),
            "momentum": ice.MOMENTUM,
            "cluster": {"temperature": ice.CLUSTER_TEMPERATURE, "smoothing": ice.LABEL_SMOOTHING},
            "instance_temperature": ice.INSTANCE_TEMPERATURE,
            "consistency_scale": ice.CONSISTENCY_SCALE,
            "consistency_weight": ice.CONSISTENCY_WEIGHT,
            "camera": {"temperature": ice.CAMERA_TEMPERATURE, "hard": ice.CAMERA_NEGATIVES},
            "camera_weight": ice.CAMERA_WEIGHT,
        }

    def represent(self, images: Tensor) -> Tensor:
        """Compute the teacher's feature: (B, 3, H, W) in [0, 255] -> (B, D) of unit length."""
        return self.teacher.heads(self.teacher.backbone(self.normalise(images)))

    @torch.no_grad()
    def teacher_features(self, images: Tensor) -> Tensor:
        """Compute the teacher's features of the images of all processes: (B, 3, H, W) -> (S, D), in rank order.

        Shuffle-BN (MoCo): each process encodes a random share of all images, so the teacher's BatchNorm normalises an
        image together with other images than the student's does. On one process the shuffling applies to the groups of
        MODEL.BATCHNORM_GROUPS.
        """
        (images,) = gather_ranks(images)
        order = torch.randperm(len(images), device=images.device)
        if comm.get_world_size() > 1:
            dist.broadcast(order, src=0)
        share = order.chunk(comm.get_world_size())[comm.get_rank()]
        (features,) = gather_ranks(self.represent(images[share]))
        return features[order.argsort()]

    def start_epoch(self, features: dict[str, Tensor], labels: Tensor, cameras: Tensor | None = None) -> None:
        """Set the proxies of the epoch: the mean of each cluster and, if cameras are known, of each camera in it."""
        self.centroids = cluster_centroids(features["original"], labels)
        self.proxies = self.proxy_clusters = None
        if cameras is not None:
            self.proxies, self.proxy_clusters, _ = camera_proxies(features["original"], labels, cameras)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update the teacher; then compute the proxy, hard instance, soft instance and, with cameras, camera loss."""
        self.teacher.update(self)
        student = self.heads.embed(self.backbone(self.normalise(batch["images"])))
        strong, weak = (self.teacher_features(batch[view]) for view in self.VIEWS)
        targets, cameras = gather_ranks(batch["targets"], batch["camids"])
        first = comm.get_rank() * len(student)
        own = slice(first, first + len(student))
        consistency = similarity_consistency(student, strong, weak, self.consistency_scale, own)
        losses = {
            "loss_cluster": cluster_proxy_contrast(student, self.centroids, batch["targets"], **self.cluster),
            "loss_instance": hard_instance_contrast(student, strong, targets, self.instance_temperature, own),
            "loss_consistency": self.consistency_weight * consistency,
        }
        if self.proxies is not None:
            proxies = self.proxies, self.proxy_clusters
            camera = camera_contrast(student, targets, cameras, *proxies, **self.camera, own=own)
            losses["loss_camera"] = self.camera_weight * camera
        return losses
