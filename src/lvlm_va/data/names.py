"""What names of files and classes may hold, and how one that may not be used is shown."""

import os
import unicodedata

__all__ = ["name_problem", "shown"]

_CONTROL = frozenset({"Cc", "Zl", "Zp"})  # line breaks, escape sequences of terminals, NUL


def name_problem(name: str) -> str | None:
    """Why a name cannot be kept in tables, pages and answers; None where it can.

    Args:
        name: as the system or a table gives it: bytes that are not UTF-8 are lone surrogates in it.
    """
    kinds = {unicodedata.category(c) for c in name}
    if "Cs" in kinds:
        return "its name is not UTF-8 text; rename it"
    return "its name holds a control character; rename it" if kinds & _CONTROL else None


def shown(name: str | os.PathLike[str]) -> str:
    r"""The name as one line of plain text: foreign bytes and control characters as \xe4, \x1b, \n."""
    text = os.fspath(name)
    try:
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # surrogates that no file name gives
        text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(repr(c)[1:-1] if unicodedata.category(c) in _CONTROL else c for c in text)
