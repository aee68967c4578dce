"""Photographs that are equal byte for byte are warned of where they make scores flatter."""

import logging
import os
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fastreid_fancl import load_config
from fastreid_fancl.data import duplicates
from fastreid_fancl.data.check import preflight
from fastreid_fancl.data.duplicates import copies
from fastreid_fancl.engine.trainer import check_data


def write(folder, name, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return os.fspath(folder / name)


@pytest.fixture
def said(tmp_path, caplog):
    """Warnings of `preflight` on photographs (name, seed of the pixels, pid, camid) of three splits."""

    def check(train=(), query=(), gallery=()):
        duplicates.log_once.cache_clear()
        caplog.clear()
        splits = {
            split: [(write(tmp_path, name, seed), pid, camid) for name, seed, pid, camid in rows]
            for split, rows in (("train", train), ("query", query), ("gallery", gallery))
        }
        dataset = SimpleNamespace(dataset_name="Wild", **splits)
        preflight([(dataset, ("query", "gallery")), *([(dataset, ("train",))] if train else [])])
        return [record.message for record in caplog.records if record.levelno == logging.WARNING]

    return check


def test_a_query_that_lies_in_the_gallery_is_warned_of(said, tmp_path):
    gallery = [("g0.png", 0, 0, 1), ("g1.png", 1, 1, 1), ("g2.png", 7, 0, 1)]
    (message,) = said(query=[("q0.png", 0, 0, 0), ("q1.png", 1, 1, 0), ("q2.png", 2, 0, 0)], gallery=gallery)
    assert message.startswith(
        "data set Wild: 2 pairs of photographs that are compared with each other are identical files"
    )
    assert f"{tmp_path / 'q0.png'} = {tmp_path / 'g0.png'}" in message
    assert said(query=[("q0.png", 5, 0, 0)], gallery=gallery) == []


def test_copies_that_the_test_leaves_out_are_no_matter(said):
    # Equal files of one identity and camera are dropped by the Market-1501 rule; two of the gallery never meet.
    gallery = [("g0.png", 0, 0, 0), ("g1.png", 1, 0, 1), ("g2.png", 1, 0, 1)]
    assert said(query=[("q0.png", 0, 0, 0)], gallery=gallery) == []


def test_copies_among_photographs_of_leave_one_out_are_counted_once(said):
    photographs = [("a.png", 0, 0, 0), ("b.png", 0, 0, 1), ("c.png", 3, 0, 2)]
    (message,) = said(query=photographs, gallery=photographs)
    assert "1 pairs of photographs that are compared" in message


def test_a_test_photograph_that_is_trained_on_is_warned_of(said, tmp_path):
    (message,) = said(
        train=[("t.png", 3, "Wild_x", "Wild_0")], query=[("q.png", 3, 0, 0)], gallery=[("g.png", 4, 0, 1)]
    )
    assert message.startswith(
        "data set Wild: 1 pairs of photographs, one trained on and one tested, are identical files"
    )
    assert str(tmp_path / "t.png") in message and str(tmp_path / "q.png") in message


def test_a_test_photograph_that_another_data_set_trains_on_is_warned_of(tmp_path, monkeypatch, caplog):
    rows = [f"../{os.path.basename(write(tmp_path, f'{n}.png', n))},{n % 2}" for n in range(4)]
    tables = {"All": ["path,identity", *rows], "Half": ["path,identity,split", *(f"{row},test" for row in rows)]}
    for name, lines in tables.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metadata.csv").write_text("\n".join(lines))
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    opts = ["DATASETS.NAMES", "('All',)", "DATASETS.TESTS", "('Half',)"]
    check_data(load_config("RedPanda/cluster_contrast.yml", opts))
    assert "data set Half: 4 test photographs, which another data set trains on, so scores will be too" in caplog.text


@pytest.fixture
def transductive(tmp_path, monkeypatch, caplog):
    """Warnings of a run that scores what it trains on: rows (name, seed of the pixels, identity, sequence)."""

    def check(*rows, **changes):
        folder = tmp_path / "Wild"
        folder.mkdir()
        for name, seed, *_ in rows:
            write(folder, name, seed)
        lines = [f"{name},{identity},train,{sequence}" for name, _, identity, sequence in rows]
        (folder / "metadata.csv").write_text("\n".join(["path,identity,split,sequence", *lines]))
        monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
        own = {"DATASETS.NAMES": "('Wild',)", "DATASETS.TESTS": "('Wild',)", "TEST.TRANSDUCTIVE": True, **changes}
        cfg = load_config("RedPanda/cluster_contrast.yml", [str(word) for pair in own.items() for word in pair])
        check_data(cfg)
        return [record.message for record in caplog.records if "identical files" in record.message]

    return check


def test_photographs_that_are_trained_on_and_tested_on_purpose_are_no_copies(transductive):
    assert transductive(("a.png", 0, 1, ""), ("b.png", 1, 1, ""), ("c.png", 2, 2, ""), ("d.png", 3, 2, "")) == []


@pytest.mark.parametrize("combined", [False, True])
def test_copies_within_photographs_that_are_trained_on_and_tested_are_warned_of(transductive, tmp_path, combined):
    # a = b: two names of one photograph. c = d: of one sequence, which the test leaves out. e = f: e has no identity.
    rows = [("a.png", 0, 1, "s"), ("b.png", 0, 1, "t"), ("c.png", 2, 2, "u"), ("d.png", 2, 2, "u")]
    (message,) = transductive(*rows, ("e.png", 3, "", ""), ("f.png", 3, 2, ""), **{"DATASETS.COMBINEALL": combined})
    assert message.startswith("data set Wild: 1 pairs of photographs that are compared with each other")
    assert f"{tmp_path / 'Wild/a.png'} = {tmp_path / 'Wild/b.png'}" in message


def test_only_files_of_one_size_and_one_end_are_read(tmp_path, monkeypatch):
    contents = {
        "a": b"1" * 9000,
        "b": b"1" * 9000,
        "c": b"2" + b"1" * 8999,
        "d": b"1" * 8999 + b"2",
        "e": b"",
        "f": b"3",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    paths = {os.fspath(tmp_path / name): name for name in [*contents, "missing"]}
    read, whole = [], duplicates._digest_of_file
    monkeypatch.setattr(duplicates, "_digest_of_file", lambda path: read.append(paths[path]) or whole(path))
    assert [[paths[path] for path in group] for group in copies(paths)] == [["a", "b"]]
    assert read == ["a", "b", "c"]
