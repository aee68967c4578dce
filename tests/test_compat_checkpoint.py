"""Checkpoints: whole, plain, safe to read, explained when they do not fit."""

import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from bag_of_tricks import stock_cfg
from fastreid.modeling import build_model
from fastreid.utils.checkpoint import Checkpointer
from torch import nn

from fastreid_fancl import files
from fastreid_fancl.files import CannotWriteError, DiskFullError


class Opens:
    """An object whose unpickling makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def saved(tmp_path):
    """A model, its checkpointer and the folder of one checkpoint, `first`."""
    model = nn.Linear(2, 3)
    checkpointer = Checkpointer(model, str(tmp_path))
    checkpointer.save("first", epoch=0)
    return model, checkpointer, tmp_path


def test_a_save_that_fails_half_way_leaves_the_checkpoint_before_it(saved, monkeypatch):
    model, checkpointer, folder = saved
    weight = model.weight.detach().clone()

    def half(data, file, *args, **kwargs):
        with open(file, "wb") as opened:
            opened.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    for name in ("first", "second"):
        with pytest.raises(KeyboardInterrupt):
            checkpointer.save(name, epoch=1)
    assert sorted(os.listdir(folder)) == ["first.pth", "last_checkpoint"]
    nn.init.zeros_(model.weight)
    assert checkpointer.resume_or_load("", resume=True)["epoch"] == 0
    assert torch.equal(model.weight, weight)


@pytest.mark.parametrize(("free", "error"), [(5 * 1024, DiskFullError), (2**30, CannotWriteError)])
def test_a_full_disk_is_named_and_leaves_the_checkpoint_before_it(saved, monkeypatch, free, error):
    def fail(data, file, *args, **kwargs):
        raise RuntimeError("unexpected pos 38144 vs 38038")  # what PyTorch says

    monkeypatch.setattr(torch, "save", fail)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    with pytest.raises(error, match=r"first\.pth.*disk is full \(5 KiB left\)|unexpected pos"):
        saved[1].save("first", epoch=1)
    monkeypatch.undo()
    assert sorted(os.listdir(saved[2])) == ["first.pth", "last_checkpoint"]
    assert saved[1].resume_or_load("", resume=True)["epoch"] == 0


def test_the_best_model_is_not_what_a_run_resumes_from(saved):
    _, checkpointer, folder = saved
    checkpointer.save("model_best")
    assert (folder / "model_best.pth").exists()
    assert (folder / "last_checkpoint").read_text() == "first.pth"


def test_what_a_killed_process_left_of_a_checkpoint_goes_with_the_next_one(saved):
    _, checkpointer, folder = saved
    (folder / "model_0007.pth.4711.tmp").write_bytes(b"half")
    checkpointer.save("second")
    assert sorted(os.listdir(folder)) == ["first.pth", "last_checkpoint", "second.pth"]


def test_numpy_numbers_are_saved_so_that_safe_loading_reads_them(saved):
    _, checkpointer, folder = saved
    checkpointer.save("metric", metric=np.float64(12.5), curve=[np.float32(1)], table={"a": np.arange(2)})
    content = torch.load(folder / "metric.pth", weights_only=True)
    assert content["metric"] == 12.5 and type(content["metric"]) is float
    assert content["curve"] == [1.0] and content["table"]["a"].tolist() == [0, 1]


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file_is_named_with_the_cure(saved, keep):
    _, checkpointer, folder = saved
    path = folder / "first.pth"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match=r"first.pth is (empty|(a )?truncated or ).* To resume from an older"):
        checkpointer.load(str(path))


@pytest.mark.parametrize("content", [b"a text", os.urandom(300), pickle.dumps({"model": 1}, protocol=2)[:-4]])
def test_a_file_of_another_kind_is_named_with_the_cure(saved, content):
    _, checkpointer, folder = saved
    (folder / "other.pth").write_bytes(content)
    with pytest.raises(ValueError, match="other.pth is (a )?truncated or (no PyTorch checkpoint|damaged pickle)"):
        checkpointer.load(str(folder / "other.pth"))


def test_loading_runs_no_code_of_the_file(saved):
    _, checkpointer, folder = saved
    torch.save({"model": {}, "trap": Opens(folder / "ran")}, folder / "trap.pth")
    with pytest.raises(ValueError, match="trap.pth holds Python objects .* If you trust its origin, convert it"):
        checkpointer.load(str(folder / "trap.pth"))
    assert not (folder / "ran").exists()


def test_a_missing_file_is_an_error_and_no_assertion(saved):
    _, checkpointer, folder = saved
    with pytest.raises(ValueError, match="gone.pth, got no file: check MODEL.WEIGHTS or last_checkpoint"):
        checkpointer.load(str(folder / "gone.pth"))
    (folder / "last_checkpoint").write_text("gone.pth")
    with pytest.raises(ValueError, match="gone.pth, got no file"):
        checkpointer.resume_or_load("", resume=True)


def test_a_bare_state_dict_loads_as_weights(tmp_path):
    source = torchvision.models.resnet18().state_dict()
    torch.save(source, tmp_path / "bare.pth")
    model = build_model(stock_cfg(MODEL__HEADS__NUM_CLASSES=3))
    Checkpointer(model).load(str(tmp_path / "bare.pth"))
    assert torch.equal(model.backbone.layer4[1].conv2.weight, source["layer4.1.conv2.weight"])


def test_weights_of_which_none_fits_are_refused(saved):
    _, checkpointer, folder = saved
    torch.save({"model": {"weight": torch.zeros(9, 9), "other": torch.zeros(1)}}, folder / "foreign.pth")
    with pytest.raises(ValueError, match="No weight of .*foreign.pth fits the model"):
        checkpointer.load(str(folder / "foreign.pth"))


def test_a_file_without_weights_is_refused(saved):
    _, checkpointer, folder = saved
    torch.save({"epoch": 3}, folder / "empty.pth")
    with pytest.raises(ValueError, match="Expected weights in .*empty.pth"):
        checkpointer.load(str(folder / "empty.pth"))


def test_only_weights_that_the_model_has_are_missed_in_the_log(tmp_path, caplog):
    Checkpointer(build_model(stock_cfg(MODEL__HEADS__NUM_CLASSES=5)), str(tmp_path)).save("five")
    for classes, missed in ((0, False), (4, True)):
        caplog.clear()
        model = build_model(stock_cfg(MODEL__HEADS__NUM_CLASSES=classes))
        with caplog.at_level("INFO"):
            Checkpointer(model).load(str(tmp_path / "five.pth"))
        assert ("heads.weight" in caplog.text) is missed
