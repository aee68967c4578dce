"""What every method that learns from pseudo-labels shares. Shapes: B images, N images in all, D dimensions."""

from abc import abstractmethod

from fastreid.config import configurable
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.heads import build_heads
from torch import Tensor, nn, tensor


class PseudoLabelMethod(nn.Module):
    """One encoder, the seams that the engine calls once an epoch, and the test-time feature.

    An epoch: `cluster_features` on every training image, a clustering of its "original" features by the engine,
    `start_epoch` with the features and the pseudo-labels, then `losses` on batches of images and pseudo-labels.
    """

    @configurable
    def __init__(self, *, backbone: nn.Module, heads: nn.Module, pixel_mean: list[float], pixel_std: list[float]):
        """
        Args:
            backbone: images (B, 3, H, W) -> feature map (B, D, h, w).
            heads: feature map -> (B, D) of unit length.
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

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor] | Tensor:
        """In training the losses by name; otherwise the features (B, D) that fast-reid's evaluator compares."""
        return self.losses(batch) if self.training else self.encode(batch["images"])

    def cluster_features(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Features by name, each (B, D); "original" is what gets clustered. Called in evaluation mode."""
        return {"original": self.encode(batch["images"])}

    @abstractmethod
    def start_epoch(self, features: dict[str, Tensor], labels: Tensor) -> None:
        """Fill the memory banks.

        Args:
            features: `cluster_features` of every training image, each (N, D), equal on all ranks.
            labels: (N,) clusters 0..M-1, -1 for an image left out.
        """

    @abstractmethod
    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses by name, and the update of the banks.

        Args:
            batch: "images" (B, 3, H, W) in [0, 255], "targets" (B,) pseudo-labels, "indices" (B,) of the images.
        """
