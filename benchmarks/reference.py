"""Cluster Contrast as its released code trains: a plain PyTorch loop, written here again as a reference.

Photographs are decoded in every pass, the memory moves sample by sample inside the backward pass, weights are stepped
tensor by tensor, and clustering builds N x N matrices. Shapes: B images, N images in all, M clusters, D dimensions.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.cluster import DBSCAN
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Photographs(Dataset):
    """(pixels, number) of image files."""

    def __init__(self, paths: list[str], transform):
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.transform(Image.open(self.paths[number]).convert("RGB")), number


def pipelines(size: tuple[int, int], padding: int) -> tuple:
    """Transforms of training and of test images at (H, W)."""
    resize = transforms.Resize(size, interpolation=3)
    end = [transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)]
    augment = [transforms.RandomHorizontalFlip(), transforms.Pad(padding), transforms.RandomCrop(size)]
    return transforms.Compose([resize, *augment, *end]), transforms.Compose([resize, *end])


class Encoder(nn.Module):
    """A torchvision ResNet, pooling, BatchNorm, unit length."""

    def __init__(self, depth: int, last_stride: int):
        super().__init__()
        self.resnet = getattr(models, f"resnet{depth}")()
        block = self.resnet.layer4[0]
        strided = block.conv1 if depth < 50 else block.conv2
        strided.stride = block.downsample[0].stride = (last_stride, last_stride)
        self.dim = self.resnet.fc.in_features
        self.resnet.fc = nn.Identity()
        self.norm = nn.BatchNorm1d(self.dim)
        self.norm.bias.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.norm(self.resnet(images)))


class MovedInBackward(torch.autograd.Function):
    """Similarities to a memory that the backward pass moves."""

    @staticmethod
    def forward(context, queries, targets, memory, momentum):
        context.memory, context.momentum = memory, momentum
        context.save_for_backward(queries, targets)
        return queries @ memory.T

    @staticmethod
    def backward(context, gradient):
        queries, targets = context.saved_tensors
        found = gradient @ context.memory
        for query, target in zip(queries, targets, strict=True):
            row = context.momentum * context.memory[target] + (1 - context.momentum) * query
            context.memory[target] = row / row.norm()
        return found, None, None, None


class Reference:
    """One system of the benchmark: `features`, `cluster`, `start`, `load`, `step`, with its `batches`."""

    precision = "float32"

    def __init__(self, cfg, paths: list[str], device: torch.device):
        self.cfg, self.paths, self.device, self.workers = cfg, paths, device, cfg.DATALOADER.NUM_WORKERS
        self.train, self.test = pipelines(tuple(cfg.INPUT.SIZE_TRAIN), cfg.INPUT.PADDING.SIZE)
        self.model = Encoder(int(cfg.MODEL.BACKBONE.DEPTH.rstrip("x")), cfg.MODEL.BACKBONE.LAST_STRIDE).to(device)
        groups = [{"params": [value]} for value in self.model.parameters() if value.requires_grad]
        self.optimizer = torch.optim.Adam(groups, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY)

    @torch.no_grad()
    def features(self, numbers: list[int]) -> Tensor:
        """(N, D) of the photographs of these numbers."""
        self.model.eval()
        photographs = Photographs([self.paths[n] for n in numbers], self.test)
        loader = DataLoader(photographs, self.cfg.TEST.IMS_PER_BATCH, num_workers=self.workers)
        return torch.cat([self.model(images.to(self.device)).cpu() for images, _ in loader])

    def cluster(self, features: Tensor) -> np.ndarray:
        """(N,) labels by the dense Jaccard distance and scikit-learn's DBSCAN."""
        from support.oracles import dense_jaccard

        labels = self.cfg.PSEUDO_LABELS
        distance = dense_jaccard(features.numpy(), labels.K1, labels.K2)
        eps = 0.5 if labels.EPS == "auto" else labels.EPS  # it chooses none; any takes as long
        return DBSCAN(eps=eps, min_samples=4, metric="precomputed", n_jobs=-1).fit_predict(distance)

    def start(self, features: dict[str, Tensor], targets: np.ndarray) -> None:
        """Fill the memory."""
        self.model.train()
        self.targets = torch.from_numpy(targets).to(self.device)
        kept, labels = features["original"][targets >= 0], torch.from_numpy(targets[targets >= 0])
        means = torch.stack([kept[labels == cluster].mean(0) for cluster in labels.unique()])
        self.memory = F.normalize(means).to(self.device)

    def load(self, batches: np.ndarray, through: Callable[[Iterator], Iterator] = iter) -> None:
        """Load these batches of photographs, by their numbers, from the next step on."""
        photographs = Photographs(self.paths, self.train)
        loader = DataLoader(photographs, batch_sampler=batches.tolist(), num_workers=self.workers)
        self.batches = through(iter(loader))

    def step(self) -> None:
        """One training step, its batch included."""
        images, numbers = next(self.batches)
        targets = self.targets[numbers.to(self.device)]
        queries, bank = self.model(images.to(self.device)), self.cfg.MEMORY
        similarity = MovedInBackward.apply(queries, targets, self.memory, bank.MOMENTUM)
        loss = F.cross_entropy(similarity / bank.TEMPERATURE, targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        loss.item()
