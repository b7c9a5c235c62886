"""The fixed form in which a critique ends: one line per segment.

    SEGMENT 1: SPURIOUS — a grey patch in the corner, not part of the digit
    SEGMENT 2: VALID — the upper arc of the digit

The critic's prompt asks for these lines, the built-in critic and the oracle write them. A judge that
is a language model reads the whole critique; a judge that is not one reads these lines, nothing else.

Where a critic may call a segment mixed (`critique.split`), there is a third form, read as None in place of
spurious:

    SEGMENT 3: MIXED — a letter in the upper left corner, bone below it
"""

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping

__all__ = ["format_line", "line_segments", "lines_alone", "parse_lines", "statements"]

_VERDICTS: Mapping[str, bool | None] = {"SPURIOUS": True, "VALID": False, "MIXED": None}


class _Patterns:
    """What is looked for, with these words for verdicts."""

    def __init__(self, *words: str) -> None:
        any_of = "|".join(words)
        self.line = re.compile(rf"SEGMENT ([0-9]{{1,4}}): ({any_of}) — (\S.*)")
        self.any_line = re.compile(
            rf"[^a-z0-9]*segment[^a-z0-9]{{0,4}}([0-9]{{1,4}})[^a-z0-9]{{1,6}}(?:{any_of})\b", re.IGNORECASE
        )
        self.statement = re.compile(
            r"\bsegments?\b((?:[^a-z0-9]{0,12}(?:[0-9]{1,4}\b|and|is|are|was|were|as)){1,12}[^a-z0-9]{0,12})"
            rf"(not\b[^a-z0-9]{{0,4}})?(in)?({any_of})\b",
            re.IGNORECASE,
        )
        self.lone_line = re.compile(
            rf"[-*•\s]{{0,4}}\**segment\s{{1,2}}([0-9]{{1,4}})\**\s?(?:[:=—–-]|is)\s?\**({any_of})\**"
            r"(?:\s*[—–:,.(-]\s*(.*))?",
            re.IGNORECASE,
        )
        self.either = re.compile(rf"{any_of}|\?", re.IGNORECASE)


_PATTERNS = {False: _Patterns("SPURIOUS", "VALID"), True: _Patterns("SPURIOUS", "VALID", "MIXED")}
"""Whether a segment may be mixed → what is looked for."""
_QUOTED = re.compile(r'"[^"]*"|“[^“”]*”')
_THOUGHT = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)


def format_line(segment: int, spurious: bool | None, reason: str) -> str:
    """The verdict line of one segment; white space in `reason` (not empty) is collapsed to one line."""
    (word,) = [word for word, verdict in _VERDICTS.items() if verdict is spurious]
    return f"SEGMENT {segment}: {word} — {' '.join(reason.split())}"


def parse_lines(
    text: str, segment_ids: Collection[int], *, mixed: bool = False
) -> dict[int, tuple[bool | None, str]]:
    """Read the verdict lines of a critique.

    No line is worth more than another for where it stands: what a critic copies from an image may come
    before its own lines or after them. So a segment has a verdict only where everything that is said of it
    agrees, also in another case, in bold, in a sentence; quotations are left out. But only a line of the
    agreed form gives a verdict, and none that stands in a critic's <think> block.

    Args:
        text: the critique.
        segment_ids: the segment numbers that were offered; lines about others are ignored.
        mixed: whether a segment may be mixed.

    Returns:
        segment → (spurious, reason) for the offered segments that have a line and no contradiction; None
        in place of spurious where the segment is mixed.
    """
    found: dict[int, tuple[bool | None, str]] = {}
    said: dict[int, set[bool | None]] = {}
    thinking = False
    for line in text.splitlines():
        for tag in _THOUGHT.finditer(line):
            thinking = not tag[1]
        match = _PATTERNS[mixed].line.fullmatch(line.rstrip())
        if match and not thinking and int(match[1]) in segment_ids:
            found.setdefault(int(match[1]), (_VERDICTS[match[2]], match[3].strip()))
        for segment, spurious in statements(_QUOTED.sub("", line), mixed=mixed):
            said.setdefault(segment, set()).add(spurious)
    return {segment: verdict for segment, verdict in found.items() if said.get(segment) == {verdict[0]}}


def lines_alone(text: str, *, mixed: bool = False) -> list[tuple[int, bool | None, str]]:
    """The verdicts of a text in which each line that is not empty is the verdict line of another segment.

    Returns:
        (segment, spurious, reason); none at all where one line is anything else, or says both words.
    """
    found, patterns = [], _PATTERNS[mixed]
    for line in filter(None, map(str.strip, text.splitlines())):
        match = patterns.lone_line.fullmatch(line)
        if match is None or patterns.either.search(match[3] or ""):
            return []
        found.append((int(match[1]), _VERDICTS[match[2].upper()], (match[3] or "").strip()))
    return found if len({segment for segment, _, _ in found}) == len(found) else []


def line_segments(text: str, *, mixed: bool = False) -> Iterator[int]:
    """The segments that verdict lines name, in order, each as often as it has a line, in whatever form."""
    for line in text.splitlines():
        if match := _PATTERNS[mixed].any_line.match(line):
            yield int(match[1])


def statements(text: str, *, mixed: bool = False) -> Iterator[tuple[int, bool | None]]:
    """What `text` says of segments in so many words, "segments 1 and 2 are spurious": (segment, spurious)."""
    for match in _PATTERNS[mixed].statement.finditer(unicodedata.normalize("NFKC", text)):
        spurious, denied = _VERDICTS[match[4].upper()], bool(match[2] or match[3])
        if spurious is None and denied:
            continue  # "not mixed" leaves open which of the two it is
        spurious = spurious if spurious is None else spurious != denied
        for number in re.findall(r"[0-9]+", match[1]):
            yield int(number), spurious
