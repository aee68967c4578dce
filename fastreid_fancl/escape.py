"""Text from other people's files, such as names and messages, made safe for a terminal, CSV and Markdown.

For HTML `visible` is enough: its templates escape the rest.
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
    r"""A name on one line; characters that a terminal would obey or hide are written as \x1b or \u202e."""
    return "".join(_escaped(char) if unicodedata.category(char) in UNSEEN else char for char in str(name))


def _escaped(char: str) -> str:
    return repr(char)[1:-1] if not char.isprintable() else f"\\u{ord(char):04x}"


def message(text: object) -> str:
    """A text of several lines, made safe as by `visible`; line breaks and tabs stay."""
    return "".join(char if char in "\n\t" else visible(char) for char in str(text))


def coloured(text: str) -> str:
    """A text made safe as by `message`; colours stay, as they cannot hide anything."""
    pieces = re.split(f"({COLOUR.pattern})", text)
    return "".join(piece if COLOUR.fullmatch(piece) else message(piece) for piece in pieces)


def csv_cell(value: object) -> object:
    """A cell of a CSV table: text is made safe by `visible`, and an apostrophe keeps spreadsheets from running it."""
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
    """A name or sentence escaped for Markdown, so that it shows as plain text."""
    text = MARKDOWN.sub(lambda match: "\\" + match[0], visible(name))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
