import numpy as np
import pytest
import torch
from support import oracles

from fastreid_fancl import load_config
from fastreid_fancl.backbones import build_waveblock_resnet_backbone
from fastreid_fancl.backbones.waveblock import CBAM, WaveAttention, WaveBlock


def test_in_training_one_band_keeps_its_values_and_the_rest_grows():
    torch.manual_seed(0)
    waved = WaveBlock(band=0.3, rate=1.5)(torch.ones(2, 3, 10, 4))
    rows = waved[0, 0, :, 0]
    assert (waved == rows[:, None]).all(), "the band runs through all images, channels and columns"
    kept = (rows == 1).nonzero().flatten().tolist()
    assert len(kept) == 3
    assert kept == list(range(kept[0], kept[0] + 3))
    assert (rows[rows != 1] == 1.5).all()


def test_the_band_moves_from_batch_to_batch_and_reaches_both_ends():
    torch.manual_seed(0)
    wave, ones = WaveBlock(), torch.ones(1, 1, 10, 1)
    kept = torch.stack([(wave(ones) == 1).flatten() for _ in range(200)]).any(dim=0)
    assert kept.all()


def test_at_test_the_wave_is_the_identity():
    x = torch.randn(2, 4, 6, 5)
    assert torch.equal(WaveBlock().eval()(x), x)


def test_attention_without_weights_is_a_quarter():
    # Sigmoid of zero is a half, for the channels and again for the places: 0.5 * 0.5.
    attention, x = CBAM(8), torch.randn(2, 8, 5, 6)
    for weight in attention.parameters():
        torch.nn.init.zeros_(weight)
    torch.testing.assert_close(attention(x), x / 4)


def test_attention_equals_the_loops():
    torch.manual_seed(0)
    attention, x = CBAM(8, reduction=2, kernel=5), torch.randn(2, 8, 4, 7)
    squeeze, _, expand = attention.channel
    weights = squeeze.weight[..., 0, 0], expand.weight[..., 0, 0], attention.spatial.weight[0]
    with torch.no_grad():
        expected = oracles.attention(x.numpy(), *(weight.numpy(force=True) for weight in weights))
        np.testing.assert_allclose(attention(x), expected, atol=1e-5)


def test_the_module_adds_attention_to_the_map():
    module, x = WaveAttention(8).eval(), torch.randn(2, 8, 5, 6)
    torch.testing.assert_close(module(x), x + module.attention(x))


@pytest.mark.parametrize(("depth", "channels"), [("18x", (128, 256)), ("50x", (512, 1024))])
def test_a_resnet_keeps_the_names_of_its_weights(depth, channels):
    options = ["MODEL.BACKBONE.DEPTH", depth, "MODEL.BACKBONE.PRETRAIN", "False", "MODEL.DEVICE", "cpu"]
    backbone = build_waveblock_resnet_backbone(load_config("", options))
    plain = {name for name in backbone.state_dict() if ".attention." not in name}
    assert {"conv1.weight", "layer2.0.conv1.weight", "layer4.1.bn2.running_mean"} <= plain
    added = [stage[-1] for stage in (backbone.layer2, backbone.layer3)]
    assert all(isinstance(module, WaveAttention) for module in added)
    assert tuple(module.attention.channel[0].in_channels for module in added) == channels
    with torch.no_grad():
        assert backbone.eval()(torch.randn(1, 3, 32, 64)).shape[1] == {"18x": 512, "50x": 2048}[depth]
