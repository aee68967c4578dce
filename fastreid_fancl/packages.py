"""Optional packages: whether they are installed, and how to install them."""

INSTALL_FAISS = "pip install faiss-cpu, or faiss-gpu for NVIDIA GPUs"


def has_faiss() -> bool:
    """Whether faiss is installed."""
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return True
