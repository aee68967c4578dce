"""Before training: every photograph decodes, and what is asked of a data set is there."""

import json
import logging
import multiprocessing
import os

import pytest
from PIL import Image

from fastreid_fancl import progress
from fastreid_fancl.data import UNLABELLED, check
from fastreid_fancl.data.check import LOADED_SPLITS, require_identities
from fastreid_fancl.logs import log_once


class Wild:
    """As much of a fast-reid data set as the checks use."""

    def __init__(self, folder, train=3, query=1, gallery=2):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._train = [(self.photograph(f"t{n}"), "Wild_1", "Wild_x") for n in range(train)]
        self._query = [(self.photograph(f"q{n}"), 0, 0) for n in range(query)]
        self._gallery = [(self.photograph(f"g{n}"), 0, 1) for n in range(gallery)]

    train = property(lambda self: self._train)
    query = property(lambda self: self._query)
    gallery = property(lambda self: self._gallery)

    def photograph(self, name):
        Image.new("RGB", (4, 4)).save(self.folder / f"{name}.png")
        return str(self.folder / f"{name}.png")


@pytest.fixture
def wild(tmp_path):
    log_once.cache_clear()
    return Wild(tmp_path / "wild")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch):
    """The paths that are decoded, as they are."""
    seen, read = [], check.read_image
    monkeypatch.setattr(check, "read_image", lambda path: (seen.append(os.path.basename(path)), read(path))[1])
    return seen


def preflight(dataset, splits=LOADED_SPLITS, **options):
    return check.preflight([(dataset, splits)], **options)


def spoil(dataset, name, content=b""):
    (dataset.folder / f"{name}.png").write_bytes(content)


def test_good_photographs_pass_and_are_decoded_once(wild, cache, decoded):
    assert preflight(wild, workers=2, cache_dir=cache) == []
    assert sorted(decoded) == ["g0.png", "g1.png", "q0.png", "t0.png", "t1.png", "t2.png"]
    preflight(wild, cache_dir=cache)
    assert len(decoded) == 6


def test_a_changed_or_new_photograph_is_decoded_again_and_no_other(wild, cache, decoded):
    preflight(wild, ("train",), cache_dir=cache)
    decoded.clear()
    os.utime(wild.train[1][0], ns=(1, 1))
    preflight(wild, ("train", "query", "gallery"), cache_dir=cache)
    assert sorted(decoded) == ["g0.png", "g1.png", "q0.png", "t1.png"]


def test_all_bad_photographs_of_all_data_sets_are_in_one_error(wild, cache, tmp_path):
    other = Wild(tmp_path / "other")
    spoil(wild, "t1"), spoil(other, "g0", b"text")
    os.remove(wild.folder / "q0.png")
    with pytest.raises(ValueError) as caught:
        check.preflight([(wild, LOADED_SPLITS), (other, LOADED_SPLITS)], cache_dir=cache)
    message = str(caught.value)
    assert "3 photographs cannot be read" in message and "DATASETS.ON_BAD_IMAGE to skip" in message
    for part in ("t1.png: the file is empty", "q0.png: there is no such file", "g0.png: it is not an image"):
        assert part in message


def test_a_bad_photograph_is_named_until_it_is_replaced(wild, cache):
    spoil(wild, "t1")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"t1\.png"):
            preflight(wild, cache_dir=cache)
    wild.photograph("t1")
    assert preflight(wild, cache_dir=cache) == []


def test_skipping_takes_bad_photographs_out_and_logs_them_once(wild, cache, caplog):
    spoil(wild, "t1"), spoil(wild, "g0")
    bad = preflight(wild, on_bad_image="skip", cache_dir=cache)
    assert [(os.path.basename(path), problem) for path, problem in bad] == [
        ("t1.png", "the file is empty (0 bytes)"),
        ("g0.png", "the file is empty (0 bytes)"),
    ]
    assert [os.path.basename(item[0]) for item in wild.train + wild.gallery] == ["t0.png", "t2.png", "g1.png"]
    assert preflight(wild, on_bad_image="skip", cache_dir=cache) == []
    assert caplog.text.count("2 photographs cannot be read and are left out") == 1


def test_skipping_everything_is_an_error(wild, cache):
    spoil(wild, "q0")
    with pytest.raises(ValueError, match="Wild has no query photographs"):
        preflight(wild, on_bad_image="skip", cache_dir=cache)


def test_only_the_splits_asked_for_are_checked(wild, cache):
    spoil(wild, "g0")
    assert preflight(wild, ("train",), cache_dir=cache) == []
    with pytest.raises(ValueError, match=r"g0\.png"):
        check.preflight([(wild, ("train",)), (wild, ("query", "gallery"))], cache_dir=cache)


def test_an_interrupted_check_goes_on_where_it_was(wild, cache, decoded, monkeypatch):
    monkeypatch.setattr(check, "CHUNK", 1)
    read = check.read_image

    def interrupted(path):
        if len(decoded) == 2:
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(check, "read_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        preflight(wild, workers=1, cache_dir=cache)
    monkeypatch.setattr(check, "read_image", read)
    preflight(wild, workers=1, cache_dir=cache)
    assert sorted(decoded) == ["g0.png", "g1.png", "q0.png", "t0.png", "t1.png", "t2.png"]


def test_processes_that_check_at_once_decode_once(wild, cache, tmp_path, monkeypatch):
    read = check.read_image

    def noted(path):
        with open(tmp_path / "notes.txt", "a") as notes:
            notes.write(f"{path}\n")
        return read(path)

    monkeypatch.setattr(check, "read_image", noted)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=preflight, args=(wild,), kwargs={"cache_dir": cache}) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len((tmp_path / "notes.txt").read_text().splitlines()) == 6


def test_a_cache_that_cannot_be_written_or_read_is_done_without_and_said(wild, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert preflight(wild, cache_dir=tmp_path / "file" / "below") == []
    assert "photographs are checked at every start" in caplog.text
    preflight(wild, cache_dir=tmp_path)
    (stamps,) = tmp_path.glob("decoded-Wild-*.json")
    assert len(json.loads(stamps.read_text())["good"]) == 6
    stamps.write_text("{broken")
    assert preflight(wild, cache_dir=tmp_path) == [] and "all photographs are checked again" in caplog.text


def test_the_cache_lies_in_the_users_cache_folder_and_not_beside_the_photographs(wild, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    before = sorted(os.listdir(wild.folder))
    preflight(wild)
    assert len(list((tmp_path / "home" / "fastreid_fancl").glob("decoded-Wild-*.json"))) == 1
    assert sorted(os.listdir(wild.folder)) == before


def test_progress_is_logged_with_the_time_left(wild, cache, caplog, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_REPORTS", -1)
    monkeypatch.setattr(check, "CHUNK", 4)
    with caplog.at_level(logging.INFO):
        preflight(wild, cache_dir=cache)
    assert "Checking Wild: 4 of 6 photographs" in caplog.text and "Checked 6 photographs" in caplog.text


@pytest.mark.parametrize(
    ("counts", "splits", "message"),
    [
        ({"train": 0}, ("train",), r"has no train photographs \(train 0, query 1, gallery 2\)"),
        ({"query": 0, "gallery": 0}, ("query", "gallery"), "has no query and no gallery photographs"),
    ],
)
def test_an_empty_split_is_an_error_only_when_asked_for(tmp_path, cache, counts, splits, message):
    dataset = Wild(tmp_path / "sparse", **counts)
    with pytest.raises(ValueError, match=message):
        preflight(dataset, splits, cache_dir=cache)
    preflight(dataset, tuple({"train", "query", "gallery"} - set(splits) - set(counts)), cache_dir=cache)


def test_unknown_choices_are_refused(wild):
    with pytest.raises(ValueError, match="must be 'stop' or 'skip', got 'ignore'"):
        preflight(wild, on_bad_image="ignore")


def test_supervised_training_needs_every_identity(wild):
    require_identities(wild)
    wild._train[1] = (wild.train[1][0], UNLABELLED, "Wild_x")
    with pytest.raises(ValueError, match=r"1 of 3 training photographs have no identity\n.*t1\.png"):
        require_identities(wild)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs")
def test_a_fifo_among_the_photographs_is_listed_or_left_out(wild, cache):
    os.remove(wild.folder / "t1.png")
    os.mkfifo(wild.folder / "t1.png")
    with pytest.raises(ValueError, match=r"t1\.png: it is a FIFO, not a file"):
        preflight(wild, cache_dir=cache)
    assert [image.problem for image in preflight(wild, on_bad_image="skip", cache_dir=cache)] == [
        "it is a FIFO, not a file"
    ]
