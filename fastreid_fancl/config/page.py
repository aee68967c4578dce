"""The tables of keys on docs/configuration.md: `python -m fastreid_fancl.config.page` rewrites them."""

from pathlib import Path

from ..errors import UserError
from ..files import write_text
from .keys import SECTIONS, Key

PAGE = Path(__file__).parents[2] / "docs/configuration.md"
BEGIN, END = "<!-- keys: begin -->", "<!-- keys: end -->"


def tables() -> str:
    """The keys as Markdown, a table per section."""
    return "\n".join(_table(title, keys) for title, keys in SECTIONS.items())


def with_tables(page: str) -> str:
    """The text of a page with today's tables between its markers.

    Raises:
        ValueError: if the page lacks a marker.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"Expected the lines {BEGIN} and {END} around the tables of keys: put them back.")
    return f"{before}{BEGIN}\n{tables()}{END}{after}"


def _table(title: str, keys: tuple[Key, ...]) -> str:
    rows = [f"| `{key.name}` | {_shown(key.default)} | {key.meaning} | {key.valid} |" for key in keys]
    return "\n".join([f"### {title}\n", "| key | default | meaning | valid |", "|---|---|---|---|", *rows, ""])


def _shown(default: object) -> str:
    """A default as one types it."""
    return f"`{default}`" if default != "" else ""


def main() -> None:
    """Rewrite the page."""
    write_text(PAGE, with_tables(PAGE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
