"""The settings of the run that wrote a file: those in the config.yaml beside it."""

from pathlib import Path

import yaml

from .checked import fields, list_of, whole

SIZE = fields({"INPUT": fields({"SIZE_TRAIN": list_of(whole)})})


def settings_beside(weights: Path) -> dict | None:
    """The settings in the config.yaml beside a file, of this package or of fast-reid; None without readable ones."""
    file = weights.with_name("config.yaml")
    try:
        run = yaml.safe_load(file.read_text()) if file.is_file() else None
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return run if isinstance(run, dict) and run.keys() >= {"MODEL", "DATASETS"} else None


def size_beside(weights: Path) -> tuple[int, int] | None:
    """(H, W) in pixels of the images that the run of a file was trained at; None if unknown."""
    if not weights.is_file():  # timm's download, for example
        return None
    try:
        size = SIZE(settings_beside(weights))["INPUT"]["SIZE_TRAIN"]
    except ValueError:
        return None
    return (size[0], size[-1]) if size else None
