import os
import random

import numpy as np
import pytest
import torch
from conftest import REPO
from fastreid.data.transforms import ToTensor, build_transforms
from PIL import Image
from torchvision.transforms import RandomApply, Resize

from fastreid_fancl import load_config
from fastreid_fancl.data.transforms import GaussianBlur, train_transforms
from fastreid_fancl.engine.trainer import Trainer


def transforms(**blur):
    return train_transforms(load_config(opts=[str(word) for key in blur for word in (f"INPUT.BLUR.{key}", blur[key])]))


def edge():
    """Black on the left, white on the right."""
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:, 8:] = 255
    return Image.fromarray(pixels)


def greys(image):
    return len(np.unique(np.asarray(image)))


def test_without_blur_the_steps_are_fast_reids():
    stock = build_transforms(load_config(), is_train=True)
    assert [type(step) for step in transforms().transforms] == [type(step) for step in stock.transforms]


def test_blur_comes_after_the_resizing_and_before_the_tensor():
    steps = transforms(ENABLED=True).transforms
    place = next(n for n, step in enumerate(steps) if isinstance(step, RandomApply))
    assert isinstance(steps[place].transforms[0], GaussianBlur)
    assert any(isinstance(step, Resize) for step in steps[:place])
    assert isinstance(steps[place + 1], ToTensor)


@pytest.mark.parametrize(("prob", "blurred"), [(0.0, 0), (1.0, 20), (0.5, 10)])
def test_blur_happens_with_its_probability(prob, blurred):
    torch.manual_seed(0)
    step = next(s for s in transforms(ENABLED=True, PROB=prob, SIGMA="[1.0,1.0]").transforms if type(s) is RandomApply)
    assert sum(greys(step(edge())) > 2 for _ in range(20)) == pytest.approx(blurred, abs=5 if prob == 0.5 else 0)


def test_blur_softens_an_edge_the_more_the_larger_sigma_and_leaves_flat_areas():
    assert greys(edge()) == 2
    assert 2 < greys(GaussianBlur((0.5, 0.5))(edge())) < greys(GaussianBlur((2.0, 2.0))(edge()))
    flat = Image.new("RGB", (8, 8), (10, 200, 30))
    assert np.array_equal(GaussianBlur((2.0, 2.0))(flat), flat)


def test_the_deviation_is_drawn_by_the_seed():
    def draw(seed):
        random.seed(seed)
        return np.asarray(GaussianBlur((0.1, 2.0))(edge()))

    assert np.array_equal(draw(0), draw(0))
    assert len({draw(seed).tobytes() for seed in range(6)}) > 1


@pytest.mark.parametrize(("key", "value"), [("PROB", 1.5), ("SIGMA", "[2.0,0.1]"), ("SIGMA", "[1.0]")])
def test_wrong_blur_settings_are_named(key, value):
    with pytest.raises(ValueError, match=rf"INPUT\.BLUR\.{key}"):
        load_config(opts=[f"INPUT.BLUR.{key}", str(value)])


def test_ice_trains_on_two_blurred_and_erased_views_and_a_plain_one(datasets):
    cfg = load_config(os.fspath(REPO / "configs/RedPanda/ice.yml"), ["DATASETS.NAMES", "('Stripes',)"])
    dataset = Trainer.build_train_loader(cfg).dataset
    steps = {name: str(view) for name, view in {"images": dataset.transform, **dataset.views}.items()}
    assert steps.keys() == {"images", "images_teacher", "images_weak"}
    for name, described in steps.items():
        strong = name != "images_weak"
        assert ("GaussianBlur" in described, "RandomErasing(p=0.6" in described) == (strong, strong)
    # random erasing fills with the mean of the pixels in [0, 255], since images are normalised on the device
    assert list(dataset.transform.transforms[-1].value) == cfg.MODEL.PIXEL_MEAN
