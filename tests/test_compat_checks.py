"""Settings that cannot work are named before anything is built."""

import math

import pytest
import torch
from bag_of_tricks import stock_cfg

from fastreid_fancl.config.access import value_of
from fastreid_fancl.config.checks import check_config
from fastreid_fancl.config.ranges import OF_FAST_REID, Range, out_of_range


def test_the_bag_of_tricks_is_in_order():
    check_config(stock_cfg())
    check_config(stock_cfg(), world_size=2)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"SOLVER__AMP__ENABLED": True}, "SOLVER.AMP.ENABLED True: mixed precision needs a GPU"),
        ({"MODEL__LOSSES__NAME": ("FocalLoss",)}, "Baseline knows CrossEntropyLoss, TripletLoss"),
        ({"MODEL__LOSSES__NAME": ()}, "MODEL.LOSSES.NAME"),
        (
            {"MODEL__META_ARCHITECTURE": "MGN", "MODEL__LOSSES__NAME": ("CircleLoss",)},
            "MGN knows CrossEntropyLoss, TripletLoss, ",
        ),
        ({"MODEL__META_ARCHITECTURE": "MGN"}, "MGN needs build_resnet_backbone 50x or 101x"),
        ({"MODEL__META_ARCHITECTURE": "Distiller"}, "Distiller needs a teacher"),
        ({"MODEL__META_ARCHITECTURE": "MoCo", "MODEL__QUEUE_SIZE": 40}, "a multiple of SOLVER.IMS_PER_BATCH 16"),
        ({"MODEL__HEADS__POOL_LAYER": "Flatten"}, "POOL_LAYER 'Flatten': expected one of GlobalAvgPool, "),
        ({"MODEL__HEADS__POOL_LAYER": "Identity"}, "POOL_LAYER 'Identity': expected one of GlobalAvgPool, "),
        ({"MODEL__DEVICE": "gpu"}, "MODEL.DEVICE 'gpu': expected cuda or cpu"),
        ({"MODEL__DEVICE": "mps"}, "MODEL.DEVICE 'mps': expected cuda or cpu"),
        ({"MODEL__DEVICE": "meta"}, "MODEL.DEVICE 'meta': expected cuda or cpu"),
        ({"MODEL__DEVICE": "xpu:0"}, "MODEL.DEVICE 'xpu:0': expected cuda or cpu"),
        ({"MODEL__BACKBONE__FEAT_DIM": 2048}, "FEAT_DIM 2048: build_resnet_backbone 18x has 512"),
        ({"MODEL__BACKBONE__NORM": "batch"}, "MODEL.BACKBONE.NORM 'batch': expected one of BN, syncBN"),
        ({"SOLVER__OPT": "Lamb"}, "SOLVER.OPT 'Lamb': expected one of .*Adam.*SGD"),
        ({"SOLVER__OPT": "LBFGS"}, "SOLVER.OPT 'LBFGS'"),
        ({"SOLVER__SCHED": "StepLR"}, "SOLVER.SCHED 'StepLR': expected one of MultiStepLR, CosineAnnealingLR"),
        ({"DATALOADER__SAMPLER_TRAIN": "SetReWeightSampler"}, "SAMPLER_TRAIN 'SetReWeightSampler': expected one of"),
        ({"DATALOADER__SAMPLER_TRAIN": "ImbalancedDatasetSampler"}, "SAMPLER_TRAIN 'ImbalancedDatasetSampler'"),
        ({"SOLVER__BASE_LR": 0.0}, "SOLVER.BASE_LR 0.0: expected above 0"),
        ({"SOLVER__BASE_LR": float("nan")}, "SOLVER.BASE_LR nan: expected above 0"),
        ({"SOLVER__STEPS": [40, 9]}, "SOLVER.STEPS .40, 9.: expected whole numbers of epochs from 1, each larger"),
        ({"SOLVER__STEPS": [1.5]}, "SOLVER.STEPS .1.5.: expected whole numbers"),
        ({"INPUT__SIZE_TRAIN": [32]}, "INPUT.SIZE_TRAIN .32.: expected two whole numbers from 1, .height, width."),
        ({"INPUT__SIZE_TEST": [0, 16]}, "INPUT.SIZE_TEST .0, 16.: expected two whole numbers"),
        ({"MODEL__HEADS__POOL_LAYER": "Average"}, "POOL_LAYER 'Average': expected one of GlobalAvgPool"),
        ({"MODEL__HEADS__CLS_LAYER": "Arc"}, "CLS_LAYER 'Arc': expected one of Linear, ArcSoftmax"),
        ({"DATALOADER__NUM_INSTANCE": 3}, "NUM_INSTANCE 3: expected a divisor of 16 images per process"),
        ({"DATALOADER__NUM_INSTANCE": 32}, "NUM_INSTANCE 32: expected a divisor of 16"),
        ({"SOLVER__MAX_EPOCH": 0}, "SOLVER.MAX_EPOCH 0: expected at least 1"),
        ({"MODEL__WEIGHTS": "gone.pth"}, "MODEL.WEIGHTS gone.pth: there is no such file"),
        (
            {"MODEL__BACKBONE__PRETRAIN": True, "MODEL__BACKBONE__PRETRAIN_PATH": "gone.pth"},
            "PRETRAIN_PATH gone.pth: there is no such file",
        ),
    ],
)
def test_a_setting_that_cannot_work_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        check_config(stock_cfg(**changes))


def test_a_head_of_ones_own_may_know_other_layers():
    check_config(stock_cfg(MODEL__HEADS__NAME="Mine", MODEL__HEADS__POOL_LAYER="Average"))


@pytest.mark.parametrize(
    "changes, world_size, message",
    [
        ({"MODEL__BACKBONE__NORM": "syncBN"}, 2, "MODEL.BACKBONE.NORM syncBN: it needs GPUs for several processes"),
        ({"MODEL__HEADS__NORM": "syncBN"}, 2, "MODEL.HEADS.NORM syncBN"),
        ({}, 3, "IMS_PER_BATCH 16: expected a multiple of the 3 processes"),
        ({"TEST__IMS_PER_BATCH": 1}, 2, "TEST.IMS_PER_BATCH 1: expected at least the 2 processes"),
        ({"MODEL__DEVICE": "cuda:0"}, 2, "2 processes need one GPU each"),
    ],
)
def test_settings_for_several_processes_are_checked(changes, world_size, message):
    with pytest.raises(ValueError, match=message):
        check_config(stock_cfg(**changes), world_size)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="MODEL.DEVICE cuda: PyTorch sees no CUDA device; use MODEL.DEVICE cpu"):
        check_config(stock_cfg(MODEL__DEVICE="cuda"))


def test_no_processes_are_refused():
    with pytest.raises(ValueError, match="one process or more, got 0: --num-gpus"):
        check_config(stock_cfg(), world_size=0)


@pytest.mark.parametrize("key", ["MODEL__WEIGHTS", "MODEL__BACKBONE__PRETRAIN_PATH"])
def test_starting_weights_that_a_resumed_run_does_not_read_may_be_gone(tmp_path, key):
    cfg = stock_cfg(tmp_path, MODEL__BACKBONE__PRETRAIN=True, **{key: "gone.pth"})
    with pytest.raises(ValueError, match="gone.pth: there is no such file"):
        check_config(cfg, resume=True)
    (tmp_path / "last_checkpoint").write_text("model_0000.pth")
    check_config(cfg, resume=True)


def test_all_wrong_settings_are_listed_at_once():
    with pytest.raises(ValueError, match="(?s)SOLVER.SCHED.*SOLVER.OPT"):
        check_config(stock_cfg(SOLVER__SCHED="x", SOLVER__OPT="y"))


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("INPUT.FLIP.PROB", 7.0, "between 0 and 1"),
        ("INPUT.REA.PROB", -0.1, "between 0 and 1"),
        ("INPUT.CJ.HUE", 0.7, "between 0 and 0.5"),
        ("INPUT.CJ.BRIGHTNESS", -1.0, "at least 0"),
        ("INPUT.CROP.SCALE", [1.0, 0.2], "2 numbers in rising order, above 0, at most 1"),
        ("INPUT.CROP.RATIO", ["a", 1.0], "2 numbers in rising order, above 0"),
        ("INPUT.PADDING.SIZE", -3, "at least 0"),
        ("MODEL.PIXEL_STD", [1.0, 0.0, 1.0], "3 numbers above 0"),
        ("MODEL.PIXEL_MEAN", [1.0, 2.0], "3 numbers that are finite"),
        ("SOLVER.GAMMA", -5.0, "above 0, at most 1"),
        ("SOLVER.BASE_LR", math.inf, "above 0"),
        ("SOLVER.WEIGHT_DECAY", -0.1, "at least 0"),
        ("SOLVER.MOMENTUM", 1.5, "between 0 and 1"),
        ("SOLVER.WARMUP_ITERS", -1, "at least 0"),
        ("SOLVER.CLIP_GRADIENTS.NORM_TYPE", -2.0, "above 0, or .inf"),
        ("TEST.RERANK.LAMBDA", 2.0, "between 0 and 1"),
        ("TEST.AQE.QE_K", 0, "at least 1"),
        ("DATALOADER.NUM_WORKERS", -1, "at least 0"),
        ("MODEL.LOSSES.CE.EPSILON", -0.5, "between 0 and 1, or -1 for an adaptive one"),
    ],
)
def test_a_number_out_of_its_range_is_named_with_the_range(key, value, expected):
    with pytest.raises(ValueError) as caught:
        check_config(stock_cfg(**{key.replace(".", "__"): value}))
    assert f"{key} {value}: expected {expected}" in str(caught.value).split("\n  ")


@pytest.mark.parametrize("key", OF_FAST_REID)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "many"])
def test_no_number_of_fast_reid_is_infinite_or_a_word(key, value):
    cfg, length = stock_cfg(), OF_FAST_REID[key].length
    node, _, name = key.rpartition(".")
    value_of(cfg, node)[name] = [value] * length if length else value
    assert any(problem.startswith(f"{key} ") for problem in out_of_range(cfg))


@pytest.mark.parametrize("key", [key for key in OF_FAST_REID if OF_FAST_REID[key].high == 1])
def test_the_bounds_of_a_share_are_in_it(key):
    expected = OF_FAST_REID[key]
    ends = [1.0] if expected.open_low else [0.0, 1.0]
    assert all(expected.holds([end] * expected.length if expected.length else end) for end in ends)


def test_an_infinite_norm_of_gradients_is_the_largest_one_and_allowed():
    check_config(stock_cfg(SOLVER__CLIP_GRADIENTS__NORM_TYPE=math.inf, MODEL__LOSSES__CE__EPSILON=-1))


def test_a_range_is_written_as_it_holds():
    # 0.2 is in all of them, 0 in none that is open, 2 in none up to 1.
    for low_open in (False, True):
        expected = Range(0, 1, open_low=low_open)
        assert expected.holds(0.2) and expected.holds(0) != low_open and not expected.holds(2)
        assert not expected.holds(True) and not expected.holds("0.2") and not expected.holds([0.2])
