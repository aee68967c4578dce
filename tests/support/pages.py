"""Code blocks of the docs."""

import re

from conftest import REPO


def block(page: str, language: str) -> str:
    """The first code block of a language on a page of the docs."""
    return re.search(rf"```{language}\n(.*?)```", (REPO / "docs" / page).read_text(), re.DOTALL)[1]
