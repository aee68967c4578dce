"""Every shipped configuration trains from its shipped start, two iterations on tiny images."""

import gc
import hashlib
import logging
import math
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from conftest import REPO, write_animals
from fastreid.config import CfgNode
from fastreid.modeling import build_model
from fastreid.utils.checkpoint import Checkpointer
from torch import nn

from fastreid_fancl import load_config, weights
from fastreid_fancl.backbones.timm import LITE0
from fastreid_fancl.engine.trainer import Trainer, is_unsupervised

PARTS = ("studies", "systems")
CONFIGS = sorted(
    path for path in (REPO / "configs").glob("*/*.yml") if path.parent.name not in PARTS and "Base" not in path.name
)
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.PRECISION": "float32",
    "INPUT.SIZE_TRAIN": "[16,32]",
    "INPUT.SIZE_TEST": "[16,32]",
    "INPUT.PADDING.SIZE": 2,
    "DATASETS.NAMES": "('Stripes',)",
    "DATASETS.TESTS": "()",
    "DATALOADER.NUM_WORKERS": 0,
    "DATALOADER.NUM_INSTANCE": 2,
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.MAX_EPOCH": 1,
    "SOLVER.ITERS_PER_EPOCH": 2,
    "SOLVER.STEPS": "[]",
    "SOLVER.FREEZE_ITERS": 0,
    "TEST.IMS_PER_BATCH": 36,
}
HALVED_FIVE_TIMES = {"INPUT.SIZE_TRAIN": "[32,64]", "INPUT.SIZE_TEST": "[32,64]"}  # a ResNet halves an image four times
CLUSTERS = {"PSEUDO_LABELS.K1": 6, "PSEUDO_LABELS.K2": 2, "PSEUDO_LABELS.EPS": 0.5}
# What a folder of configurations needs besides, by its name. Four groups of BatchNorm need two images each.
OF_FOLDER = {name: {"SOLVER.IMS_PER_BATCH": 8} for name in ("Market1501", "MSMT17", "VeRi")}


def configured(path: Path, **changes):
    """A shipped configuration, made small."""
    shipped = load_config(os.fspath(path))
    keys = {**SMALL, **(CLUSTERS if is_unsupervised(shipped) else {}), **OF_FOLDER.get(path.parent.name, {})}
    if "resnet" not in shipped.MODEL.BACKBONE.NAME:
        keys |= HALVED_FIVE_TIMES
    keys |= changes
    return load_config(os.fspath(path), [str(word) for pair in keys.items() for word in pair])


def published(backbone: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a plain network as torchvision publishes them: with a classifier, DenseNet's names of old."""
    state = {re.sub(r"(denselayer\d+\.(norm|conv))([12])", r"\1.\3", k): v for k, v in backbone.state_dict().items()}
    classifier = "classifier" if "features.conv0.weight" in state else "fc"
    return {**state, f"{classifier}.weight": torch.zeros(1000, 8), f"{classifier}.bias": torch.zeros(1000)}


def plain_config(cfg) -> CfgNode:
    """The configuration of a supervised model of the same network, without what the configuration adds to it."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.HEADS.NUM_CLASSES = 5
    cfg.MODEL.BACKBONE.NAME = cfg.MODEL.BACKBONE.NAME.replace("waveblock_", "")
    if not cfg.MODEL.WEIGHTS.endswith("pcb/model_final.pth"):
        cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.HEADS.NAME = "Baseline", "EmbeddingHead"
        cfg.MODEL.HEADS.WITH_BNNECK = True
    cfg.PARTS.REFINED = False
    return cfg


def make_start(path: Path, folder: Path) -> tuple[dict, Path | None]:
    """Write the file that a configuration starts from, as its user has it: (settings that name it, the file).

    Configurations that start from the same network share one file of the folder.
    """
    shipped = load_config(os.fspath(path))
    packaged = shipped.MODEL.BACKBONE.TIMM == LITE0 and not shipped.MODEL.WEIGHTS  # its weights are installed
    if packaged or not (shipped.MODEL.WEIGHTS or shipped.MODEL.BACKBONE.PRETRAIN):
        return {}, None
    cfg = plain_config(configured(path, **{"MODEL.BACKBONE.PRETRAIN": False}))
    name = hashlib.sha256(f"{bool(shipped.MODEL.WEIGHTS)} {cfg.MODEL} {cfg.PARTS}".encode()).hexdigest()
    file = folder / name / ("model_final.pth" if shipped.MODEL.WEIGHTS else "net.pth")
    if not file.exists():
        file.parent.mkdir()
        if shipped.MODEL.WEIGHTS:
            Checkpointer(build_model(cfg), os.fspath(file.parent)).save(file.stem, epoch=2)
        else:
            torch.save(published(build_model(cfg).backbone), file)
    return {"MODEL.WEIGHTS" if shipped.MODEL.WEIGHTS else "MODEL.BACKBONE.PRETRAIN_PATH": file}, file


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    """A folder for the files that configurations start from."""
    folder = tmp_path_factory.mktemp("starts")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def stripes(tmp_path, monkeypatch):
    """FASTREID_DATASETS with `Stripes` of 6 training animals."""
    write_animals(tmp_path / "datasets/Stripes", images=4, identity=lambda number: str(number // 4))
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(tmp_path / "datasets"))
    (tmp_path / "run").mkdir()
    yield
    gc.collect()  # a trainer is in a circle with its hooks, and holds hundreds of megabytes


def backbone_weights(file: Path) -> dict[str, torch.Tensor]:
    """A file's filters of the backbone, under the backbone's names."""
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
    state = {old.sub(r"\1\2", key): value for key, value in weights.read(file).items() if value.dim() == 4}
    prefix = "backbone." if any(key.startswith("backbone.") for key in state) else ""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_shipped_configuration_trains_from_its_shipped_start(path, stripes, starts, tmp_path, monkeypatch):
    torch.manual_seed(1)
    named, file = make_start(path, starts)
    cfg = configured(path, OUTPUT_DIR=tmp_path / "run", **named)
    torch.manual_seed(0)
    trainer = Trainer(cfg)
    trainer.resume_or_load(False)
    state = trainer.model.state_dict()
    if file:
        started = backbone_weights(file)
        assert len(started) > 15
        assert all(torch.equal(value, state[f"backbone.{key}"]) for key, value in started.items())
    before = {key: value.clone() for key, value in state.items()}

    monkeypatch.setattr(Checkpointer, "save", lambda *args, **kwargs: None)  # hundreds of megabytes that nobody reads
    trainer.train()
    losses = trainer.storage.latest()["total_loss"]
    assert math.isfinite(losses[0] if isinstance(losses, tuple) else losses)
    assert trainer.iter == 2
    after = trainer.model.state_dict()
    moved = [key for key, value in before.items() if not torch.equal(value, after[key])]
    assert len(moved) > 20


def test_attention_that_a_backbone_adds_starts_fresh_and_is_named(tmp_path, caplog):
    path = REPO / "configs/SyntheticSmall/jcl.yml"
    named, _ = make_start(path, tmp_path)
    with caplog.at_level(logging.INFO):
        Checkpointer(build_model(configured(path))).load(os.fspath(named["MODEL.WEIGHTS"]))
    assert "start fresh, as it asks: backbone.layer2.2., backbone.layer3.2." in caplog.text
