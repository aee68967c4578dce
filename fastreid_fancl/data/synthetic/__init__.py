"""Synthetic photographs of animals: data sets with known identities that need no download."""

from .write import NAMES, build

__all__ = ["NAMES", "build"]
