"""Fixtures that several test files share."""

from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"


@pytest.fixture
def golden():
    """Load ``<name>.npz`` of the published reference implementations' inputs and outputs, or skip."""

    def load(name: str) -> dict[str, np.ndarray]:
        path = GOLDEN / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"{path} is not there")
        return dict(np.load(path))

    return load
