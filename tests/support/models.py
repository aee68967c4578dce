"""Methods with a backbone of one convolution, and their batches."""

import torch
from torch import nn

from fastreid_fancl.heads import ClusterContrastHead
from fastreid_fancl.methods import ClusterContrast

DIM = 6
COMMON = {"pixel_mean": [120.0, 110.0, 100.0], "pixel_std": [60.0, 55.0, 50.0]}
BANK = {"temperature": 0.05, "momentum": 0.1, "update": "mean"}


class Backbone(nn.Module):
    """(B, 3, H, W) -> (B, DIM, H, W)."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, DIM, 3, padding=1), nn.BatchNorm2d(DIM)

    def forward(self, images):
        return self.bn1(self.conv1(images)).relu()


def head():
    return ClusterContrastHead(feat_dim=DIM, pool_type="GlobalAvgPool", norm_type="BN")


def cluster_contrast(seed=0):
    torch.manual_seed(seed)
    return ClusterContrast(backbone=Backbone(), heads=head(), **BANK, **COMMON)


def batch(size=8, clusters=3):
    """Images (B, 3, 10, 12), the same each time, whose targets take turns."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(size, 3, 10, 12, generator=generator) * 255
    return {"images": images, "targets": torch.arange(size) % clusters, "indices": torch.arange(size)}


def start(model, data):
    """Begin an epoch on a batch; its features by bank."""
    model.eval()
    with torch.no_grad():
        features = model.cluster_features(data)
    model.start_epoch(features, data["targets"])
    model.train()
    return features
