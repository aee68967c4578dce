"""The offline page on which a person reviews what was grouped."""

from .page import write_page

__all__ = ["write_page"]
