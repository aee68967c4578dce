"""Names and messages of other people's files, made safe for a terminal, CSV and Markdown.

HTML needs `visible` only: its templates escape the rest.
"""

import re
import unicodedata

# Control characters, invisible and direction-changing ones, lone surrogates, line and paragraph separators.
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
# Programs for spreadsheets take a cell that begins so for a formula; the last four are wide forms of the first.
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
COLOUR = re.compile(r"\x1b\[[\d;]*m")
MARKDOWN = re.compile(r"[\\`*\[\]|]|(?<!\w)_|_(?!\w)")


def visible(name: object) -> str:
    r"""A name on one line, with characters that a terminal would obey or hide written as \x1b or \u202e."""
    return "".join(_escaped(char) if unicodedata.category(char) in UNSEEN else char for char in str(name))


def _escaped(char: str) -> str:
    return repr(char)[1:-1] if not char.isprintable() else f"\\u{ord(char):04x}"


def message(text: object) -> str:
    """A text of several lines as `visible`, its line breaks and tabs kept."""
    return "".join(char if char in "\n\t" else visible(char) for char in str(text))


def coloured(text: str) -> str:
    """As `message`, with colours kept, which cannot hide anything."""
    pieces = re.split(f"({COLOUR.pattern})", text)
    return "".join(piece if COLOUR.fullmatch(piece) else message(piece) for piece in pieces)


def csv_cell(value: object) -> object:
    """A cell of a table: text is `visible`, and an apostrophe before it keeps spreadsheets from running it."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.lstrip().startswith(FORMULA) and not _number(text) else text


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def markdown(name: object) -> str:
    """A name or sentence in Markdown, as text and nothing else."""
    text = MARKDOWN.sub(lambda match: "\\" + match[0], visible(name))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
