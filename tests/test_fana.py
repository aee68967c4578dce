import numpy as np
import pytest
import torch
from support.oracles import noise_mask as noise_mask_by_sorting
from support.runs import configured
from torch import nn

from fastreid_fancl.engine.trainer import Trainer
from fastreid_fancl.fana import FANA, activation_map, add_noise, noise_mask


def test_activation_map_is_the_channel_mean_after_relu():
    # Channels 4 and -2 at the one position: ReLU gives 4 and 0, their mean 2, everywhere after resizing.
    feature_map = torch.tensor([4.0, -2.0]).view(1, 2, 1, 1)
    assert torch.allclose(activation_map(feature_map, (3, 5)), torch.full((1, 3, 5), 2.0))


def test_activation_map_keeps_a_map_of_the_image_size():
    feature_map = torch.rand(2, 1, 4, 6)
    assert torch.allclose(activation_map(feature_map, (4, 6)), feature_map[:, 0])


@pytest.mark.parametrize("ratio", [0, 0.05, 0.1, 0.333, 0.5, 1])
def test_exactly_the_asked_area_is_noised_in_every_image(ratio):
    mask = noise_mask(torch.randn(5, 13, 17), ratio)
    assert mask.sum((1, 2)).tolist() == [round(ratio * 13 * 17)] * 5


@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("levels", [2, 5, 10_000])
def test_the_strongest_pixels_are_noised_and_ties_go_row_by_row(ratio, levels):
    activation = np.random.default_rng(levels).integers(levels, size=(3, 8, 9)).astype(np.float32)
    mask = noise_mask(torch.tensor(activation), ratio).numpy()
    for image, found in zip(activation, mask, strict=True):
        np.testing.assert_array_equal(found, noise_mask_by_sorting(image, ratio))


def test_a_flat_activation_still_gives_the_asked_area():
    assert noise_mask(torch.zeros(1, 4, 4), 0.25).flatten().tolist() == [True] * 4 + [False] * 12


@pytest.mark.parametrize("ratio", [-0.1, 1.1])
def test_an_area_outside_the_image_is_refused(ratio):
    with pytest.raises(ValueError, match="FANA.RATIO"):
        noise_mask(torch.zeros(1, 4, 4), ratio)


def test_pepper_noise_blackens_the_masked_pixels_of_a_copy():
    images = torch.full((1, 3, 2, 2), 200.0)
    mask = torch.tensor([[[True, False], [False, False]]])
    noised = add_noise(images, mask)
    assert noised[0, :, 0, 0].tolist() == [0, 0, 0]
    assert noised.sum() == 3 * 3 * 200
    assert images.sum() == 4 * 3 * 200


class Stem(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)

    def forward(self, images):
        return self.relu(self.bn1(self.conv1(images)))


@pytest.mark.parametrize("layer", ["conv1", "bn1"])
def test_fana_reads_the_named_layer_and_touches_no_statistics(layer):
    torch.manual_seed(0)
    stem, images = Stem().train(), torch.rand(2, 3, 8, 8) * 255
    twin = Stem().train()
    twin.load_state_dict(stem.state_dict())
    fana = FANA(layer, ratio=0.25)

    with fana.watch(stem, (8, 8)) as activations:
        stem(images)
    noised = fana(images, activations[0])
    convolved = twin.conv1(images)
    expected = activation_map(convolved if layer == "conv1" else twin.bn1(convolved), (8, 8))

    assert torch.allclose(activations[0], expected.detach(), atol=1e-5)
    assert stem.bn1.num_batches_tracked == 1
    assert torch.equal(noised, add_noise(images, noise_mask(activations[0], 0.25)))
    assert not stem.get_submodule(layer)._forward_hooks


def test_fana_is_deterministic_and_leaves_its_input_alone():
    images, activation = torch.rand(2, 3, 8, 8) * 255, torch.rand(2, 8, 8)
    before, fana = images.clone(), FANA("conv1", ratio=0.1)
    assert torch.equal(fana(images, activation), fana(images, activation))
    assert torch.equal(images, before)


class Tokens(nn.Module):
    def forward(self, features):
        return features.flatten(2).transpose(1, 2)


@pytest.mark.parametrize(("fmt", "last"), [("NCHW", Tokens()), ("NHWC", nn.Identity())])
def test_a_layer_that_gives_no_feature_map_is_refused(fmt, last):
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), last)
    backbone.output_fmt = fmt
    images = torch.zeros(2, 3, 8, 8)
    refused = pytest.raises(ValueError, match=r"FANA.LAYER 1 does not give a feature map .*such as 0\.")
    with refused, FANA("1", 0.1).watch(backbone, (8, 8)):
        backbone(images)
    with FANA("0", 0.1).watch(backbone, (8, 8)) as activations:
        backbone(images)
    assert len(activations) == 1


@pytest.mark.parametrize("layer", ["auto", "0"])
def test_an_encoder_without_a_convolution_is_refused(layer):
    backbone = nn.Sequential(nn.Linear(8, 4), Tokens())
    refused = pytest.raises(ValueError, match="FANCL needs an encoder with a convolution: choose another MODEL")
    with refused, FANA(layer, 0.1).watch(backbone, (8, 8)):
        backbone(torch.zeros(2, 64, 8))


def test_an_unknown_layer_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="'conv9'.*conv1, bn1, relu"), FANA("conv9", 0.1).watch(Stem(), (8, 8)):
        pass


@pytest.mark.parametrize(("layer", "cure"), [("conv9", "conv1, bn1"), ("layer1", "such as layer1.0")])
def test_a_wrong_layer_stops_a_run_before_it_begins(layer, cure):
    with pytest.raises(ValueError, match=cure):
        Trainer.build_model(configured("fancl", FANA__LAYER=layer))
