"""Settings that come from the backbone unless the user sets them: the width of the feature, mean and deviation."""

from fastreid.config import CfgNode, get_cfg

from ..errors import UserError

# A table, since building a backbone to look takes up to three seconds, and not all of them build without memory.
# Channels of the last feature map; a wrong FEAT_DIM is a RuntimeError of BatchNorm at the first step.
RESNET = {"18x": 512, "34x": 512, "50x": 2048, "101x": 2048}
FEATURE_DIMENSIONS = {
    "build_resnet_backbone": RESNET,
    "build_waveblock_resnet_backbone": RESNET,
    "build_resnext_backbone": {"50x": 2048, "101x": 2048, "152x": 2048},
    "build_resnest_backbone": {"50x": 2048, "101x": 2048, "200x": 2048, "269x": 2048},
    "build_osnet_backbone": {"x1_0": 512, "x0_75": 384, "x0_5": 256, "x0_25": 128},
    "build_regnet_backbone": {"800x": 672, "800y": 768, "400x": 384},
    "build_effnet_backbone": {"b0": 1280},
    "build_vit_backbone": {"small": 768, "base": 768},
    "build_mobilenetv2_backbone": {"1.0x": 1280},
    "build_mobilenetv3_backbone": {"Large": 1280, "Small": 1024},
    "build_shufflenetv2_backbone": {"1.0x": 1024},
    "build_repvgg_backbone": {"A0": 1280, "B1g2": 2048},
}


def clear_encoder_defaults(cfg: CfgNode) -> None:
    """Clear fast-reid's defaults for a ResNet-50, so that `describe_encoder` fills in those of the backbone."""
    cfg.MODEL.BACKBONE.FEAT_DIM, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = 0, [], []


def describe_encoder(cfg: CfgNode) -> None:
    """Set FEAT_DIM, PIXEL_MEAN and PIXEL_STD from the backbone's own description, unless the user set them.

    Raises:
        ValueError: if MODEL.BACKBONE.TIMM names no model, or one with another FEAT_DIM.
    """
    stock, model, backbone = get_cfg().MODEL, cfg.MODEL, cfg.MODEL.BACKBONE
    channels = FEATURE_DIMENSIONS.get(backbone.NAME, {}).get(backbone.DEPTH, stock.BACKBONE.FEAT_DIM)
    mean, std = stock.PIXEL_MEAN, stock.PIXEL_STD
    if backbone.TIMM:
        from ..backbones.timm import describe  # registers backbones, which IMPORTS may have replaced

        channels, mean, std = describe(backbone.TIMM, tuple(cfg.INPUT.SIZE_TRAIN), tuple(cfg.INPUT.SIZE_TEST))
        if backbone.FEAT_DIM not in (0, channels):
            raise UserError(
                f"Expected MODEL.BACKBONE.FEAT_DIM {channels} with {backbone.TIMM}, got {backbone.FEAT_DIM}: "
                "leave it out."
            )
    backbone.FEAT_DIM = backbone.FEAT_DIM or channels
    model.PIXEL_MEAN, model.PIXEL_STD = list(model.PIXEL_MEAN or mean), list(model.PIXEL_STD or std)
