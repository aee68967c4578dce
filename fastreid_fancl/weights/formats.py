"""Read a file of weights according to its format; for a file that cannot be read, explain what it is and the cure."""

import json
import os
import re
import tarfile
import zipfile
from collections.abc import Iterator

import torch

from ..errors import UserError
from .pickles import convert, damaged, read_torch, whole_pickles

# Before PyTorch 1.6, a file of torch.save began with the pickle of a fixed number; these are its first bytes.
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
GIT_LFS = b"version https://git-lfs.github.com/spec"
# An ONNX model begins with field 1 (the version), followed by the field of the producer or the graph.
ONNX = re.compile(rb"\x08[\x01-\x20][\x12\x1a\x22\x2a\x32\x3a\x42]")
ARCHIVES = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7-Zip", b"Rar!": "RAR"}


def read_file(path: str) -> object:
    """Read a file of `torch.save` (any version of PyTorch) or safetensors onto the CPU, without running code from it.

    Raises:
        ValueError: if there is no such file or it cannot be read; the message says what it is and how to convert it.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise UserError(_no_file(path))
    with open(path, "rb") as file:
        head = file.read(512)
    if _is_safetensors(head):
        return _read_safetensors(path)
    problem = next(_problems(path, head), None)
    if problem:
        raise UserError(f"{path} {problem}")
    return read_torch(path)


def _no_file(path: str) -> str:
    if os.path.isdir(path):
        inside = sorted(name for name in os.listdir(path) if re.search(r"\.(pth|pt|bin|safetensors|tar|ckpt)$", name))
        return f"{path} is a folder: name the file of weights in it ({', '.join(inside[:5]) or 'there is none'})."
    if os.path.exists(path):
        return f"{path} is a pipe or a device: name a regular file of weights."
    return f"Expected a checkpoint at {path}, found no file: check the path."


def _is_safetensors(head: bytes) -> bool:
    """Whether a file begins as safetensors do: eight bytes with the length of the JSON that follows."""
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") < 2**28


def _read_safetensors(path: str) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise UserError(
            f"{path} is a safetensors file, which the package safetensors reads: pip install safetensors"
        ) from error
    try:
        return load_file(path, device="cpu")
    except SafetensorError as error:
        raise UserError(f"{path} {damaged('safetensors file', error)}") from error


def _is_torch(head: bytes) -> bool:
    """Whether a file has PyTorch's format before 1.6, even cut off in its first bytes, or the older tar archive."""
    return LEGACY[3:-1] in head[:32] or LEGACY.startswith(head) or head[257:262] == b"ustar"


def _problems(path: str, head: bytes) -> Iterator[str]:
    """Yield what is wrong with a file that `torch.save` did not write."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head:
        yield "is empty (0 bytes): its download or copy has failed. Get it again."
    elif head.startswith(GIT_LFS):
        yield "is a Git LFS pointer, a note in place of the weights: run `git lfs pull` in its repository."
    elif text.startswith(b"<"):
        yield (
            "is a web page in place of the weights: open it in a browser to see why, and download the file itself "
            "(on GitHub the link Raw, on Hugging Face the one with /resolve/)."
        )
    elif text.startswith(b"{"):
        yield f"is JSON text: {_of_json(path)}"
    elif head.startswith(b"PK"):
        yield from _problems_of_zip(path)
    elif ONNX.match(head) or path.endswith(".onnx"):
        yield "is an ONNX model, which holds a graph to run: give the PyTorch weights from which it was exported."
    elif head.startswith(b"\x89HDF\r\n"):
        yield "is an HDF5 file, such as Keras writes: give weights of PyTorch."
    elif head[257:262] == b"ustar" and "storages" not in _members_of_tar(path):
        yield "is a tar archive: unpack it and name the file of weights in it."
    elif archive := next((name for start, name in ARCHIVES.items() if head.startswith(start)), None):
        yield f"is a {archive} archive: unpack it and name the file of weights in it."
    elif not _is_torch(head) and head.startswith(b"\x80"):
        if whole_pickles(path, 1):
            yield f"is a pickle that torch.save did not write. {convert(path, 'pickle')}"
        yield "is a truncated or damaged pickle: copy or download it again."
    elif not _is_torch(head):
        yield (
            f"is truncated or no PyTorch checkpoint: it begins with {head[:16]!r}. Expected a file of torch.save or "
            "safetensors."
        )


def _of_json(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            shards = sorted(set(json.load(file)["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "expected a file of torch.save or safetensors. If it was downloaded, its text says what went wrong."
    return f"the index of the weights in {', '.join(shards[:3])}. Give weights that are in one file."


def _members_of_tar(path: str) -> list[str]:
    try:
        with tarfile.open(path) as archive:
            return [member.name for member in archive]
    except tarfile.TarError:
        return []


def _problems_of_zip(path: str) -> Iterator[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        yield damaged("PyTorch checkpoint", error)
        return
    parts = {name.partition("/")[2] for name in names}
    if "constants.pkl" in parts or any(part.startswith("code/") for part in parts):
        yield f"is a TorchScript archive, a program with its weights. {convert(path, 'jit')}"
    elif "archive_format" in parts or any(name.endswith("exported_program.json") for name in names):
        yield "is a program of torch.export: give the state dict of the model that was exported."
    elif "data.pkl" not in parts:
        first = ", ".join(names[:3])
        yield f"is a ZIP archive without PyTorch's data.pkl ({first}): unpack it and name the file of weights in it."
