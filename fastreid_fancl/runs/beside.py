"""The settings of the run that wrote a file: those in the config.yaml beside it."""

from pathlib import Path

import yaml


def settings_beside(weights: Path) -> dict | None:
    """The settings in the config.yaml beside a file, of this package or of fast-reid; None without readable ones."""
    file = weights.with_name("config.yaml")
    try:
        run = yaml.safe_load(file.read_text()) if file.is_file() else None
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return run if isinstance(run, dict) and run.keys() >= {"MODEL", "DATASETS"} else None
