"""Beyond Part Models: Person Retrieval with Refined Part Pooling (Sun et al., ECCV 2018): PCB and RPP.

The paper's symbols and their names here: T is feature_map, and f its column vectors; W is part_classifier; p is parts;
g is pooled; h are the features of `PartHead`.
Shapes: B images, P parts, D channels of T, d dimensions of h, C identities.
"""

import torch
import torch.nn.functional as F
from fastreid.config import configurable
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from torch import Tensor, nn

from ..errors import UserError
from ..heads import PartHead
from ..losses import full_precision
from .base import Encoder


def refined_parts(feature_map: Tensor, part_logits: Tensor) -> Tensor:
    """Refined part pooling (Section 3.3): g_i = sum_f P(P_i|f) f / sum_f P(P_i|f), P(P_i|f) = softmax_i(W_i f).

    The released code divides by the size of a stripe instead, so the length of a part's feature grows with its area.
    Both equal PCB's uniform stripes, on which the heads were trained, if the probabilities are 0 or 1 in that pattern.

    Args:
        feature_map: (B, D, h, w).
        part_logits: (B, P, h, w), W_i f.

    Returns:
        (B, P, D).
    """
    # The softmax over f of log P(P_i|f) is the share of each f in part i, even if every P(P_i|f) rounds to zero.
    shares = part_logits.log_softmax(dim=1).flatten(2).softmax(dim=2)
    return shares @ feature_map.flatten(2).transpose(1, 2)


def part_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of the cross-entropies of all parts (Section 3.1).

    Args:
        logits: (B, P, C).
        targets: (B,) in 0..C-1.

    Returns:
        The mean over the batch.
    """
    parts = logits.shape[1]
    return parts * F.cross_entropy(logits.flatten(0, 1), targets.repeat_interleave(parts))


class IdentityClassifiers(nn.Module):
    """One linear classifier per part."""

    def __init__(self, parts: int, dim: int, num_classes: int):
        """Create the weights of the classifiers of all parts.

        Args:
            parts: P.
            dim: d.
            num_classes: C; 0 for a model that is only evaluated.
        """
        super().__init__()
        self.weight = nn.Parameter(torch.empty(parts, dim, num_classes))
        self.bias = nn.Parameter(torch.zeros(parts, num_classes))
        nn.init.normal_(self.weight, std=0.001)

    def forward(self, features: Tensor) -> Tensor:
        """Classify the features (B, P, d) of all parts: logits (B, P, C)."""
        return torch.einsum("bpd,pdc->bpc", features, self.weight) + self.bias


@META_ARCH_REGISTRY.register()
class PCB(Encoder):
    """Part-based Convolutional Baseline: stripes of the feature map, each with its own reduction and classifier.

    With `refined`, a classifier of column vectors replaces the stripes. Algorithm 1 is then a second run that starts
    from the first one's MODEL.WEIGHTS; MODEL.FREEZE_LAYERS keeps everything except `part_classifier` fixed for
    SOLVER.FREEZE_ITERS iterations.

    The test-time feature concatenates the h of all parts, each at unit length (the paper's H), and is itself normalised
    to unit length; the released code normalises each part as well. That code shares one reduction between the parts,
    with dropout before it and a ReLU after it; here each part has its own reduction, without these.
    """

    @configurable
    def __init__(self, *, heads: PartHead, num_classes: int, refined: bool, **kwargs):
        """Add the classifiers to the encoder.

        Args:
            heads: the head of `Encoder`, which must be a `PartHead`.
            num_classes: C.
            refined: whether a part classifier replaces the uniform stripes.
            **kwargs: further arguments of `Encoder`.

        Raises:
            ValueError: if the head is not a `PartHead`.
        """
        super().__init__(heads=heads, **kwargs)
        if not isinstance(heads, PartHead):
            raise UserError(f"Expected MODEL.HEADS.NAME PartHead for PCB, got {type(heads).__name__}.")
        self.classifier = IdentityClassifiers(heads.parts, heads.dim, num_classes)
        self.part_classifier = nn.Conv2d(heads.feat_dim, heads.parts, 1, bias=False) if refined else None

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read the arguments of `__init__` from a configuration."""
        return {
            **super().from_config(cfg),
            "num_classes": cfg.MODEL.HEADS.NUM_CLASSES,
            "refined": cfg.PARTS.REFINED,
        }

    def encode_parts(self, images: Tensor) -> Tensor:
        """Compute h of all parts: (B, 3, H, W) in [0, 255] -> (B, P, d)."""
        feature_map = self.backbone(self.normalise(images))
        if self.part_classifier is None:
            return self.heads(feature_map)
        return self.heads.reduce(refined_parts(feature_map, self.part_classifier(feature_map)))

    def encode(self, images: Tensor) -> Tensor:
        """Concatenate the normalised parts: (B, 3, H, W) in [0, 255] -> (B, P * d) of unit length."""
        features = self.encode_parts(images)
        with full_precision(features.device):
            return F.normalize(F.normalize(features.float(), dim=2).flatten(1), dim=1)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute "loss_cls", the sum of the cross-entropies of all parts; MODEL.LOSSES is not used."""
        return {"loss_cls": part_cross_entropy(self.classifier(self.encode_parts(batch["images"])), batch["targets"])}
