"""Results do not depend on the order of a table's rows, nor on where the data sets lie."""

import os

import numpy as np
import pytest
import torch
from conftest import write_animals
from support import oracles
from support.runs import configured

from fastreid_fancl.clustering import choose_eps, jaccard_distance
from fastreid_fancl.clustering.eps import _draws
from fastreid_fancl.data.datasets import load
from fastreid_fancl.data.keys import image_keys
from fastreid_fancl.engine.labels import by_size
from fastreid_fancl.engine.trainer import Trainer
from fastreid_fancl.individuals.grouping import group

SHUFFLES = {
    "reversed": lambda rows: rows[::-1],
    "by chance": lambda rows: [rows[n] for n in np.random.default_rng(0).permutation(len(rows))],
    "by the animal, last first": lambda rows: sorted(rows, key=lambda row: row.split(",")[1], reverse=True),
    "each second row first": lambda rows: rows[::2] + rows[1::2],
}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights as they come, of the smallest network."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "start.pth"
    torch.save({"model": Trainer.build_model(configured("cluster_contrast")).state_dict()}, path)
    return os.fspath(path)


def groups_of(root, monkeypatch, weights) -> dict[str, int]:
    """Photograph -> its group's number, as tools/group.py finds them."""
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(root))
    cfg = configured("cluster_contrast", MODEL__WEIGHTS=weights, PSEUDO_LABELS__EPS="auto", TEST__IMS_PER_BATCH=7)
    items, found = group(cfg)
    return {os.path.relpath(path, root): label for (path, *_), label in zip(items, found.labels.tolist(), strict=True)}


def test_groups_do_not_depend_on_the_order_of_rows(tmp_path, monkeypatch, start):
    write_animals(tmp_path / "ordered" / "Stripes", animals=20, images=4)
    folder = tmp_path / "ordered" / "Stripes"
    header, *rows = (folder / "metadata.csv").read_text().splitlines()
    expected = groups_of(tmp_path / "ordered", monkeypatch, start)
    assert max(expected.values()) > 1
    for name, shuffle in SHUFFLES.items():
        other = tmp_path / name / "Stripes"
        other.mkdir(parents=True)
        (other / "images").symlink_to(folder / "images")
        (other / "metadata.csv").write_text("\n".join([header, *shuffle(rows)]))
        assert groups_of(tmp_path / name, monkeypatch, start) == expected, name


def test_the_splits_of_a_data_set_do_not_depend_on_the_order_of_rows(tmp_path, monkeypatch):
    for name, shuffle in {"ordered": list, **SHUFFLES}.items():
        folder = tmp_path / name / "Stripes"
        write_animals(folder)
        header, *rows = (folder / "metadata.csv").read_text().splitlines()
        (folder / "metadata.csv").write_text("\n".join([header, *shuffle(rows)]))
        monkeypatch.setenv("FASTREID_DATASETS", os.fspath(tmp_path / name))
        found = load("Stripes")
        splits = [
            [(os.path.relpath(item[0], folder), *item[1:]) for item in split]
            for split in (found.train, found.query, found.gallery)
        ]
        if name == "ordered":
            expected = splits
        assert splits == expected, name


def test_groups_are_numbered_by_their_size_and_then_by_their_first_path():
    # The clusters 0 and 2 have two photographs each, 1 has three: c.png comes before d.png.
    labels = np.array([0, 1, 2, 1, -1, 2, 0, 1])
    paths = ["e.png", "x.png", "d.png", "y.png", "a.png", "f.png", "c.png", "z.png"]
    assert by_size(labels, paths).tolist() == [1, 0, 2, 0, -1, 2, 1, 0]
    assert by_size(np.array([-1, -1]), ["a.png", "b.png"]).tolist() == [-1, -1]
    assert by_size(np.array([], dtype=np.int64), []).tolist() == []


def test_keys_do_not_depend_on_where_the_data_sets_lie(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(tmp_path / "here"))
    here = image_keys(os.fspath(tmp_path / "here" / name) for name in ("Cats/1.png", "Cats/2.png", "Dogs/1.png"))
    monkeypatch.setenv("FASTREID_DATASETS", os.fspath(tmp_path / "there"))
    there = image_keys(os.fspath(tmp_path / "there" / name) for name in ("Cats/1.png", "Cats/2.png", "Dogs/1.png"))
    assert here.tolist() == there.tolist()
    assert len(set(here.tolist())) == 3


def test_the_draws_of_pairs_go_by_keys_and_not_by_rows():
    features, _ = oracles.hard_features(200, 32, identities=10, seed=0)
    keys, order = image_keys(f"{n}.png" for n in range(200)), np.random.default_rng(3).permutation(200)
    distance = jaccard_distance(features, 20, 6)
    shuffled = distance[order][:, order].sorted_indices()

    def pairs(matrix, kept, names):
        row, column = matrix.tocoo().coords
        return set(zip(names[row[kept]].tolist(), names[column[kept]].tolist(), strict=True))

    drawn = [pairs(distance, kept, keys) for kept in _draws(distance, 5, keys)]
    assert [pairs(shuffled, kept, keys[order]) for kept in _draws(shuffled, 5, keys[order])] == drawn
    assert len(set(map(frozenset, drawn))) == len(drawn), "each draw is another one"
    # A part of the images keeps what it kept among all.
    part = distance[:100][:, :100].tocsr()
    of_part = {(i, j) for i, j in drawn[0] if {i, j} <= set(keys[:100].tolist())}
    assert pairs(part, next(_draws(part, 5, keys[:100])), keys[:100]) == of_part


def test_keys_of_other_images_are_refused():
    distance = jaccard_distance(oracles.hard_features(20, 8, identities=2, seed=0)[0], 5, 2)
    with pytest.raises(ValueError, match="Expected 20 keys, one per image, got shape"):
        choose_eps(distance, keys=np.arange(19))
