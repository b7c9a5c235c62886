"""The fixed form in which a critique ends: one line per segment.

    SEGMENT 1: SPURIOUS — a grey patch in the corner, not part of the digit
    SEGMENT 2: VALID — the upper arc of the digit

The critic's prompt asks for these lines, the built-in critic and the oracle write them. A judge that
is a language model reads the whole critique; a judge that is not one reads these lines, nothing else.
"""

import re
from collections.abc import Collection

__all__ = ["format_line", "parse_lines"]

_LINE = re.compile(r"^SEGMENT (\d{1,4}): (SPURIOUS|VALID) — (\S.*)$", re.MULTILINE)


def format_line(segment: int, spurious: bool, reason: str) -> str:
    """The verdict line of one segment; white space in `reason` (not empty) is collapsed to one line."""
    return f"SEGMENT {segment}: {'SPURIOUS' if spurious else 'VALID'} — {' '.join(reason.split())}"


def parse_lines(text: str, marks: Collection[int]) -> dict[int, tuple[bool, str]]:
    """Read the verdict lines of a critique.

    Args:
        text: the critique.
        marks: the segment numbers that were offered; lines about others are ignored.

    Returns:
        segment → (spurious, reason) for the offered segments that have a line. Of several lines about
        one segment the last holds.
    """
    found: dict[int, tuple[bool, str]] = {}
    for number, word, reason in _LINE.findall(text):
        if int(number) in marks:
            found[int(number)] = (word == "SPURIOUS", reason.strip())
    return found
