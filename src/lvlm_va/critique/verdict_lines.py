"""The fixed form in which a critique ends: one line per segment.

    SEGMENT 1: SPURIOUS — a grey patch in the corner, not part of the digit
    SEGMENT 2: VALID — the upper arc of the digit

The critic's prompt asks for these lines, the built-in critic and the oracle write them. A judge that
is a language model reads the whole critique; a judge that is not one reads these lines, nothing else.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator

__all__ = ["format_line", "line_segments", "lines_alone", "parse_lines", "statements"]

_LINE = re.compile(r"SEGMENT ([0-9]{1,4}): (SPURIOUS|VALID) — (\S.*)")
_ANY_LINE = re.compile(r"[^a-z0-9]*segment[^a-z0-9]{0,4}([0-9]{1,4})[^a-z0-9]{1,6}(?:spurious|valid)\b", re.I)
_LONE_LINE = re.compile(
    r"[-*•\s]{0,4}\**segment\s{1,2}([0-9]{1,4})\**\s?(?:[:=—–-]|is)\s?\**(spurious|valid)\**(?:\s*[—–:,.(-]\s*(.*))?",
    re.IGNORECASE,
)
_EITHER = re.compile(r"spurious|valid|\?", re.IGNORECASE)
_STATEMENT = re.compile(
    r"\bsegments?\b((?:[^a-z0-9]{0,12}(?:[0-9]{1,4}\b|and|is|are|was|were|as)){1,12}[^a-z0-9]{0,12})"
    r"(not\b[^a-z0-9]{0,4})?(in)?(spurious|valid)\b",
    re.IGNORECASE,
)
_QUOTED = re.compile(r'"[^"]*"|“[^“”]*”')
_THOUGHT = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)


def format_line(segment: int, spurious: bool, reason: str) -> str:
    """The verdict line of one segment; white space in `reason` (not empty) is collapsed to one line."""
    return f"SEGMENT {segment}: {'SPURIOUS' if spurious else 'VALID'} — {' '.join(reason.split())}"


def parse_lines(text: str, segment_ids: Collection[int]) -> dict[int, tuple[bool, str]]:
    """Read the verdict lines of a critique.

    No line is worth more than another for where it stands: what a critic copies from an image may come
    before its own lines or after them. So a segment has a verdict only where everything that is said of it
    agrees, also in another case, in bold, in a sentence; quotations are left out. But only a line of the
    agreed form gives a verdict, and none that stands in a critic's <think> block.

    Args:
        text: the critique.
        segment_ids: the segment numbers that were offered; lines about others are ignored.

    Returns:
        segment → (spurious, reason) for the offered segments that have a line and no contradiction.
    """
    found: dict[int, tuple[bool, str]] = {}
    said: dict[int, set[bool]] = {}
    thinking = False
    for line in text.splitlines():
        for tag in _THOUGHT.finditer(line):
            thinking = not tag[1]
        match = _LINE.fullmatch(line.rstrip())
        if match and not thinking and int(match[1]) in segment_ids:
            found.setdefault(int(match[1]), (match[2] == "SPURIOUS", match[3].strip()))
        for segment, spurious in statements(_QUOTED.sub("", line)):
            said.setdefault(segment, set()).add(spurious)
    return {segment: verdict for segment, verdict in found.items() if said.get(segment) == {verdict[0]}}


def lines_alone(text: str) -> list[tuple[int, bool, str]]:
    """The verdicts of a text in which each line that is not empty is the verdict line of another segment.

    Returns:
        (segment, spurious, reason); none at all where one line is anything else, or says both words.
    """
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        match = _LONE_LINE.fullmatch(line)
        if match is None or _EITHER.search(match[3] or ""):
            return []
        found.append((int(match[1]), match[2].lower() == "spurious", (match[3] or "").strip()))
    return found if len({segment for segment, _, _ in found}) == len(found) else []


def line_segments(text: str) -> Iterator[int]:
    """The segments that verdict lines name, in order, each as often as it has a line, in whatever form."""
    for line in text.splitlines():
        if match := _ANY_LINE.match(line):
            yield int(match[1])


def statements(text: str) -> Iterator[tuple[int, bool]]:
    """What `text` says of segments in so many words, "segments 1 and 2 are spurious": (segment, spurious)."""
    for match in _STATEMENT.finditer(unicodedata.normalize("NFKC", text)):
        spurious = (match[4].lower() == "spurious") != bool(match[2] or match[3])
        for number in re.findall(r"[0-9]+", match[1]):
            yield int(number), spurious
