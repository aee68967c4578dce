"""Read a photograph of any supported format as 8-bit RGB."""

import functools
import logging
import os
import stat
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from ..errors import UserError
from ..logs import log_once

logger = logging.getLogger(__name__)

RAW_SUFFIXES = (".heic", ".heif", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf")
# Increase it when other files become readable or decode to other pixels; caches are then made again.
READER_VERSION = 3
# Pillow knows more formats, and runs Ghostscript for one of them, whatever the file's name.
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "AVIF", "JPEG2000", "PPM")
FULL, PARTIAL = 65535, (1023, 4095, 16383)  # largest value of 16 bits, and of the 10, 12 and 14 bits of sensors
# ImageOps.exif_transpose also writes the EXIF data back, and fails where another entry is damaged.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class NotRegularFileError(OSError):
    """A FIFO, a socket or a device where a file was expected."""


class UnreadableImage(UserError):  # noqa: N818 - named for the photograph, not for the error
    """A photograph that cannot be read; ``path`` and ``problem`` say which one and why.

    Only the message is required, because DataLoader workers rebuild an error from its message.
    """

    one_rank = True

    def __init__(self, message: str, path: str = "", problem: str = ""):
        """Keep the path and the problem beside the message."""
        super().__init__(message)
        self.path = path
        self.problem = problem


def read_image(path: str | os.PathLike) -> Image.Image:
    """Read a photograph as an upright RGB image with 8 bits per channel.

    - The EXIF orientation is applied. Animations and multi-page files give their first frame.
    - Transparent pixels are composited on black, the colour of fast-reid's padding. A colour key is ignored.
    - 16-bit greyscale is divided by 257, so 65535 becomes 255. Cameras may store 10, 12 or 14 bits in such files: if no
      value of a photograph exceeds 1023, 4095 or 16383, this limit becomes 255, which is logged once. The same holds
      for 32-bit integers; if they exceed 0..65535, they are stretched from their minimum to their maximum.
    - Pillow reads only the upper 8 bits of 16-bit colour. If a photograph does not use the upper 2 bits, a warning
      names it.
    - Floats in [0, 1] are multiplied by 255, floats in [0, 255] are kept, others are stretched. NaN becomes 0.
    - Pillow converts CMYK, YCbCr, LAB, HSV, palettes, greyscale and 1-bit images.

    Only regular files of one of the ``FORMATS`` are read.

    Raises:
        UnreadableImage: (a ValueError) if the file is missing, empty, truncated, corrupt or not an image; the message
            names the file and the cure.
    """
    path = os.fspath(path)
    try:
        with open_regular(path) as file, open_header(file) as image:
            deep = any(";16" in str(tile[3]) for tile in image.tile)
            image.load()
            if deep and image.mode in ("RGB", "RGBA", "LA"):
                _warn_if_dark(image, path)
            return upright_rgb(image, path)
    except Exception as error:  # Pillow's decoders can raise almost any error on corrupt bytes
        problem, cure = _diagnose(path, error)
        raise UnreadableImage(f"cannot read the photograph {path}: {problem}; {cure}", path, problem) from error


def pixels_of(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a box in whole pixels of a photograph of `size`: one pixel or more, and inside it.

    Args:
        box: left, top, right and bottom as shares of the width and height.
        size: width and height in pixels.
    """
    (width, height), (left, top, right, bottom) = size, box
    x, y = min(int(left * width), width - 1), min(int(top * height), height - 1)
    return x, y, min(width, max(x + 1, round(right * width))), min(height, max(y + 1, round(bottom * height)))


def open_header(file: BinaryIO) -> Image.Image:
    """Open a photograph in one of the ``FORMATS``; its size and EXIF data are read, its pixels are not.

    Raises:
        OSError: or nearly any other error of Pillow's readers.
    """
    return Image.open(file, formats=_known_formats())


def upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """A decoded image as `read_image` returns it; `name` is for the log."""
    return _to_rgb(_upright(image, name))


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Open a regular file to read its bytes; opening a FIFO would wait until somebody writes to it.

    Raises:
        NotRegularFileError: if it is a FIFO, a socket or a device; the message says which.
        OSError: as `open` does.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise NotRegularFileError(f"it is a {_kind(mode)}, not a file")
    return open(path, "rb")


def _kind(mode: int) -> str:
    kinds = {stat.S_ISFIFO: "FIFO", stat.S_ISSOCK: "socket", stat.S_ISCHR: "device", stat.S_ISBLK: "device"}
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), "special file")


@functools.cache
def _known_formats() -> list[str]:
    """Return the ``FORMATS`` that this build of Pillow can read; it raises a KeyError for others."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _upright(image: Image.Image, path: str) -> Image.Image:
    """Apply the EXIF orientation of a loaded image. Loading matters: Pillow turns TIFFs itself and removes the tag."""
    try:
        orientation = image.getexif().get(Base.Orientation, 1)
    except Exception as error:  # good pixels with damaged EXIF data are common
        log_once(logger, logging.WARNING, f"{path}: its EXIF data are damaged ({error}); read without turning it")
        return image
    if orientation not in UPRIGHT:
        return image
    turned = image.transpose(UPRIGHT[orientation])
    for name in ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"):
        turned.info.pop(name, None)  # where the orientation stands: who reads the image again must not turn it again
    return turned


def _to_rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode == "F" or mode.startswith("I"):
        return Image.fromarray(_to_8_bits(np.asarray(image))).convert("RGB")
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or (mode == "P" and "transparency" in image.info):
        if mode == "La":  # Pillow has no direct conversion
            image = image.convert("LA")
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
    return image.convert("RGB")


def _warn_if_dark(image: Image.Image, path: str) -> None:
    """Warn of 16-bit colour whose values need at most 14 bits: Pillow has dropped the lower 8 bits, which are lost."""
    if max(high for _, high in image.convert("RGB").getextrema()) <= PARTIAL[-1] // 257:
        cure = "write its values over the whole range, or with 8 bits per channel"
        log_once(logger, logging.WARNING, f"{path}: nearly black, as its 16 bits per channel hold small values; {cure}")


def _largest(high: float) -> int:
    """Choose the 16-bit value that becomes 255, given the largest value `high` of a photograph."""
    most = next((value for value in PARTIAL if high <= value), FULL)
    if most < FULL:
        bits = most.bit_length()
        message = f"photographs of 16 bits that hold values of {bits} bits at most: {most} becomes white, not {FULL}"
        log_once(logger, logging.INFO, message)
    return most


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Convert integers or floats (H, W) to uint8, by the rule in :func:`read_image`."""
    is_float = values.dtype.kind == "f"
    values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if is_float and low >= 0 and high <= 1:
        values = values * 255
    elif not is_float and low >= 0 and high <= 65535:
        values = values * (255 / _largest(high))
    elif not (is_float and low >= 0 and high <= 255):
        values = (values - low) * (255 / ((high - low) or 1.0))
    return np.rint(values).astype(np.uint8)


def _diagnose(path: str, error: Exception) -> tuple[str, str]:
    """Explain a failed read: what is wrong, and what to do about it."""
    if not os.path.exists(path):
        return "there is no such file", "restore it, or remove it from the data set"
    if os.path.isdir(path):
        return "it is a folder", "name a file"
    if isinstance(error, NotRegularFileError):
        return str(error), "replace it by the photograph, or remove it from the data set"
    if isinstance(error, PermissionError):
        return "reading it is not permitted", "change its permissions"
    if os.path.getsize(path) == 0:
        return "the file is empty (0 bytes)", "copy it again, or remove it from the data set"
    if isinstance(error, UnidentifiedImageError):
        if path.lower().endswith(RAW_SUFFIXES):
            return "HEIC and raw formats are not read", "convert it to JPEG or PNG"
        cure = f"convert it to JPEG or PNG, or remove it (supported: {', '.join(FORMATS)})"
        return "it is not an image, or of an unknown format", cure
    if isinstance(error, Image.DecompressionBombError):
        return f"it has too many pixels ({error})", "make it smaller: networks use a few hundred pixels per side"
    return f"corrupt or truncated ({type(error).__name__}: {error})", "copy it again, or remove it from the data set"
