"""Importing fast-reid, with everything there and without faiss."""

import collections
import importlib.metadata
import subprocess
import sys

import numpy as np
import pytest
from bag_of_tricks import REPO
from fastreid import __version__, engine
from fastreid.evaluation.rank import evaluate_rank
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY

from fastreid_fancl import compat

WITHOUT_FAISS = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "faiss":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
from fastreid_fancl import compat
try:
    import faiss
    raise SystemExit("faiss seems to be there")
except ModuleNotFoundError:
    pass
import torch
from fastreid.utils.compute_dist import build_dist, faiss as stand_in
features = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
try:
    stand_in.StandardGpuResources()
except ImportError as error:
    assert "install faiss-cpu" in str(error)
print(repr(build_dist(features[:5], features[5:], metric="jaccard", k1=8, k2=3).sum().item()))
"""


def test_without_faiss_fastreid_imports_and_reranks_alike_and_quietly():
    import torch
    from fastreid.utils.compute_dist import build_dist

    command = [sys.executable, "-W", "error::UserWarning", "-c", WITHOUT_FAISS]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr
    features = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    expected = build_dist(features[:5], features[5:], metric="jaccard", k1=8, k2=3).sum()
    assert float(done.stdout) == pytest.approx(float(expected), rel=1e-5)


def test_the_names_that_python_and_pytorch_removed_are_there():
    assert collections.Mapping is collections.abc.Mapping
    assert sys.modules["torch._six"].string_classes == (str, bytes)


def test_the_cuhk03_protocol_runs_whatever_numpy_calls_a_truth_value():
    # One identity a camera, nearest first: every query finds its match at rank 1, so CMC and mAP are 1.
    distance = np.array([[0.1, 0.9], [0.9, 0.1]])
    cmc, mean_precision = evaluate_rank(
        distance, np.array([1, 2]), np.array([1, 2]), np.array([0, 0]), np.array([1, 1]), use_metric_cuhk03=True
    )
    assert cmc.tolist() == [1, 1] and mean_precision == 1


def test_the_version_is_that_of_the_installed_wheel():
    assert __version__ == importlib.metadata.version("fastreid")


def test_a_second_import_changes_nothing():
    before = engine.DefaultTrainer
    importlib.reload(compat)
    assert engine.DefaultTrainer is before


@pytest.mark.parametrize("kind", [ValueError, KeyError])
def test_an_unknown_name_lists_the_known_ones_and_the_nearest(kind):
    with pytest.raises(kind, match=r"META_ARCH: .*Baseline.*; got 'Basline'\. Did you mean Baseline\?"):
        META_ARCH_REGISTRY.get("Basline")
