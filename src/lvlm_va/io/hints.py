"""Help for what was misspelt, and what was written there instead, never more of it than fits a message."""

import reprlib
from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean", "shown"]

_LONGEST = 120  # characters

# A few kilobytes of YAML, whose aliases repeat each other, can stand for more text than any memory holds.
_REPR = reprlib.Repr()
_REPR.maxlevel = 2
_REPR.maxstring = _REPR.maxother = _LONGEST


def shown(value: object) -> str:
    """`repr(value)` for a message: at most 120 characters, and no more work than that takes."""
    text = _REPR.repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """E.g. "did you mean 'lambda'?", or "known are 'a', 'b'" where nothing known is like the word."""
    names = list(known)
    close = get_close_matches(word if isinstance(word, str) else shown(word), names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(map(repr, names)) or 'none'}"
