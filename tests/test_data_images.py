"""Photographs of any format come out as upright 8-bit RGB, or are named in an error that says what to do."""

import io
import logging
import os
import pickle
import re
import socket
import struct

import numpy as np
import pytest
from conftest import REPO
from PIL import EpsImagePlugin, Image

from fastreid_fancl.data import images
from fastreid_fancl.data.images import UnreadableImage, read_image

RED, GREEN = (255, 0, 0), (0, 255, 0)


def pixel(path):
    image = read_image(path)
    assert image.mode == "RGB" and np.asarray(image).dtype == np.uint8
    return image.getpixel((0, 0))


def saved(tmp_path, image, name="a.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        # 4095 is white of 12 bits, 1365 a third of it: 85
        ("I;16", [0, 1365, 4095], [0, 85, 255]),
        ("I;16", [0, 341, 1023], [0, 85, 255]),
        ("I;16", [0, 5461, 16383], [0, 85, 255]),
        ("I", [0, 1365, 4095], [0, 85, 255]),
        # one more than 14 bits hold: 16384 / 257 = 63.75
        ("I;16", [0, 5397, 16384], [0, 21, 64]),
        ("I;16", [0, 21845, 65535], [0, 85, 255]),
        ("I;16", [0, 0, 0], [0, 0, 0]),
    ],
)
def test_values_of_few_bits_in_16_are_scaled_by_their_own_range(tmp_path, mode, values, expected):
    array = np.array([values], dtype=np.uint16 if mode == "I;16" else np.int32)
    path = saved(tmp_path, Image.fromarray(array), "a.tif")
    assert Image.open(path).mode == mode
    assert np.asarray(read_image(path))[0, :, 0].tolist() == expected


def test_the_range_of_few_bits_is_said_once(tmp_path, caplog):
    images.log_once.cache_clear()
    caplog.set_level(logging.INFO)
    for name in ("a.png", "b.png"):
        read_image(saved(tmp_path, Image.fromarray(np.array([[0, 4000]], dtype=np.uint16)), name))
    assert [record.message for record in caplog.records] == [
        "photographs of 16 bits that hold values of 12 bits at most: 4095 becomes white, not 65535"
    ]


@pytest.mark.parametrize(("most", "warned"), [(4095, True), (16383, True), (65535, False)])
def test_colour_of_16_bits_that_pillow_makes_nearly_black_is_warned_of(tmp_path, caplog, most, warned):
    cv2 = pytest.importorskip("cv2")  # Pillow writes no such file
    path = tmp_path / "a.png"
    assert cv2.imwrite(os.fspath(path), np.full((4, 4, 3), most, dtype=np.uint16))
    read_image(path)
    assert (f"{path}: nearly black" in caplog.text) == warned


@pytest.mark.parametrize(
    ("mode", "colour", "name", "expected"),
    [
        ("RGB", (10, 20, 30), "a.png", (10, 20, 30)),
        ("L", 77, "a.png", (77, 77, 77)),
        ("1", 1, "a.png", (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), "a.tif", RED),
        # alpha 51 is a fifth: composited on black a fifth of the colour is left
        ("RGBA", (100, 200, 50, 51), "a.png", (20, 40, 10)),
        ("LA", (100, 51), "a.png", (20, 20, 20)),
        ("RGBA", (100, 200, 50, 0), "a.png", (0, 0, 0)),
        # 65535 / 257 = 255, 25700 / 257 = 100
        ("I;16", 65535, "a.png", (255, 255, 255)),
        ("I;16", 25700, "a.tif", (100, 100, 100)),
        ("I", 25700, "a.tif", (100, 100, 100)),
        ("F", 0.2, "a.tif", (51, 51, 51)),
        ("F", 51.0, "a.tif", (51, 51, 51)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, mode, colour, name, expected):
    assert pixel(saved(tmp_path, Image.new(mode, (5, 3), colour), name)) == expected


def test_a_palette_with_transparency_is_composited_on_black(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([*RED, *GREEN] + [0] * 762)
    image.putpixel((0, 0), 0)
    path = saved(tmp_path, image, transparency=0)
    assert pixel(path) == (0, 0, 0) and read_image(path).getpixel((1, 1)) == GREEN


def test_numbers_beyond_their_range_are_stretched_and_nan_is_zero(tmp_path):
    values = np.array([[-1000.0, np.nan, 1000.0]], dtype=np.float32)
    greys = np.asarray(read_image(saved(tmp_path, Image.fromarray(values), "a.tif")))[0, :, 0]
    # NaN becomes 0, half way: 127.5, which rounds to the even 128
    assert greys.tolist() == [0, 128, 255]
    constant = Image.fromarray(np.full((2, 2), 70000, dtype=np.int32))
    assert pixel(saved(tmp_path, constant, "b.tif")) == (0, 0, 0)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientations_are_applied_once(tmp_path, orientation, suffix):
    corners = np.zeros((32, 64, 3), dtype=np.uint8)
    corners[:16, :32] = RED  # upright: red top left, green top right
    corners[:16, 32:] = GREEN
    turns = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a),  # stored turned left, shown by a turn right
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    stored = np.ascontiguousarray(turns.get(orientation, lambda a: a)(corners))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(stored), f"a.{suffix}", exif=exif)
    shown = np.asarray(read_image(path)).astype(int)
    assert shown.shape == corners.shape and np.abs(shown - corners).mean() < 5


def test_damaged_exif_does_not_cost_the_photograph(tmp_path, monkeypatch, caplog):
    path = saved(tmp_path, Image.new("RGB", (4, 4), RED))

    def damaged(self):
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", damaged)
    with caplog.at_level(logging.WARNING):
        assert [pixel(path), pixel(path)] == [RED, RED]
    assert [record.message for record in caplog.records if "EXIF" in record.message] == [
        f"{path}: its EXIF data are damaged (not a TIFF file); read without turning it"
    ]


def test_an_orientation_beside_damaged_exif_data_is_applied(tmp_path):
    orientation, maker = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0), struct.pack("<HHIf", 0x010F, 11, 1, 0.5)
    # the camera's maker is a number
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + maker + orientation + bytes(4)
    path = saved(tmp_path, Image.new("RGB", (8, 4), RED), "a.jpg", exif=exif)
    assert read_image(path).size == (4, 8)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_the_first_frame_of_an_animation_is_read(tmp_path, name):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN)]
    path = saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:], duration=100)
    assert np.abs(np.subtract(pixel(path), RED)).max() < 8


def png(size=64):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jpg", b"", r"empty \(0 bytes\); copy it again"),
        ("a.jpg", b"no image at all", "not an image, or of an unknown format; convert it to JPEG"),
        ("a.heic", b"....ftypheic", "HEIC and raw formats are not read; convert it"),
        ("a.png", png()[:2000], r"corrupt or truncated .*; copy it again"),
        ("a.png", png()[:-500] + b"\0" * 500, "corrupt or truncated"),
    ],
)
def test_a_bad_file_is_named_with_problem_and_cure(tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"cannot read the photograph .*{name}: .*{problem}"):
        read_image(tmp_path / name)


def test_a_truncated_jpeg_is_not_half_read(tmp_path):
    path = saved(tmp_path, Image.open(io.BytesIO(png(128))), "a.jpg")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UnreadableImage, match="truncated"):
        read_image(path)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"b\.jpg: there is no such file; restore it"):
        read_image(tmp_path / "b.jpg")
    with pytest.raises(ValueError, match="it is a folder"):
        read_image(tmp_path)


def test_an_image_too_large_to_decode_safely_is_refused(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("RGB", (50, 50)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="too many pixels"):
        read_image(path)


def test_the_error_survives_the_way_out_of_a_worker(tmp_path):
    with pytest.raises(UnreadableImage) as caught:
        read_image(tmp_path / "b.jpg")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value) and str(UnreadableImage("text alone")) == "text alone"
    assert caught.value.path.endswith("b.jpg") and caught.value.problem == "there is no such file"


def test_every_orientation_but_the_first_has_a_turn():
    assert sorted(images.UPRIGHT) == [2, 3, 4, 5, 6, 7, 8]


def special(path, kind):
    """Something at `path` that is not a regular file."""
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "link to a FIFO":
        os.mkfifo(f"{path}.fifo")
        os.symlink(f"{path}.fifo", path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        os.symlink(kind, path)
    return path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs")
@pytest.mark.parametrize(
    ("kind", "said"),
    [("FIFO", "FIFO"), ("link to a FIFO", "FIFO"), ("socket", "socket"), ("/dev/zero", "device")],
)
def test_what_is_no_regular_file_is_named_and_not_waited_for(tmp_path, monkeypatch, kind, said):
    monkeypatch.chdir(tmp_path)  # the path of a socket has 108 bytes at most
    with pytest.raises(UnreadableImage, match=f"it is a {said}, not a file; replace it by the photograph"):
        read_image(special("x.jpg", kind))


@pytest.mark.parametrize("suffix", ["eps", "pcx", "tga", "ico", "psd", "sgi", "icns", "dds"])
def test_only_the_formats_of_photographs_are_opened_whatever_the_name(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **options: pytest.fail("Ghostscript was started"))
    other = tmp_path / f"a.{suffix}"
    if suffix == "psd":  # Pillow reads these, and does not write them
        header = b"8BPS" + bytes([0, 1]) + bytes(6) + bytes([0, 3]) + bytes([0, 0, 0, 4] * 2) + bytes([0, 8, 0, 3])
        other.write_bytes(header + bytes(200))
    else:
        Image.new("RGB", (16, 16), RED).save(other)
    with Image.open(other) as known:
        assert known.format.lower() == suffix, "Pillow knows it, so that another reason than this rule is excluded"
    os.rename(other, tmp_path / "a.jpg")
    with pytest.raises(UnreadableImage, match="unknown format; convert it to JPEG or PNG"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp", "gif", "avif", "jp2", "ppm", "mpo"])
def test_the_formats_of_the_readme_are_opened_whatever_the_name(tmp_path, suffix):
    frames = {"save_all": True, "append_images": [Image.new("RGB", (16, 16), GREEN)]} if suffix == "mpo" else {}
    Image.new("RGB", (16, 16), RED).save(tmp_path / f"a.{suffix}", **frames)
    os.rename(tmp_path / f"a.{suffix}", tmp_path / "a.dat")
    assert np.abs(np.subtract(pixel(tmp_path / "a.dat"), RED)).max() < 8


def test_one_place_opens_photographs():
    opens = re.compile(r"Image\.open\(|\bimread\(")
    users = [path.name for path in (REPO / "fastreid_fancl").rglob("*.py") if opens.search(path.read_text())]
    assert users == ["images.py"]
