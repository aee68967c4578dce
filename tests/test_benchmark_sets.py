"""configs/Market1501, MSMT17 and VeRi on tiny folders that are laid out as those data sets are."""

import glob
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import REPO
from PIL import Image

from fastreid_fancl import load_config
from fastreid_fancl.config.checks import check_config
from fastreid_fancl.data import datasets
from fastreid_fancl.data.datasets import load
from fastreid_fancl.engine.evaluation import ProtocolEvaluator, protocol
from fastreid_fancl.engine.run import command_line

CONFIGS = REPO / "configs"
FOLDERS = ("Market1501", "MSMT17", "VeRi")
SYSTEMS = sorted(path.stem for path in (CONFIGS / "RedPanda").glob("*.yml") if path.stem != "Base")
# (identity, camera from 1) of each photograph. Identity 6 is in the gallery by the camera of its query only.
TRAIN = [(identity, camera) for identity in (0, 1, 2, 3) for camera in (1, 2, 2, 3)]
QUERY = [(4, 1), (5, 2), (6, 3)]
GALLERY = [(4, 2), (4, 3), (5, 1), (5, 3), (6, 3), (6, 3)]
SPLITS = {"train": TRAIN, "query": QUERY, "gallery": GALLERY}


def photograph(path: Path, identity: int) -> None:
    """An identity is a colour, a photograph its noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(os.fspath(path.name).encode()))
    colour = np.random.default_rng(identity).integers(40, 215, 3)
    pixels = colour + rng.normal(0, 15, (32, 16, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def write_market1501(root: Path) -> None:
    """Names as 0002_c1s1_000451_03.jpg; the gallery has background (0000) and junk (-1), too."""
    folders = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    for split, folder in folders.items():
        for frame, (identity, camera) in enumerate(SPLITS[split]):
            name = f"{identity + 1:04d}_c{camera}s1_{frame:06d}_03.jpg"
            photograph(root / "Market-1501-v15.09.15" / folder / name, identity)
    for name in ("0000_c1s1_000151_01.jpg", "-1_c1s1_000401_03.jpg"):
        photograph(root / "Market-1501-v15.09.15/bounding_box_test" / name, 99)


def write_msmt17(root: Path, version: str = "MSMT17_V1", train: str = "train", test: str = "test") -> None:
    """Names as 0000/0000_000_01_0303morning_0008_0.jpg in list files; identities begin at 0 in train and in test."""
    for split, photographs in {**SPLITS, "val": TRAIN[:2]}.items():
        folder, first = (train, 0) if split in ("train", "val") else (test, 4)
        lines = []
        for frame, (identity, camera) in enumerate(photographs):
            number = identity - first
            name = f"{number:04d}/{number:04d}_{frame:03d}_{camera:02d}_0303morning_{len(split):04d}_0.jpg"
            photograph(root / version / folder / name, identity)
            lines.append(f"{name} {number}\n")
        (root / version / f"list_{split}.txt").write_text("".join(lines))


def write_veri(root: Path) -> None:
    """Names as 0001_c001_00016450_0.jpg, under `veri`."""
    for split, folder in {"train": "image_train", "query": "image_query", "gallery": "image_test"}.items():
        for frame, (identity, camera) in enumerate(SPLITS[split]):
            photograph(root / "veri" / folder / f"{identity + 1:04d}_c{camera:03d}_{frame:08d}_0.jpg", identity)


WRITERS = {"Market1501": write_market1501, "MSMT17": write_msmt17, "VeRi": write_veri}


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(tmp_path / "datasets"))
    return tmp_path / "datasets"


def configured(folder: str, system: str, *opts):
    return load_config(os.fspath(CONFIGS / folder / f"{system}.yml"), ["MODEL.DEVICE", "cpu", *opts])


def train(folder: str, system: str, output: Path, *flags: str) -> None:
    """Two iterations of `train_net.py` with a ResNet-18 on 32 x 16 pixels."""
    keys = {
        "MODEL.DEVICE": "cpu", "MODEL.BACKBONE.DEPTH": "18x", "MODEL.BACKBONE.FEAT_DIM": 512,
        "MODEL.BACKBONE.PRETRAIN": False, "INPUT.SIZE_TRAIN": "[32, 16]", "INPUT.SIZE_TEST": "[32, 16]",
        "SOLVER.MAX_EPOCH": 1, "SOLVER.ITERS_PER_EPOCH": 2, "SOLVER.IMS_PER_BATCH": 8, "DATALOADER.NUM_INSTANCE": 4,
        "DATALOADER.NUM_WORKERS": 0, "PSEUDO_LABELS.K1": 4, "PSEUDO_LABELS.K2": 2, "PSEUDO_LABELS.MIN_SAMPLES": 2,
        "PSEUDO_LABELS.EPS": 0.5, "TEST.EVAL_PERIOD": 1, "OUTPUT_DIR": output,
    }  # fmt: skip
    opts = [str(word) for pair in keys.items() for word in pair]
    command_line(["--config-file", os.fspath(CONFIGS / folder / f"{system}.yml"), *flags, *opts])


def by_number(items) -> list[tuple[int, int]]:
    """(pid, camid) of query or gallery items, sorted."""
    return sorted((pid, camid) for _, pid, camid in items)


# test identities as fast-reid numbers them, less those above: Market1501 and VeRi keep the names', which begin at 1;
# MSMT17 adds its 4 training identities to the lists', which begin at 0 again, so 4 is 4
@pytest.mark.parametrize(("folder", "shift"), [("Market1501", 1), ("MSMT17", 0), ("VeRi", 1)])
def test_identities_and_cameras_are_read_from_the_layout(root, folder, shift):
    WRITERS[folder](root)
    data = load(folder)
    prefix = {"Market1501": "market1501", "MSMT17": "msmt17", "VeRi": "veri"}[folder]
    named = sorted((f"{prefix}_{identity + shift}", f"{prefix}_{camera - 1}") for identity, camera in TRAIN)
    assert sorted((pid, camid) for _, pid, camid in data.train) == named
    assert by_number(data.query) == sorted((identity + shift, camera - 1) for identity, camera in QUERY)
    background = [(0, 0)] if folder == "Market1501" else []
    assert by_number(data.gallery) == sorted(
        background + [(identity + shift, camera - 1) for identity, camera in GALLERY]
    )


def test_msmt17_is_also_read_in_its_second_version(root):
    write_msmt17(root, "MSMT17_V2", "mask_train_v2", "mask_test_v2")
    assert (len(load("MSMT17").train), len(load("MSMT17").query), len(load("MSMT17").gallery)) == (16, 3, 6)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_set_that_is_not_there_is_said_with_the_folder(root, folder):
    root.mkdir()
    with pytest.raises(ValueError, match=f"{folder} is not below {root}.*set FASTREID_DATASETS"):
        load(folder)


@pytest.mark.parametrize("folder", ["Market1501", "VeRi"])
def test_the_order_of_the_files_on_disk_changes_nothing(root, folder, monkeypatch):
    WRITERS[folder](root)
    expected = load(folder).train
    datasets._load.cache_clear()
    stock = glob.glob
    monkeypatch.setattr(glob, "glob", lambda pattern: sorted(stock(pattern), reverse=True))
    assert load(folder).train == expected
    assert [path for path, *_ in expected] == sorted(path for path, *_ in expected)


@pytest.mark.parametrize(
    ("folder", "system"),
    [
        *((folder, system) for folder in FOLDERS for system in ("cluster_contrast", "resnet50")),
        *(("Market1501", system) for system in ("ice", "jcl", "pplr")),  # each reads cameras in its own way
    ],
)
def test_a_system_trains_and_is_evaluated_across_cameras(root, tmp_path, folder, system):
    WRITERS[folder](root)
    train(folder, system, tmp_path / "run")
    last = json.loads((tmp_path / "run/metrics.json").read_text().splitlines()[-1])
    assert last["iteration"] == 1
    assert 0 < last["mAP"] <= 100 and 0 <= last["Rank-1"] <= 100
    # 6 is matched by its own camera only; 4 and 5 by others
    assert "1 of 3 queries have no match in the gallery" in (tmp_path / "run/log.txt").read_text()


def test_the_background_of_market1501_is_no_animal_of_the_groups(root, tmp_path):
    """A detector's mistake that looks like identity 5 joins its group, and costs no score."""
    write_market1501(root)
    keys = {"K1": 4, "K2": 2, "MIN_SAMPLES": 2, "EPS": 0.5}
    opts = [str(word) for key, value in keys.items() for word in (f"PSEUDO_LABELS.{key}", value)]
    cfg = configured("Market1501", "resnet50", *opts)
    test = protocol(cfg, "Market1501")
    evaluator = ProtocolEvaluator(cfg, test, os.fspath(tmp_path / "queries.csv"))
    pids, camids = (torch.tensor([item[column] for item in test.photographs]) for column in (1, 2))
    assert sorted(pids.tolist()) == [0, *3 * [5], *3 * [6], *3 * [7]]
    features = F.one_hot(pids.clamp(min=5)).float() + torch.arange(10)[:, None] / 1000
    evaluator.process({"targets": pids, "camids": camids}, features)
    scores = evaluator.evaluate()
    assert (scores["animals"], scores["groups"], scores["ungrouped"]) == (3, 3, 0)
    assert scores["ARI"] == scores["Purity"] == 1


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_settings_of_every_system_suit_one_process_and_four(folder, system):
    cfg = configured(folder, system, "MODEL.WEIGHTS", "")
    for processes in (1, 4):
        check_config(cfg, processes)
    assert cfg.SOLVER.IMS_PER_BATCH % cfg.MODEL.BATCHNORM_GROUPS == 0
    assert cfg.DATASETS.NAMES == cfg.DATASETS.TESTS == (folder,)
    assert f"logs/{folder}/{system}" == cfg.OUTPUT_DIR
    assert cfg.SOLVER.MAX_EPOCH % cfg.TEST.EVAL_PERIOD == cfg.SOLVER.MAX_EPOCH % cfg.SOLVER.CHECKPOINT_PERIOD == 0


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_has_every_system(folder):
    found = sorted(path.stem for path in (CONFIGS / folder).glob("*.yml"))
    assert found == sorted(["Base", "Base-Supervised", "Base-USL", *SYSTEMS])


@pytest.mark.parametrize(
    ("folder", "system", "size", "batch", "instances", "iterations", "eps"),
    [
        ("Market1501", "cluster_contrast", [256, 128], 256, 16, 200, 0.6),
        ("MSMT17", "cluster_contrast", [256, 128], 256, 16, 400, 0.6),
        ("VeRi", "cluster_contrast", [224, 224], 256, 16, 400, 0.6),
        ("Market1501", "spcl", [256, 128], 64, 4, 400, 0.6),
        ("MSMT17", "spcl", [256, 128], 64, 4, 800, 0.6),
        ("VeRi", "spcl", [224, 224], 64, 4, 800, 0.6),
        ("Market1501", "ice", [256, 128], 32, 4, 400, 0.55),
        ("MSMT17", "ice", [256, 128], 32, 4, 400, 0.55),
        ("Market1501", "pplr", [384, 128], 64, 4, 400, 0.4),
        ("MSMT17", "pplr", [384, 128], 64, 4, 400, 0.6),
        ("VeRi", "pplr", [256, 256], 64, 8, 400, 0.7),
    ],
)
def test_settings_are_those_of_the_released_commands(folder, system, size, batch, instances, iterations, eps):
    cfg = configured(folder, system)
    assert cfg.INPUT.SIZE_TRAIN == cfg.INPUT.SIZE_TEST == size
    assert (batch, instances) == (cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE)
    assert (iterations, eps) == (cfg.SOLVER.ITERS_PER_EPOCH, cfg.PSEUDO_LABELS.EPS)
    assert (cfg.PSEUDO_LABELS.K1, cfg.PSEUDO_LABELS.K2, cfg.PSEUDO_LABELS.MIN_SAMPLES) == (30, 6, 4)


# training images of each set, as fast-reid reads it; a pass is a 64th of them, rounded down
@pytest.mark.parametrize(("folder", "images"), [("Market1501", 12936), ("MSMT17", 30248), ("VeRi", 37778)])
def test_refined_part_pooling_follows_pcb_and_frees_its_layers_after_five_passes(folder, images):
    pcb, refined = configured(folder, "pcb"), configured(folder, "pcb_rpp")
    assert f"{pcb.OUTPUT_DIR}/model_final.pth" == refined.MODEL.WEIGHTS
    assert 5 * (images // 64) == refined.SOLVER.FREEZE_ITERS
