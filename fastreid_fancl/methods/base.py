"""What every method shares, and what those from pseudo-labels do. Shapes: B images, N images in all, D dimensions."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from fastreid.config import configurable
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.heads import build_heads
from scipy.sparse import csr_matrix
from torch import Tensor, nn, tensor


class Encoder(nn.Module, ABC):
    """A backbone and a head behind fast-reid's seam: a batch in, losses in training or the test-time feature out."""

    @configurable
    def __init__(self, *, backbone: nn.Module, heads: nn.Module, pixel_mean: list[float], pixel_std: list[float]):
        """
        Args:
            backbone: images (B, 3, H, W) -> feature map (B, D, h, w).
            heads: feature map -> (B, D) of unit length, or what else a method's own `encode` takes.
            pixel_mean, pixel_std: of the three channels, in units of [0, 255].
        """
        super().__init__()
        self.backbone, self.heads = backbone, heads
        self.register_buffer("pixel_mean", tensor(pixel_mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", tensor(pixel_std).view(1, -1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg) -> dict:
        return {
            "backbone": build_backbone(cfg),
            "heads": build_heads(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self):
        return self.pixel_mean.device

    def normalise(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) pixels in [0, 255] -> zero mean and unit variance over ImageNet, as a new tensor."""
        return (images - self.pixel_mean) / self.pixel_std

    def encode(self, images: Tensor) -> Tensor:
        """f_theta: (B, 3, H, W) in [0, 255] -> (B, D) of unit length."""
        return self.heads(self.backbone(self.normalise(images)))

    def represent(self, images: Tensor) -> Tensor:
        """The test-time feature, also what gets clustered: (B, 3, H, W) in [0, 255] -> (B, D) of unit length."""
        return self.encode(images)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor] | Tensor:
        """In training the losses by name; otherwise the features (B, D) that fast-reid's evaluator compares."""
        return self.losses(batch) if self.training else self.represent(batch["images"])

    @abstractmethod
    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses by name of a batch with "images" (B, 3, H, W) in [0, 255] and "targets" (B,)."""


class PseudoLabelMethod(Encoder):
    """One encoder, the seams that the engine calls once an epoch, and the test-time feature.

    An epoch: `stored_features`, or `cluster_features` on every training image; the engine's clustering of those called
    "original"; `refine_labels` on it; `start_epoch` with features and pseudo-labels; then `losses` of each batch.

    Attributes:
        VIEWS: further views of each training image: key of the batch -> "train" or "test", which transform makes it.
        TWINS: prefixes of further encoders, which start as copies of the first where a checkpoint holds only that.
        TRAINS_OUTLIERS: whether images that clustering left out are in the batches, each a class of its own.
        searches: searches of neighbours among all images in `start_epoch`, the growth of which `--plan` needs to know.
        epoch: number of the epoch, set by the engine before anything else in it.
    """

    VIEWS: ClassVar[dict[str, str]] = {}
    TWINS: ClassVar[tuple[str, ...]] = ()
    TRAINS_OUTLIERS: ClassVar[bool] = False
    searches = 0
    epoch = 0

    def load_state_dict(self, state_dict, *args, **kwargs):
        """Load a checkpoint; a twin that it does not hold starts from the weights of the first encoder."""
        encoder = {key: state_dict[key] for key in state_dict if key.startswith(("backbone.", "heads."))}
        for twin in self.TWINS:
            if not any(key.startswith(twin) for key in state_dict):
                state_dict = {**state_dict, **{twin + key: value for key, value in encoder.items()}}
        return super().load_state_dict(state_dict, *args, **kwargs)

    def cluster_features(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Features by name, each (B, D); "original" is what gets clustered. Called in evaluation mode."""
        return {"original": self.represent(batch["images"])}

    def stored_features(self) -> dict[str, Tensor] | None:
        """What `cluster_features` would give for every training image, each (N, D), where the method keeps it."""
        return None

    def refine_labels(
        self, labels: np.ndarray, distance: csr_matrix, eps: float, min_samples: int, cameras: np.ndarray | None
    ) -> np.ndarray:
        """The method's own selection among the clusters. Called on the main process only.

        Args:
            labels: (N,) of DBSCAN, clusters 0..M-1 and -1.
            distance: (N, N) Jaccard distance that DBSCAN saw.
            eps, min_samples: of DBSCAN.
            cameras: (N,) numbers 0.., None where they are not known.

        Returns:
            (N,) labels 0..M'-1 and -1.
        """
        return labels

    @abstractmethod
    def start_epoch(self, features: dict[str, Tensor], labels: Tensor, cameras: Tensor | None = None) -> None:
        """Fill the memory banks.

        Args:
            features: `cluster_features` of every training image, each (N, D), equal on all ranks.
            labels: (N,) clusters 0..M-1, -1 for an image left out.
            cameras: (N,) numbers 0.., None where they are not known.
        """

    @abstractmethod
    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses by name, and the update of the banks.

        Args:
            batch: "images" (B, 3, H, W) in [0, 255] and the VIEWS, each of that shape; "targets" (B,) pseudo-labels, -1
                for an outlier; "indices" (B,) of the images; "camids" (B,), numbered as in `start_epoch`. The engine's
                batches have "target_repeats" and "index_repeats" too, for `update` of a memory.
        """
