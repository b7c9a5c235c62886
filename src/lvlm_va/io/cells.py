"""Text in the cells of CSV files: never a formula in a spreadsheet, and read back as it was.

A spreadsheet takes a cell that begins with =, +, - or @ (or their full-width forms) for a formula, which can
send a table's contents away. An apostrophe in front makes it text. Inside a cell the same is done after a
semicolon, tab or line break: a spreadsheet that splits at other separators than ours begins a cell there.
"""

import re

__all__ = ["from_cell", "to_cell"]

_FORMULA = "[=+\\-@\u2212\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20]"
_SPACE = "[^\\S\\t\\r\\n]*"
# How many apostrophes stand there already does not matter: one is added here, and one taken off there.
_START = re.compile(rf"'*{_SPACE}(?:{_FORMULA}|[\t\r\n])")
_INSIDE = re.compile(rf"([;\t\r\n]{_SPACE})(?='*{_FORMULA})")
_INSIDE_MARKED = re.compile(rf"([;\t\r\n]{_SPACE})'(?='*{_FORMULA})")


def to_cell(text: str) -> str:
    """`text` as it is written into a cell."""
    if text[:1].isalnum() and not any(character in text for character in ";\t\r\n"):
        return text  # most are like that, of millions
    text = _INSIDE.sub(r"\1'", text)
    return f"'{text}" if _START.match(text) else text


def from_cell(cell: str) -> str:
    """What `to_cell` was given. A cell that a person wrote, or that lost the mark, stays as it is."""
    if "'" not in cell:
        return cell
    if cell.startswith("'") and _START.match(cell):
        cell = cell[1:]
    return _INSIDE_MARKED.sub(r"\1", cell)
