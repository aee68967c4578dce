"""Densely Connected Convolutional Networks (Huang et al., CVPR 2017): torchvision's, as a backbone of fast-reid."""

import torch.nn.functional as F
from fastreid.layers import get_norm
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from torch import Tensor, nn
from torchvision.models import densenet

# Growth rate, layers of the four blocks, channels of the first convolution (the paper's Table 1; 161 is torchvision's).
DEPTHS = {
    "121x": (32, (6, 12, 24, 16), 64),
    "161x": (48, (6, 12, 36, 24), 96),
    "169x": (32, (6, 12, 32, 32), 64),
    "201x": (32, (6, 12, 48, 32), 64),
}

# Where `compat.pretrained` finds ImageNet's weights by DEPTH.
model_urls = {depth: getattr(densenet, f"DenseNet{depth[:-1]}_Weights").IMAGENET1K_V1.url for depth in DEPTHS}


class DenseNet(densenet.DenseNet):
    """Without the classifier; its modules carry torchvision's names, so torchvision's weights start it."""

    def __init__(self, depth: str, last_stride: int = 2, norm_type: str = "BN"):
        """
        Args:
            depth: a key of `DEPTHS`.
            last_stride: 1 leaves out the pooling before the last block, as fast-reid's ResNet the stride of its last
                stage: a feature map of 1/16 of the image's size instead of 1/32.
            norm_type: a key of fastreid.layers.get_norm.

        Raises:
            KeyError: on an unknown depth or norm; `build_backbone` makes a ValueError of it.
            ValueError: on another stride than 1 or 2.
        """
        if last_stride not in (1, 2):
            raise ValueError(f"Expected MODEL.BACKBONE.LAST_STRIDE 1 or 2 with a DenseNet, got {last_stride}.")
        super().__init__(*DEPTHS[depth])
        del self.classifier
        if last_stride == 1:
            self.features.transition3.pool = nn.Identity()
        replace_norms(self, norm_type)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> the feature map (B, C, h, w) after the last norm and ReLU; C is 1024 with DenseNet-121."""
        return F.relu(self.features(images), inplace=True)


def replace_norms(module: nn.Module, norm_type: str) -> None:
    """Put fast-reid's norm of that name, freshly initialised, in the place of every BatchNorm."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, get_norm(norm_type, child.num_features))
        else:
            replace_norms(child, norm_type)


@BACKBONE_REGISTRY.register()
def build_densenet_backbone(cfg) -> DenseNet:
    """A DenseNet from MODEL.BACKBONE.{DEPTH, LAST_STRIDE, NORM}; `compat.pretrained` adds the weights of PRETRAIN."""
    options = cfg.MODEL.BACKBONE
    return DenseNet(options.DEPTH, options.LAST_STRIDE, options.NORM)
