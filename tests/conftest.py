"""Fixtures that several test files share."""

import gc
import os
import shutil
import sys

# Sums depend on the number of threads, and runs are compared that tests start in several ways: one in all of them.
os.environ["OMP_NUM_THREADS"] = "1"

# isort: split
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastreid_fancl.processes import choose_backend  # before any test imports fastreid

# isort: split
from fastreid.engine import launch
from fastreid.utils import comm

from fastreid_fancl.logs import log_once

REPO = Path(__file__).resolve().parents[1]
sys.path.append(str(REPO / "benchmarks"))

from chromium import MISSING, chromium  # noqa: E402

STILL = "--force-prefers-reduced-motion"  # else clicks miss what still scrolls


# The files that take longest come first, or one worker would end with them alone.
SLOWEST = [
    "shipped_configs",
    "engine",
    "engine_resume",
    "machines",
    "compare",
    "stock_methods",
    "timm",
    "visualize",
    "individuals_discover",
    "waiting",
    "local_training",
    "benchmarks_gpu",
    "tools",
    "plan",
    "weights",
]


def pytest_collection_modifyitems(items):
    """Put the slowest files first; the Makefile's `--no-loadscope-reorder` lets xdist keep this order."""
    place = {name: number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: place.get(item.path.stem.removeprefix("test_"), len(SLOWEST)))


def pytest_runtest_setup(item):
    """Skip what is marked `cuda` where there is no GPU."""
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs CUDA")


@pytest.fixture
def golden():
    """Load a file of tests/golden: inputs and outputs of the authors' released code."""
    return lambda name: dict(np.load(REPO / "tests" / "golden" / f"{name}.npz"))


def write_animals(
    folder: Path, animals: int = 9, images: int = 6, identity=str, seed: int = 0, cameras: int = 0
) -> None:
    """Write a data set of coloured stripes: animal n has its colours, image i its brightness and noise.

    The first two thirds of the animals train; of each other animal the first image is a query, the rest gallery.
    `identity` names an animal in metadata.csv: the lie of the nonsense-identity test. With `cameras` the images of an
    animal come from one camera after the other.
    """
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows = ["path,identity,split" + ",camera" * bool(cameras)]
    for animal in range(animals):
        colours = rng.integers(40, 215, size=(4, 3))
        for number in range(images):
            stripes = np.repeat(np.repeat(colours[None], 16, axis=0), 8, axis=1)
            noisy = stripes + rng.integers(-30, 30) + rng.normal(0, 12, stripes.shape)
            name = f"images/{animal}_{number}.png"
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / name)
            split = "train" if animal < animals * 2 // 3 else "query" if number == 0 else "gallery"
            row = f"{name},{identity(animal * images + number) if split == 'train' else animal},{split}"
            rows.append(row + f",c{number % cameras}" if cameras else row)
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")


def on_two_ranks(work: Callable[[int], object], folder: Path) -> list:
    """What `work(rank)`, of a module's top level, returns in each of two gloo processes.

    They are forks of this process: a spawned one takes seconds to load PyTorch.
    """
    choose_backend("cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch.multiprocessing, "spawn", partial(torch.multiprocessing.start_processes, start_method="fork")
        )
        launch(_save, num_gpus_per_machine=2, dist_url="auto", args=(work, folder))
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def _save(work: Callable, folder: Path) -> None:
    torch.save(work(comm.get_rank()), folder / f"{comm.get_rank()}.pt")


@pytest.fixture(scope="session")
def animals(tmp_path_factory) -> Path:
    """A root of data sets with one in it, `Stripes`: 6 animals of 6 images to train on, 3 to look up."""
    root = tmp_path_factory.mktemp("datasets")
    write_animals(root / "Stripes", identity=lambda number: str(number // 6))
    return root


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    """What is remembered about checked photographs, away from the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def datasets(animals, monkeypatch) -> Iterator[Path]:
    """FASTREID_DATASETS set to `animals`."""
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(animals))
    yield animals
    gc.collect()  # a trainer is in a circle with its hooks, and holds hundreds of megabytes


@pytest.fixture(scope="session")
def finished(animals, tmp_path_factory) -> Path:
    """The folder of a finished run of one epoch on `Stripes`."""
    from support.runs import arguments  # which imports this file

    from fastreid_fancl.engine.run import command_line

    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", os.fspath(animals))
        command_line(arguments("cluster_contrast", folder, SOLVER__MAX_EPOCH=1))
    return folder


@pytest.fixture
def run(finished, datasets, tmp_path) -> Path:
    """A copy of `finished` to change."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """FASTREID_DATASETS is an empty folder, and every message counts as new."""
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    log_once.cache_clear()
    return tmp_path


@pytest.fixture
def code(tmp_path) -> Iterator[Path]:
    """A file of Python that leaves a trace where it runs, with a blank in its name."""
    path = tmp_path / "their code.py"
    path.write_text(f"open({os.fspath(tmp_path / 'it ran')!r}, 'w').close()\n")
    yield path
    sys.modules.pop(str(path), None)


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium by Selenium."""
    found = chromium(STILL)
    if found is None:
        pytest.skip(MISSING)
    yield found
    found.quit()


@pytest.fixture
def stripes(tmp_path, monkeypatch):
    """Put `Stripes` under FASTREID_DATASETS, photographed by so many cameras; 0 leaves them unknown."""

    def write(cameras: int) -> None:
        write_animals(tmp_path / "datasets/Stripes", identity=lambda number: str(number // 6), cameras=cameras)
        monkeypatch.setenv("FASTREID_DATASETS", os.fspath(tmp_path / "datasets"))

    return write
