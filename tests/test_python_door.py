"""`fastreid_fancl.load`: features of photographs from Python, equal to those that the tools compare."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from fastreid.utils.checkpoint import Checkpointer
from PIL import Image
from support.pages import block
from support.runs import METHODS, UNSUPERVISED, configured

import fastreid_fancl
from fastreid_fancl.engine.trainer import Trainer
from fastreid_fancl.individuals.grouping import encode


@pytest.fixture
def run(datasets, tmp_path):
    """The folder of a run of a method: its configuration, and a checkpoint of weights that nothing has trained."""

    def write(method: str) -> Path:
        (tmp_path / method).mkdir()
        cfg = configured(method, tmp_path / method, MODEL__HEADS__NUM_CLASSES=6)
        torch.manual_seed(0)
        Checkpointer(Trainer.build_model(cfg), cfg.OUTPUT_DIR).save("model_final", epoch=1)
        (tmp_path / method / "config.yaml").write_text(cfg.dump())
        return tmp_path / method

    return write


def photographs(root: Path) -> list[str]:
    return sorted(os.fspath(path) for path in (root / "Stripes/images").iterdir())


@pytest.mark.parametrize("method", UNSUPERVISED)
def test_features_are_those_that_groups_are_made_of_to_the_bit(run, method):
    folder = run(method)
    model = fastreid_fancl.load(folder, device="cpu")
    images, _, grouped = encode(model.cfg)
    features = model.features([path for path, *_ in images.img_items])
    assert features.dtype == np.float32
    assert np.array_equal(features, grouped.numpy())


def test_the_example_of_the_docs_compares_photographs(run, datasets, tmp_path, monkeypatch):
    (tmp_path / "logs").mkdir()
    run("fancl").rename(tmp_path / "logs/my_lynxes")
    for name, path in zip("abc", photographs(datasets), strict=False):
        Image.open(path).save(tmp_path / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, np.ndarray] = {}
    exec(block("python.md", "python"), names)
    assert names["similarity"].shape == (3, 3)
    assert np.diag(names["similarity"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_features_have_unit_length_whatever_the_method(run, datasets, method):
    features = fastreid_fancl.load(run(method), device="cpu").features(photographs(datasets)[:3])
    assert len(features) == 3
    assert np.linalg.norm(features, axis=1) == pytest.approx(1, abs=1e-5)


def test_paths_images_and_arrays_of_one_photograph_have_the_same_features(run, datasets):
    model = fastreid_fancl.load(run("spcl"), device="cpu")
    path, other = photographs(datasets)[:2]
    image = Image.open(path)
    each = [path, Path(path), image, np.asarray(image.convert("RGB")), other]
    features = model.features(each)
    assert all(np.array_equal(features[0], row) for row in features[:4])
    assert not np.allclose(features[0], features[4])
    for one in each[:4]:
        assert model.features(one) == pytest.approx(features[:1], abs=1e-5)
    in_parts = model.features(iter(each), batch_size=2, workers=1)
    assert in_parts == pytest.approx(features, abs=1e-5)


def test_an_image_that_is_not_loaded_yet_is_turned_once(run, datasets, tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn
    Image.open(photographs(datasets)[0]).convert("RGB").save(tmp_path / "a.tif", exif=exif)
    model = fastreid_fancl.load(run("spcl"), device="cpu")
    assert np.array_equal(*model.features([tmp_path / "a.tif", Image.open(tmp_path / "a.tif")]))
    Image.open(photographs(datasets)[0]).convert("RGB").save(tmp_path / "whole.jpg")
    (tmp_path / "torn.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-30])
    with pytest.raises(ValueError, match="Expected photograph 0 as an image that can be decoded"):
        model.features(Image.open(tmp_path / "torn.jpg"))


def test_a_run_without_a_checkpoint_has_no_features(datasets, tmp_path):
    (tmp_path / "config.yaml").write_text(configured("spcl", tmp_path, MODEL__BACKBONE__PRETRAIN=True).dump())
    with pytest.raises(ValueError, match="There are no trained weights"):
        fastreid_fancl.load(tmp_path, device="cpu")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_cannot_be_read_is_named(run, datasets, tmp_path, workers):
    (tmp_path / "torn.png").write_bytes(Path(photographs(datasets)[0]).read_bytes()[:100])
    model = fastreid_fancl.load(run("spcl"), device="cpu")
    with pytest.raises(ValueError, match=r"torn\.png: corrupt or truncated"):
        model.features([photographs(datasets)[0], tmp_path / "torn.png"], workers=workers)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "at least one photograph, got none"),
        ([np.zeros((4, 4), np.uint8)], r"photograph 0 as .*got ndarray of shape \(4, 4\) and type uint8"),
        ([np.zeros((4, 4, 3))], r"photograph 0 as .*type float64"),
        ([3], r"photograph 0 as .*got int"),
    ],
)
def test_what_is_no_photograph_is_refused(run, wrong, message):
    with pytest.raises(ValueError, match=message):
        fastreid_fancl.load(run("spcl"), device="cpu").features(wrong)


def test_a_configuration_gives_its_weights_and_needs_some(run, datasets, tmp_path):
    folder = run("spcl")
    cfg = configured("spcl", tmp_path, MODEL__WEIGHTS=folder / "model_final.pth")
    (tmp_path / "mine.yml").write_text(cfg.dump())
    some = photographs(datasets)[:2]
    found = fastreid_fancl.load(tmp_path / "mine.yml", device="cpu").features(some)
    assert np.array_equal(found, fastreid_fancl.load(folder, device="cpu").features(some))
    (tmp_path / "none.yml").write_text(configured("spcl", tmp_path).dump())
    with pytest.raises(ValueError, match=r"give MODEL\.WEIGHTS"):
        fastreid_fancl.load(tmp_path / "none.yml", device="cpu")
    with pytest.raises(ValueError, match=r"the nearest that are shipped: .*RedPanda/fancl"):
        fastreid_fancl.load("RedPanda/fancle")
