"""Base classes of all methods and of those that learn from pseudo-labels.

Shapes: B images of a batch, N training images, D dimensions.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch
from fastreid.config import configurable
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.heads import build_heads
from scipy.sparse import csr_matrix
from torch import Tensor, nn, tensor


class Encoder(nn.Module, ABC):
    """A backbone and a head with fast-reid's interface: a batch gives losses in training and features at test time."""

    @configurable
    def __init__(self, *, backbone: nn.Module, heads: nn.Module, pixel_mean: list[float], pixel_std: list[float]):
        """Assemble the model.

        Args:
            backbone: images (B, 3, H, W) -> feature map (B, D, h, w).
            heads: feature map -> (B, D) of unit length, or whatever the `encode` of a method expects.
            pixel_mean: mean of each of the three channels, for pixels in [0, 255].
            pixel_std: standard deviation of each channel, for pixels in [0, 255].
        """
        super().__init__()
        self.backbone, self.heads = backbone, heads
        self.register_buffer("pixel_mean", tensor(pixel_mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", tensor(pixel_std).view(1, -1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read the arguments of `__init__` from a configuration."""
        return {
            "backbone": build_backbone(cfg),
            "heads": build_heads(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.pixel_mean.device

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise pixels (B, 3, H, W) in [0, 255] by the mean and standard deviation, into a new tensor."""
        return (images - self.pixel_mean) / self.pixel_std

    def encode(self, images: Tensor) -> Tensor:
        """f_theta: encode images (B, 3, H, W) in [0, 255] as features (B, D) of unit length."""
        return self.heads(self.backbone(self.normalise(images)))

    def represent(self, images: Tensor) -> Tensor:
        """Compute the feature that is tested and clustered: (B, 3, H, W) in [0, 255] -> (B, D) of unit length."""
        return self.encode(images)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor] | Tensor:
        """Return the losses by name in training, and otherwise features (B, D) for fast-reid's evaluator."""
        return self.losses(batch) if self.training else self.represent(batch["images"])

    @abstractmethod
    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the losses, by name, of a batch with "images" (B, 3, H, W) in [0, 255] and "targets" (B,)."""


class PseudoLabelMethod(Encoder):
    """A method that alternates between clustering all training images and training on the pseudo-labels.

    In each epoch the engine calls `stored_features`, or, if that gives None, `cluster_features` for every training
    image; it clusters the features called "original"; it calls `refine_labels` with the clusters and `start_epoch` with
    features and pseudo-labels; then it calls `losses` for each batch.

    Attributes:
        VIEWS: further views of each training image: key in the batch -> "train" or "test", the transform to use.
        TWINS: prefixes of further encoders. They start as copies of the first encoder if a checkpoint lacks them.
        TRAINS_OUTLIERS: whether batches include the images that are in no cluster, each as a class of its own.
        epoch: number of the current epoch, which the engine sets at its start.
    """

    VIEWS: ClassVar[dict[str, str]] = {}
    TWINS: ClassVar[tuple[str, ...]] = ()
    TRAINS_OUTLIERS: ClassVar[bool] = False
    epoch = 0

    def load_state_dict(self, state_dict, *args, **kwargs):
        """Load a checkpoint; a twin that is not in it starts from the weights of the first encoder."""
        encoder = {key: state_dict[key] for key in state_dict if key.startswith(("backbone.", "heads."))}
        for twin in self.TWINS:
            if not any(key.startswith(twin) for key in state_dict):
                state_dict = {**state_dict, **{twin + key: value for key, value in encoder.items()}}
        return super().load_state_dict(state_dict, *args, **kwargs)

    def cluster_features(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute features by name, each (B, D); "original" gets clustered. Called in evaluation mode."""
        return {"original": self.represent(batch["images"])}

    def stored_features(self) -> dict[str, Tensor] | None:
        """Return the `cluster_features` of all training images, each (N, D), if the method keeps them, else None."""
        return None

    def refine_labels(
        self, labels: np.ndarray, distance: csr_matrix, eps: float, min_samples: int, cameras: np.ndarray | None
    ) -> np.ndarray:
        """Select clusters by the method's own criterion. Called on the main process only.

        Args:
            labels: (N,) from DBSCAN, clusters 0..M-1 and -1.
            distance: (N, N) Jaccard distance that DBSCAN used.
            eps: DBSCAN's radius.
            min_samples: DBSCAN's minimum number of images within eps of a core image.
            cameras: (N,) camera numbers from 0, or None if the cameras are unknown.

        Returns:
            (N,) labels 0..M'-1 and -1.
        """
        return labels

    @abstractmethod
    def start_epoch(self, features: dict[str, Tensor], labels: Tensor, cameras: Tensor | None = None) -> None:
        """Fill the memory banks.

        Args:
            features: `cluster_features` of all training images, each (N, D), equal on all ranks.
            labels: (N,) clusters 0..M-1, -1 for images in no cluster.
            cameras: (N,) camera numbers from 0, or None if the cameras are unknown.
        """

    @abstractmethod
    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the losses by name, and update the banks.

        Args:
            batch: "images" (B, 3, H, W) in [0, 255] and the VIEWS, each of the same shape; "targets" (B,), pseudo-
                labels, -1 for an outlier; "indices" (B,) of the images in the training set; "camids" (B,), numbered as
                in `start_epoch`. Batches of the engine also have "target_repeats" and "index_repeats", the
                `repeat_counts` that the `update` of a memory takes.
        """
