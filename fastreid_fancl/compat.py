"""What fast-reid 1.4 needs to run on today's Python, PyTorch and CPUs: one function a mend."""


def apply() -> None:
    """Apply every mend once."""
