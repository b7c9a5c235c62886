"""Verdict lines that need no judge: those of a critique that does not contradict itself.

The judge (Sec. 4.1) turns a critic's text into verdicts. Where that text ends in the agreed lines, a judge
that is a language model repeats them, at half of all calls. So the lines are read first, strictly, and a
judge is asked about what they leave in doubt.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator

from lvlm_va.critique.verdict_lines import line_segments, parse_lines

__all__ = ["clear_lines"]

_HEDGED = re.compile(
    r"\b(?:may|might|maybe|perhaps|possibly|probably|presumably|seems?|appears?|apparently|unclear|uncertain|"
    r"unsure|doubt\w*|not (?:sure|certain)|(?:can ?not|can't|could not|hard to|difficult to) (?:tell|say|see|"
    r"be told)|mixed|(?<!upper )(?<!lower )(?<!left )(?<!right )(?<!top )(?<!bottom )half|either)\b",
    re.IGNORECASE,
)  # "the upper half of the lesion" is a place
_AGAINST = re.compile(
    r"\b(?:irrelevant|unsound|spurious|artefacts?|artifacts?|shortcuts?|invalid|condemn\w*|"
    r"(?:not|nothing|none|neither|nor|no)\b[^.;]{0,30}\b(?:relevant|belong\w*|part of|valid|sound)|"
    r"(?<!not )(?:rules?|ruled) (?:it |them |this )?out|"
    r"(?:must|should|may|can) ?not rest|(?:does|is) not (?:mention|name|allow)\w*)",
    re.IGNORECASE,
)
_FOR = re.compile(r"\b(?:relevant|valid|allow\w*|keep|kept|belong\w*|core)\b", re.IGNORECASE)
_STEP_5 = re.compile(
    r"\bstep 5\b(.*?)(?=\bstep 6\b|^\W*segment \d+\W*:\W*(?:spurious|valid)\b|\Z)", re.I | re.S | re.M
)
_CLAUSE = re.compile(r"[.;]\s|\n|, (?=(?:(?:and|but|while|whereas|although) )?segments?\b)", re.IGNORECASE)
_NUMBERS = re.compile(r"\bsegments?\b((?:\W{0,4}(?:\d{1,4}\b|and|or|to|through)){1,40})", re.IGNORECASE)
_RANGE = re.compile(r"(\d+)\W*(?:to|through|–|-)\W*(\d+)")


def clear_lines(
    critique: str, segment_ids: Collection[int], *, mixed: bool = False
) -> dict[int, tuple[bool | None, str]]:
    """The verdicts of lines that leave no doubt.

    A line is left to a judge where its segment has another line, where it hedges ("may be background"),
    where anything else in the critique contradicts it, and where step 5 says the opposite or is itself in
    doubt. What is left out by mistake costs a call and no verdict. A line that calls its segment mixed tells
    of both sides and condemns nothing: it need only be the one thing said.

    Args:
        critique: the critic's text.
        segment_ids: the segments that were offered.
        mixed: whether a segment may be mixed.

    Returns:
        segment → (spurious, reason), None in place of spurious where it is mixed; a segment without such a
        line is not in it.
    """
    counts = Counter(line_segments(critique, mixed=mixed))
    step_5: dict[int, set[str]] = {}
    for segment, tells in _step_5(critique):
        step_5.setdefault(segment, set()).add(tells)
    clear: dict[int, tuple[bool | None, str]] = {}
    for segment, (spurious, reason) in parse_lines(critique, segment_ids, mixed=mixed).items():
        said = step_5.get(segment, set())
        contradicted = "doubt" in said or ("for" if spurious else "against") in said
        doubtful = spurious is not None and (contradicted or _HEDGED.search(reason))
        if counts[segment] == 1 and not doubtful:
            clear[segment] = spurious, reason
    return clear


def _step_5(critique: str) -> Iterator[tuple[int, str]]:
    """What step 5 says of segments that it names: (segment, "for", "against" or "doubt")."""
    for step in _STEP_5.finditer(critique):
        for clause in _CLAUSE.split(step[1]):
            segments = [n for match in _NUMBERS.finditer(clause) for n in _numbers(match[1])]
            for segment in segments:
                if _HEDGED.search(clause):
                    yield segment, "doubt"
                elif _AGAINST.search(clause):
                    yield segment, "against"
                elif _FOR.search(clause):
                    yield segment, "for"


def _numbers(text: str) -> Iterator[int]:
    for first, last in _RANGE.findall(text):
        yield from range(int(first), min(int(last), int(first) + 1000) + 1)
    yield from map(int, re.findall(r"\d+", text))
