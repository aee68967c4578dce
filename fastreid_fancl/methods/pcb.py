"""Beyond Part Models: Person Retrieval with Refined Part Pooling (Sun et al., ECCV 2018): PCB and RPP.

The paper's symbols and their names here: T feature_map, whose column vectors are f; W part_classifier; p parts; g
pooled; h the features of `PartHead`. Shapes: B images, P parts, D channels of T, d dimensions of h, C identities.
"""

import torch
import torch.nn.functional as F
from fastreid.config import configurable
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from torch import Tensor, nn

from ..heads import PartHead
from ..losses import full_precision
from .base import Encoder


def refined_parts(feature_map: Tensor, part_logits: Tensor) -> Tensor:
    """Refined part pooling (Section 3.3): g_i = sum_f P(P_i|f) f / sum_f P(P_i|f), P(P_i|f) = softmax_i(W_i f).

    The released code divides by the size of a stripe instead, so that a part's length grows with its area. Both equal
    PCB's uniform stripes, on which the heads were trained, where the probabilities are certain of these.

    Args:
        feature_map: (B, D, h, w).
        part_logits: (B, P, h, w), W_i f.

    Returns:
        (B, P, D).
    """
    # The softmax over f of log P(P_i|f) is the share of each f in part i, also where every P(P_i|f) rounds to zero.
    shares = part_logits.log_softmax(dim=1).flatten(2).softmax(dim=2)
    return shares @ feature_map.flatten(2).transpose(1, 2)


def part_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum over the parts of their cross-entropies (Section 3.1).

    Args:
        logits: (B, P, C).
        targets: (B,) in 0..C-1.

    Returns:
        The mean over the batch.
    """
    parts = logits.shape[1]
    return parts * F.cross_entropy(logits.flatten(0, 1), targets.repeat_interleave(parts))


class IdentityClassifiers(nn.Module):
    """A linear classifier of its own for each part."""

    def __init__(self, parts: int, dim: int, num_classes: int):
        """
        Args:
            parts: P.
            dim: d.
            num_classes: C; 0 where a model is only evaluated.
        """
        super().__init__()
        self.weight = nn.Parameter(torch.empty(parts, dim, num_classes))
        self.bias = nn.Parameter(torch.zeros(parts, num_classes))
        nn.init.normal_(self.weight, std=0.001)

    def forward(self, features: Tensor) -> Tensor:
        """(B, P, d) -> logits (B, P, C)."""
        return torch.einsum("bpd,pdc->bpc", features, self.weight) + self.bias


@META_ARCH_REGISTRY.register()
class PCB(Encoder):
    """Part-based Convolutional Baseline: stripes of the feature map, each with its own reduction and classifier.

    With `refined`, a classifier of column vectors replaces the stripes. Algorithm 1 then is a second run, which starts
    from the first by MODEL.WEIGHTS: MODEL.FREEZE_LAYERS keeps all but `part_classifier` for SOLVER.FREEZE_ITERS.

    At test each part's h at unit length, concatenated (the paper's H), to unit length again; the released code also
    brings each part to unit length. It shares one reduction among the parts, with dropout before and a ReLU after it;
    here each part has its own, without these.
    """

    @configurable
    def __init__(self, *, heads: PartHead, num_classes: int, refined: bool, **kwargs):
        """
        Args:
            heads: of `Encoder`, here those of parts.
            num_classes: C.
            refined: pool by a part classifier instead of uniform stripes.
            **kwargs: of `Encoder`.

        Raises:
            ValueError: on another head.
        """
        super().__init__(heads=heads, **kwargs)
        if not isinstance(heads, PartHead):
            raise ValueError(f"Expected MODEL.HEADS.NAME PartHead with PCB, got {type(heads).__name__}.")
        self.classifier = IdentityClassifiers(heads.parts, heads.dim, num_classes)
        self.part_classifier = nn.Conv2d(heads.feat_dim, heads.parts, 1, bias=False) if refined else None

    @classmethod
    def from_config(cls, cfg) -> dict:
        return {
            **super().from_config(cfg),
            "num_classes": cfg.MODEL.HEADS.NUM_CLASSES,
            "refined": cfg.PARTS.REFINED,
        }

    def encode_parts(self, images: Tensor) -> Tensor:
        """h: (B, 3, H, W) in [0, 255] -> (B, P, d)."""
        feature_map = self.backbone(self.normalise(images))
        if self.part_classifier is None:
            return self.heads(feature_map)
        return self.heads.reduce(refined_parts(feature_map, self.part_classifier(feature_map)))

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 255] -> (B, P * d) of unit length."""
        features = self.encode_parts(images)
        with full_precision(features.device):
            return F.normalize(F.normalize(features.float(), dim=2).flatten(1), dim=1)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sum of the parts' cross-entropies, "loss_cls"; MODEL.LOSSES is not read."""
        return {"loss_cls": part_cross_entropy(self.classifier(self.encode_parts(batch["images"])), batch["targets"])}
