"""Messages say the rule that fails, and what a path is relative to."""

import pickle
from types import SimpleNamespace

import pytest
from bag_of_tricks import stock_cfg
from support.photo_folders import photograph, table, wild

from fastreid_fancl import load_config
from fastreid_fancl.clustering import NoClustersError
from fastreid_fancl.config.checks import check_config
from fastreid_fancl.data.datasets import resolve
from fastreid_fancl.engine.starts import RANDOM_START, SYNTHETIC_START, start_of, warning_of_start
from fastreid_fancl.individuals.grouping import no_groups


@pytest.mark.parametrize(
    ("rows", "counts"),
    [
        # eight animals of one photograph; three of two; four of two photographs of one sequence each
        (["path,identity", *(f"{n}.png,{n}" for n in "abcdefgh")], "0 of 8 identities qualify"),
        (["path,identity", *(f"{n}.png,{i % 3}" for i, n in enumerate("abcdef"))], "3 of 3 identities qualify"),
        (["path,identity,sequence", *(f"{n}.png,{i // 2},x" for i, n in enumerate("abcdefgh"))], "0 of 4 identities"),
    ],
)
def test_identities_that_cannot_be_tested_get_the_rule_of_the_split(root, rows, counts):
    table(root, *rows, files="abcdefgh")
    with pytest.raises(ValueError, match=f"two photographs or more .* at least 4 of them: {counts}"):
        wild().show_test()


@pytest.mark.parametrize(
    "name", ["{root}/Wild", "{root}/Wild/", "{root}/Wild/a.png", "~/Wild", "./Wild", "C:\\data\\Wild"]
)
def test_a_path_for_a_data_set_gets_the_name_and_the_folder(root, monkeypatch, name):
    photograph(root / "Wild" / "a.png")
    monkeypatch.setenv("HOME", str(root))
    monkeypatch.setenv("FASTREID_DATASETS", str(root / "other"))
    with pytest.raises(ValueError, match="expected the name of a folder below FASTREID_DATASETS") as caught:
        resolve(name.format(root=root))
    message = str(caught.value)
    assert "'Wild'" in message and "Market1501" not in message
    if "root" in name or "~" in name:
        assert f"Set FASTREID_DATASETS={root} and" in message
        monkeypatch.setenv("FASTREID_DATASETS", str(root))
        assert len(resolve("Wild")().train) == 1


@pytest.mark.parametrize("key", ["MODEL__WEIGHTS", "MODEL__BACKBONE__PRETRAIN_PATH"])
def test_a_relative_path_that_is_not_there_says_relative_to_what(tmp_path, monkeypatch, key):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"there is no such file in {tmp_path}, which the path is relative to"):
        check_config(stock_cfg(MODEL__BACKBONE__PRETRAIN=True, **{key: "gone.pth"}))
    with pytest.raises(ValueError) as caught:
        check_config(stock_cfg(MODEL__BACKBONE__PRETRAIN=True, **{key: "/gone.pth"}))
    assert "relative" not in str(caught.value)
    with pytest.raises(ValueError, match=f"nowhere.yml in {tmp_path}"):
        load_config("nowhere.yml")


def test_the_start_of_a_training_is_said():
    assert start_of(stock_cfg(), 0) == "starts from random weights"
    assert start_of(stock_cfg(), 3) == "continues from its checkpoint after 3 epochs"
    assert start_of(stock_cfg(MODEL__WEIGHTS="a.pth"), 0) == "starts from MODEL.WEIGHTS a.pth"
    assert "ImageNet weights of build_resnet" in start_of(stock_cfg(MODEL__BACKBONE__PRETRAIN=True), 0)


@pytest.mark.parametrize(
    ("name", "kind"), [("tf_efficientnet_lite0", "ImageNet"), ("vit_small_patch14_dinov2.lvd142m", "pre-trained")]
)
def test_only_known_weights_are_said_to_be_imagenets(name, kind):
    cfg = load_config("Photographs/fancl", ["MODEL.BACKBONE.TIMM", name])
    assert start_of(cfg, 0) == f"starts from {kind} weights of {name}"


def test_photographs_without_groups_get_the_rule_and_no_advice_on_training():
    options = SimpleNamespace(ALGORITHM="dbscan", MIN_SAMPLES=4, K1=30)
    message = no_groups(5, "1 cluster of 5 images, at least 2 are needed", options)
    assert "1 cluster of 5 images, at least 2 are needed" in message and "MIN_SAMPLES 4" in message
    assert "learning rate" not in message and "train" not in message


def test_the_error_of_no_clusters_survives_the_way_to_other_processes():
    copy = pickle.loads(pickle.dumps(NoClustersError("why", "because")))
    assert (str(copy), copy.reason) == ("why", "because")


def test_a_start_that_never_saw_a_photograph_is_warned_of(tmp_path):
    """Random weights, and those of a run that went from nothing to drawn animals."""

    def warning(unsupervised=True, **keys):
        return warning_of_start(stock_cfg(DATASETS__NAMES=("mine",), **keys), 0, unsupervised)

    assert warning() == warning(unsupervised=False) == RANDOM_START
    assert warning(MODEL__BACKBONE__PRETRAIN=True) is None
    weights = str(tmp_path / "model_final.pth")
    assert warning(MODEL__WEIGHTS=weights) is None  # nothing is known of it
    source = stock_cfg(DATASETS__NAMES=("SyntheticSourceSmall",))
    (tmp_path / "config.yaml").write_text(source.dump())
    assert warning(MODEL__WEIGHTS=weights) == SYNTHETIC_START
    drawn = stock_cfg(DATASETS__NAMES=("SyntheticPandasSmall",), MODEL__WEIGHTS=weights)
    assert warning_of_start(drawn, 0, True) is None
    source = stock_cfg(DATASETS__NAMES=("SyntheticSourceSmall",), MODEL__BACKBONE__PRETRAIN=True)
    (tmp_path / "config.yaml").write_text(source.dump())
    assert warning(MODEL__WEIGHTS=weights) is None


@pytest.mark.parametrize("first", [{}, {"MODEL__BACKBONE__PRETRAIN": True}], ids=["random", "ImageNet"])
@pytest.mark.parametrize("key", ["MODEL.WEIGHTS", "MODEL.BACKBONE.PRETRAIN_PATH"])
def test_what_a_start_saw_is_followed_from_run_to_run(tmp_path, first, key):
    """A run on drawn animals, whose weights a second one starts from, whose weights the training starts from."""

    def starting(weights, **keys):
        pretrained = {"MODEL__BACKBONE__PRETRAIN": True} if "PATH" in key else {}
        return stock_cfg(**{key.replace(".", "__"): str(weights)}, **pretrained, **keys)

    runs = [tmp_path / name / "model_final.pth" for name in ("first", "second")]
    configs = (
        stock_cfg(DATASETS__NAMES=("SyntheticSourceSmall",), **first),
        starting(runs[0], DATASETS__NAMES=("SyntheticPandasSmall",)),
    )
    for weights, cfg in zip(runs, configs, strict=True):
        weights.parent.mkdir()
        (weights.parent / "config.yaml").write_text(cfg.dump())
    expected = None if first else SYNTHETIC_START
    assert warning_of_start(starting(runs[1], DATASETS__NAMES=("mine",)), 0, True) == expected
