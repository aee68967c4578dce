"""Settings that cannot work are named before anything is built."""

import pytest
import torch
from bag_of_tricks import stock_cfg

from fastreid_fancl.compat import check_config


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
        ({"MODEL__HEADS__POOL_LAYER": "Flatten"}, "POOL_LAYER Flatten: EmbeddingHead needs"),
        ({"MODEL__DEVICE": "gpu"}, "MODEL.DEVICE 'gpu': expected cuda or cpu"),
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
        ({"MODEL__HEADS__POOL_LAYER": "Average"}, "POOL_LAYER 'Average': expected one of Identity, .*GlobalAvgPool"),
        ({"MODEL__HEADS__CLS_LAYER": "Arc"}, "CLS_LAYER 'Arc': expected one of Linear, ArcSoftmax"),
        ({"DATALOADER__NUM_INSTANCE": 3}, "NUM_INSTANCE 3: expected a divisor of 16 images a process"),
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


def test_starting_weights_that_a_resumed_run_does_not_read_may_be_gone(tmp_path):
    cfg = stock_cfg(tmp_path, MODEL__WEIGHTS="gone.pth")
    with pytest.raises(ValueError, match="gone.pth: there is no such file"):
        check_config(cfg, resume=True)
    (tmp_path / "last_checkpoint").write_text("model_0000.pth")
    check_config(cfg, resume=True)


def test_all_wrong_settings_are_listed_at_once():
    with pytest.raises(ValueError, match="(?s)SOLVER.SCHED.*SOLVER.OPT"):
        check_config(stock_cfg(SOLVER__SCHED="x", SOLVER__OPT="y"))
