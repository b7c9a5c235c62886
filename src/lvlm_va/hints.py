"""Help for what was misspelt."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean"]


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """E.g. "did you mean 'lambda'?", or "known are 'a', 'b'" where nothing known is like the word."""
    names = list(known)
    close = get_close_matches(str(word), names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(map(repr, names)) or 'none'}"
