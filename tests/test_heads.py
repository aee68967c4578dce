import pytest
import torch
from torch import nn

from fastreid_fancl.config.load import load_config
from fastreid_fancl.heads import PartHead, stripes

AXES = ("height", "width")


def normalised(features):
    """BatchNorm over the batch, without its weights."""
    return (features - features.mean(0)) / (features.var(0, unbiased=False) + 1e-5).sqrt()


def test_stripes_are_the_means_of_rows_or_of_columns():
    # One channel, 2 x 4:   1 2 3 4    rows: 10/4, 26/4    pairs of columns: (1+2+5+6)/4, (3+4+7+8)/4
    #                       5 6 7 8
    feature_map = torch.arange(1.0, 9).view(1, 1, 2, 4)
    assert stripes(feature_map, 2, "height").tolist() == [[[2.5], [6.5]]]
    assert stripes(feature_map, 2, "width").tolist() == [[[3.5], [5.5]]]


def test_stripes_overlap_where_the_parts_do_not_divide_the_axis():
    # Three columns in two stripes: the middle one is in both.
    feature_map = torch.tensor([1.0, 2, 6]).view(1, 1, 1, 3)
    assert stripes(feature_map, 2, "width").tolist() == [[[1.5], [4.0]]]


@pytest.mark.parametrize("axis", AXES)
def test_each_part_has_its_own_reduction_and_batchnorm(axis):
    head, feature_map = PartHead(4, 3, axis, reduced_dim=2), torch.randn(5, 4, 6, 6)
    with torch.no_grad():
        head.bottleneck.weight.copy_(torch.arange(1.0, 7))
        features = head(feature_map)
    blocks = feature_map.chunk(3, dim=2 if axis == "height" else 3)
    for part, block in enumerate(blocks):
        weight = head.reduction.weight[2 * part : 2 * part + 2, :, 0, 0]
        expected = normalised(block.mean((2, 3)) @ weight.T) * torch.tensor([2.0 * part + 1, 2 * part + 2])
        assert torch.allclose(features[:, part], expected, atol=1e-5)


def test_a_part_moves_only_its_own_weights():
    head = PartHead(4, 3, reduced_dim=2)
    head(torch.randn(5, 4, 6, 6))[:, 1].square().sum().backward()
    moved = head.reduction.weight.grad.abs().sum((1, 2, 3)) > 0
    assert moved.tolist() == [False, False, True, True, False, False]


def test_without_a_reduction_the_parts_are_the_normalised_stripes():
    head, feature_map = PartHead(4, 2), torch.randn(5, 4, 6, 3)
    assert torch.allclose(head(feature_map), normalised(stripes(feature_map, 2, "height")), atol=1e-5)


def test_the_parts_can_be_given_instead_of_a_map():
    head, feature_map = PartHead(4, 2, "width", reduced_dim=3).eval(), torch.randn(5, 4, 3, 6)
    assert torch.equal(head.reduce(stripes(feature_map, 2, "width")), head(feature_map))


def test_the_bias_of_the_batchnorm_stays_at_zero():
    head = PartHead(4, 2, reduced_dim=3)
    assert not head.bottleneck.bias.requires_grad
    assert not head.bottleneck.bias.any()


def test_a_part_head_is_built_from_its_keys():
    cfg = load_config(
        opts=["MODEL.BACKBONE.FEAT_DIM", "8", "PARTS.NUMBER", "2", "PARTS.AXIS", "width", "PARTS.DIM", "0"]
    )
    head = PartHead(cfg)
    assert (head.feat_dim, head.parts, head.axis, head.dim) == (8, 2, "width", 8)
    assert isinstance(head.reduction, nn.Identity)


@pytest.mark.parametrize(("axis", "parts"), [("depth", 2), ("width", 0)])
def test_parts_along_no_axis_or_fewer_than_one_are_refused(axis, parts):
    with pytest.raises(ValueError, match=f"PARTS.AXIS to be one of .* got {axis} and {parts}"):
        PartHead(4, parts, axis)
