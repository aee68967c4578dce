"""ICE: Inter-instance Contrastive Encoding for Unsupervised Person Re-identification (Chen et al., ICCV 2021).

Shapes: B images, S images of all processes (B of one), N training images, M clusters, K camera proxies, D dimensions.
Where a loss takes features of S images, `own` says which of them are the student's B.
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
    """The proxy loss: cross-entropy of the logits f.p_j / tau_c against label-smoothed targets.

    As in the released code f is taken before its L2 normalisation, and p_j is a mean that is not normalised.

    Args:
        student: (B, D) f.
        centroids: (M, D) p.
        targets: (B,) cluster of each image.
        temperature: tau_c.
        smoothing: share of a target that is spread over all clusters.

    Returns:
        The mean over the batch.
    """
    with full_precision(student.device):
        logits = student.float() @ centroids.float().T / temperature
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)


def hard_instance_contrast(
    student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, own: slice = ALL
) -> Tensor:
    """The hard instance loss: match each image with the least similar of its cluster, against all other clusters'.

    -log(exp(s_h / tau_v) / (exp(s_h / tau_v) + sum_n exp(s_n / tau_v))), s the cosines of a student's feature with the
    teacher's, s_h the smallest in the cluster, s_n those outside it.

    Args:
        student: (B, D), of any length.
        teacher: (S, D) of the second view, of any length.
        targets: (S,) cluster of each image.
        temperature: tau_v.
        own: see the module.

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
    """The soft instance loss: KL(Q || P) of how an image resembles the others in weak and in strong views.

    P = softmax_j(cos(f_i, f'_j) / scale) of the student and the teacher's strong view, Q = softmax_j(cos(w_i, w_j) /
    scale) of the teacher's weak view with itself.

    Args:
        student: (B, D) f, of any length.
        teacher: (S, D) f', of any length.
        teacher_weak: (S, D) w, of any length.
        scale: a temperature.
        own: see the module.

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
    """The cross-camera loss: `proxy_contrast` with the image's cluster in every camera, summed over cameras' means.

    Departs from the released code in two slips of it: that normalises the proxies over the wrong axis, and where fewer
    than `hard` negatives exist it counts positives among them.

    Args:
        student: (B, D), of any length.
        targets, cameras: (S,) of each image.
        proxies: (K, D), of any length.
        proxy_clusters: (K,) cluster of each proxy.
        temperature: beta.
        hard: most similar proxies of other clusters that count.
        own: see the module.

    Returns:
        The sum over the cameras; of several processes that is the mean of what they return.
    """
    positives = targets[own, None] == proxy_clusters
    losses = proxy_contrast(cosine_matrix(student, proxies), positives, ~positives, temperature, hard)
    images_of_camera = (cameras[own, None] == cameras).sum(dim=1)
    return len(cameras) * (losses / images_of_camera).mean()


@META_ARCH_REGISTRY.register()
class ICE(PseudoLabelMethod):
    """A student contrasted with cluster and camera proxies and with a mean teacher's features of other views.

    The teacher is what is clustered and tested. It moves at the beginning of a step by the weights that the step before
    left, as MoCo's does; the released code moves it after the step, so its features before an epoch are one step newer.
    That code also runs both networks on further views whose features enter no loss, prefers batches in which a
    cluster's images come from many cameras, and clusters at eps 0.55; none of that is done here.
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
        """
        Args:
            momentum: alpha of the teacher.
            cluster: "temperature" and "smoothing" of `cluster_proxy_contrast`.
            instance_temperature: of `hard_instance_contrast`.
            consistency_scale, consistency_weight: of `similarity_consistency`, and its factor in the sum.
            camera: "temperature" and "hard" of `camera_contrast`.
            camera_weight: its factor in the sum.
            **kwargs: of `PseudoLabelMethod`.
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
        """The teacher's feature: (B, 3, H, W) in [0, 255] -> (B, D) of unit length."""
        return self.teacher.heads(self.teacher.backbone(self.normalise(images)))

    @torch.no_grad()
    def teach(self, images: Tensor) -> Tensor:
        """The teacher's features of the images of all processes: (B, 3, H, W) -> (S, D), in the order of the ranks.

        Shuffle-BN (MoCo): each process takes a random share of them, so that the teacher's BatchNorm sees other
        neighbours of an image than the student's; on one process MODEL.BATCHNORM_GROUPS are shuffled so.
        """
        (images,) = gather_ranks(images)
        order = torch.randperm(len(images), device=images.device)
        if comm.get_world_size() > 1:
            dist.broadcast(order, src=0)
        share = order.chunk(comm.get_world_size())[comm.get_rank()]
        (taught,) = gather_ranks(self.represent(images[share]))
        return taught[order.argsort()]

    def start_epoch(self, features: dict[str, Tensor], labels: Tensor, cameras: Tensor | None = None) -> None:
        """Fix the epoch's proxies: the mean feature of each cluster, and where cameras are known in each of them."""
        self.centroids = cluster_centroids(features["original"], labels)
        self.proxies = self.proxy_clusters = None
        if cameras is not None:
            self.proxies, self.proxy_clusters, _ = camera_proxies(features["original"], labels, cameras)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cluster proxies + hard instance + weighted consistency (+ weighted camera proxies); moves the teacher."""
        self.teacher.update(self)
        student = self.heads.embed(self.backbone(self.normalise(batch["images"])))
        strong, weak = (self.teach(batch[view]) for view in self.VIEWS)
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
