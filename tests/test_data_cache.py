"""Photographs decoded once: the same pixels, never stale, within their limit."""

import logging
import os
import pickle

import numpy as np
import pytest
from PIL import Image
from support.runs import TINY, arguments, metrics, same, weights
from torchvision.transforms import Compose, RandomHorizontalFlip, Resize

from fastreid_fancl import load_config
from fastreid_fancl.data import cache
from fastreid_fancl.data.cache import GIB, common_resize, image_reader
from fastreid_fancl.data.images import UnreadableImage, read_image
from fastreid_fancl.data.transforms import train_transforms
from fastreid_fancl.engine.run import command_line
from fastreid_fancl.logs import log_once

SIZE = (6, 10)
PIXELS = Compose([Resize(SIZE, interpolation=3)])
BYTES = 3 * 3 * 6 * 10


@pytest.fixture
def photographs(tmp_path):
    """Three of noise, of different sizes and kinds; the second lies on its side."""
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / name) for name in ("colour.png", "turned.jpg", "grey.png")]
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(paths[0])
    Image.fromarray(rng.integers(0, 256, (31, 17, 3), dtype=np.uint8)).save(paths[1], exif=turned)
    Image.fromarray(rng.integers(0, 256, SIZE, dtype=np.uint8)).save(paths[2])
    return paths


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.glob("*.npy*"))


def equal(one: Image.Image, other: Image.Image) -> bool:
    return one.mode == other.mode and one.size == other.size and one.tobytes() == other.tobytes()


def test_transforms_see_the_pixels_that_decoding_anew_gives(photographs, tmp_path):
    read = image_reader(photographs, [PIXELS], 1, tmp_path / "cache")
    for path in photographs:
        assert read(path).size == (10, 6), "width and height: resized already"
        assert equal(PIXELS(read(path)), PIXELS(read_image(path)))
    again = pickle.loads(pickle.dumps(read))
    assert equal(again(photographs[1]), read(photographs[1]))
    assert len(pickle.dumps(read)) < BYTES, "a worker that is spawned maps the file too"


def test_a_second_run_decodes_nothing(photographs, tmp_path, monkeypatch):
    image_reader(photographs, [PIXELS], 1, tmp_path / "cache")
    monkeypatch.setattr(cache, "read_image", lambda path: pytest.fail(f"{path} was decoded again"))
    assert image_reader(photographs, [PIXELS], 1, tmp_path / "cache")(photographs[0])


def test_a_photograph_that_changed_is_decoded_again(photographs, tmp_path):
    before = image_reader(photographs, [PIXELS], 1, tmp_path / "cache")(photographs[0])
    Image.new("RGB", (20, 30), "red").save(photographs[0])
    after = image_reader(photographs, [PIXELS], 1, tmp_path / "cache")(photographs[0])
    assert not equal(before, after)
    assert after.getpixel((0, 0)) == (255, 0, 0)


def test_another_resizing_has_a_file_of_its_own(photographs, tmp_path):
    image_reader(photographs, [PIXELS], 1, tmp_path / "cache")
    other = Compose([Resize(SIZE, interpolation=2)])
    read = image_reader(photographs, [other], 1, tmp_path / "cache")
    assert equal(read(photographs[0]), other(read_image(photographs[0])))
    assert len(files(tmp_path / "cache")) == 2


def test_only_a_common_fixed_size_at_the_start_is_kept():
    flip = RandomHorizontalFlip()
    assert common_resize([PIXELS, Compose([Resize(SIZE, interpolation=3), flip])]) is PIXELS.transforms[0]
    assert common_resize([PIXELS, Compose([flip, Resize(SIZE, interpolation=3)])]) is None
    assert common_resize([PIXELS, Compose([Resize((6, 11), interpolation=3)])]) is None
    assert common_resize([PIXELS, Compose([Resize(SIZE, interpolation=2)])]) is None
    assert common_resize([Compose([Resize(6)])]) is None, "the width follows the photograph's"


def test_the_stock_transforms_begin_so_unless_they_augment_first():
    keys = ["INPUT.SIZE_TRAIN", "[6,10]", "INPUT.AFFINE.ENABLED", True, "INPUT.CJ.ENABLED", True]
    assert common_resize([train_transforms(load_config(opts=keys))]).size == [6, 10]
    assert common_resize([train_transforms(load_config(opts=[*keys, "INPUT.AUTOAUG.ENABLED", True]))]) is None


def test_more_than_the_limit_is_not_kept_and_less_pushes_out_what_was_used_longest_ago(photographs, tmp_path, caplog):
    folder = tmp_path / "cache"
    log_once.cache_clear()
    with caplog.at_level(logging.INFO):
        assert image_reader(photographs, [PIXELS], (BYTES - 1) / GIB, folder) is read_image
    assert "DATALOADER.CACHE_GIB" in caplog.text
    assert not folder.exists()

    room = (2 * BYTES + 400) / GIB  # two files and their headers
    names = []
    for age, interpolation in ((200, 0), (300, 2), (0, 3)):
        image_reader(photographs, [Compose([Resize(SIZE, interpolation=interpolation)])], room, folder)
        new = next(name for name in files(folder) if name not in names)
        names.append(new)
        os.utime(folder / new, (1e9 - age, 1e9 - age))
    assert files(folder) == sorted([names[0], names[2]])


def test_what_this_process_reads_is_not_pushed_out_and_what_has_no_room_beside_it_is_decoded(photographs, tmp_path):
    folder, room = tmp_path / "cache", 1.5 * (BYTES + 128) / GIB

    def kept(interpolation: int) -> bool:
        resize = Compose([Resize(SIZE, interpolation=interpolation)])
        return image_reader(photographs, [resize], room, folder) is not read_image

    read = image_reader(photographs, [PIXELS], room, folder)
    first = files(folder)
    assert not kept(2)
    assert kept(3)
    assert files(folder) == first and len(first) == 1
    del read
    assert kept(2)
    assert len(files(folder)) == 1 and files(folder) != first


def test_without_a_limit_nothing_is_written(photographs, tmp_path):
    assert image_reader(photographs, [PIXELS], 0, tmp_path / "cache") is read_image
    assert not (tmp_path / "cache").exists()


def test_an_unreadable_photograph_is_named_and_leaves_nothing_half_written(photographs, tmp_path):
    with open(photographs[2], "wb"):
        pass
    with pytest.raises(UnreadableImage, match=r"grey\.png: the file is empty"):
        image_reader(photographs, [PIXELS], 1, tmp_path / "cache")
    assert files(tmp_path / "cache") == []


def test_where_nothing_can_be_written_photographs_are_decoded_each_time(photographs, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    log_once.cache_clear()
    assert image_reader(photographs, [PIXELS], 1, tmp_path / "file") is read_image
    assert "cannot be used" in caplog.text


@pytest.mark.parametrize("method", ["fancl", "ice"])
def test_a_run_is_the_same_to_the_bit_without(datasets, tmp_path, monkeypatch, method):
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "home"))
    command_line(arguments(method, tmp_path / "with", DATALOADER__NUM_WORKERS=1, **TINY))
    assert len(files(tmp_path / "home/fastreid_fancl")) == 2, "one of the training and one of the test images"
    command_line(arguments(method, tmp_path / "without", DATALOADER__CACHE_GIB=0, **TINY))
    assert same(weights(tmp_path / "with"), weights(tmp_path / "without"))
    assert metrics(tmp_path / "with")[-1]["mAP"] == metrics(tmp_path / "without")[-1]["mAP"]


@pytest.mark.parametrize("left", [0, 100, 200])
def test_a_damaged_file_is_written_anew(photographs, tmp_path, left):
    first = image_reader(photographs, [PIXELS], 1, tmp_path / "cache")(photographs[0])
    os.truncate(next((tmp_path / "cache").glob("*.npy")), left)
    again = image_reader(photographs, [PIXELS], 1, tmp_path / "cache")(photographs[0])
    assert equal(first, again)


def test_on_a_full_disk_photographs_are_decoded_each_time(photographs, tmp_path, monkeypatch, caplog):
    log_once.cache_clear()
    monkeypatch.setattr("fastreid_fancl.files.FULL", 1 << 60)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastreid_fancl.files.os.fsync", full)
    assert image_reader(photographs, [PIXELS], 1, tmp_path / "cache") is read_image
    assert "its disk is full" in caplog.text
