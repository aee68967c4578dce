"""A worker that reads photographs and is killed, and a folder given for weights, end in one line."""

import os
import signal
from types import SimpleNamespace

import pytest
import torch

from fastreid_fancl import load_config
from fastreid_fancl.config.checks import check_config
from fastreid_fancl.data.loaders import feature_loader
from fastreid_fancl.engine import run
from fastreid_fancl.engine.trained_model import StrictCheckpointer


class Killed(torch.utils.data.Dataset):
    """Whose worker the system ends, as when memory runs out."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_ends_the_run_in_one_line(monkeypatch):
    monkeypatch.setattr(run, "train", lambda args: list(feature_loader(Killed(), batch_size=2, num_workers=1)))
    with pytest.raises(SystemExit, match=r"^error: process 0 lost a worker .*NUM_WORKERS.*--resume") as raised:
        run.one_process(SimpleNamespace())
    assert "\n" not in str(raised.value)


def test_other_errors_of_the_program_keep_their_traceback(monkeypatch):
    def fail(args):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(run, "train", fail)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        run.one_process(SimpleNamespace())


def test_a_folder_as_weights_is_said_to_be_one(tmp_path):
    (tmp_path / "model_final.pth").touch()
    cfg = load_config("", ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", os.fspath(tmp_path), "OUTPUT_DIR", "out"])
    check_config(cfg)
    with pytest.raises(ValueError, match=r"is a folder: name the file of weights in it \(model_final.pth\)"):
        StrictCheckpointer(torch.nn.Linear(1, 1), needed=()).load(cfg.MODEL.WEIGHTS)
