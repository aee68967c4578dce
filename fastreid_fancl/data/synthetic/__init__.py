"""Drawn photographs of animals: data sets that need no download, with known identities."""

from .write import NAMES, build

__all__ = ["NAMES", "build"]
