"""What a judge's answer says about each segment, read as if somebody wished it to say the opposite.

A judge quotes: from the critique, from an image's writing in it, from its own instructions. So an answer
counts only where nothing in it speaks against it:

- One value that cannot be read, in form or content, and the whole answer is left: the judge's own verdicts
  may be the broken ones, and a quotation the sound ones.
- What stands in quotation marks, in a blockquote, between tags, in a <think> block or in the critique gives
  no verdict; but where it contradicts one, that segment is unscored. Only before a bare answer a <think>
  block counts for nothing: minds are made up there.
- Two objects that disagree about a segment leave it unscored, and so do the words around them. One that
  lacks segments never replaces one that has them all.

Slips of form that leave no doubt are let pass, see `verdict_form`, and so is an answer that holds nothing but
the critic's lines, one a segment.

Where a segment may be mixed (`critique.split`), "mixed" is a third value beside true and false.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from lvlm_va.critique.answer_json import Found, Unreadable, json_values
from lvlm_va.critique.question import as_text
from lvlm_va.critique.thinking import opening_thought
from lvlm_va.critique.verdict_form import Line, WrongForm, is_loose, read_form
from lvlm_va.critique.verdict_lines import lines_alone, statements

__all__ = ["LONGEST_ANSWER", "Judgement", "read_judgement"]

LONGEST_ANSWER = 100_000
"""Characters; no judgement is longer, and scanning more invites mischief."""
_MOST = 20  # sets of verdicts in one answer; whoever writes more has no answer

_ANSWER = r"answer|final|output|result|response|json|verdicts"
_CLOSING_THOUGHT = re.compile(
    r"</(?:think|thinking|thought|thoughts|reasoning|reflection|analysis|scratchpad)>", re.IGNORECASE
)
_TAG = re.compile(rf"<(/?)(?!(?:{_ANSWER})>)([a-z][\w-]{{0,30}})(?:\s[^<>]{{0,200}})?>", re.IGNORECASE)
_WRAPPING = re.compile(rf"(?:```+|~~~+)[ \t]*(?:json[c5l]?)?|</?(?:{_ANSWER})>|[\s,;]", re.IGNORECASE)
_WRAPPED = re.compile(rf"^(?:```+[a-z]*|<(?:{_ANSWER})>)\s*|\s*(?:```+|</(?:{_ANSWER})>)$", re.IGNORECASE)
_BETWEEN_LINES = re.compile(r"[\s,;]*+(?:[-*•]|[0-9]{1,3}[.)])?\s*+")
_DOUBT = re.compile(
    r"ignor|disregard|overrid|inject|quot|manipul|malicious|tamper|refus|attack|adversar|not (?:follow|obey)",
    re.IGNORECASE,
)
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "„": "“", "«": "»", "‹": "›", "「": "」"}


@dataclass(frozen=True)
class Judgement:
    """What a judge's answer says about the offered marks; each is in exactly one of the two mappings.

    Attributes:
        verdicts: segment → (spurious, reason); None in place of spurious where the segment is mixed.
        problems: segment → why it has no verdict.
    """

    verdicts: Mapping[int, tuple[bool | None, str]] = field(default_factory=dict)
    problems: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Said:
    """One set of verdicts: the lines of an object or list, or of objects that follow each other."""

    lines: tuple[Line, ...]
    start: int
    end: int
    loose: bool = False  # an object a line, without an object around them

    def on(self, mark: int) -> list[Line]:
        return [line for line in self.lines if line.segment == mark]


def read_judgement(
    text: str, segment_ids: Collection[int], critique: str = "", *, mixed: bool = False
) -> Judgement:
    """Read a judge's answer. Never raises, and never yields a verdict about a mark not offered.

    Args:
        text: the answer.
        segment_ids: the segments that were offered. An answer that names others has lost count, so none of
            its verdicts can be trusted.
        critique: what the judge had before it, where that is known: it may quote from it.
        mixed: whether the judge was told that a segment may be mixed.
    """
    return _judgement(text, tuple(segment_ids), critique, mixed)


@lru_cache(maxsize=1024)  # an answer is read for the review, and once more where it is stored
def _judgement(text: str, segment_ids: tuple[int, ...], critique: str, mixed: bool) -> Judgement:
    if len(text) > LONGEST_ANSWER:
        return _nothing(segment_ids, f"the judge's answer is longer than {LONGEST_ANSWER:,} characters")
    thought, answer = "", text
    if (opened := opening_thought(text)) is not None:
        thought, after = opened
        if after is None:
            return _nothing(segment_ids, "the judge's answer ends before its reasoning does")
        answer = after
    try:
        said = _read(json_values(answer), answer, mixed)
    except Unreadable as error:
        return _nothing(segment_ids, f"the judge's answer holds no readable JSON object: {error}")
    except WrongForm as error:
        return _nothing(segment_ids, str(error))
    if not said and (lines := lines_alone(_WRAPPED.sub("", answer.strip()), mixed=mixed)):
        read = tuple(Line(segment=j, spurious=is_so, reason=why) for j, is_so, why in lines)
        said = [_Said(read, 0, len(answer))]
    if not said:
        return _nothing(segment_ids, "the judge's answer holds no readable JSON object")
    if any(line.segment not in segment_ids for one in said for line in one.lines):
        return _nothing(segment_ids, "the judge's answer names a segment that was not offered")

    around = "".join(_around(answer, said))
    thinks_aloud_of_it = thought and any(_is_copied(answer, one, critique) for one in said)
    if not _WRAPPING.sub("", around).strip() and not thinks_aloud_of_it:  # nothing but the answer
        return _settle(said, said, (), segment_ids)
    giving = [one for one in said if not _is_quoted(answer, one, critique)]
    if len(giving) == 1 and _DOUBT.search(around) and not _stands_first(answer, giving[0]):
        giving = []
    if not giving:
        return _nothing(segment_ids, "the judge's answer quotes verdicts instead of giving them")
    return _settle(giving, [*said, *_drafts(thought, mixed)], statements(around, mixed=mixed), segment_ids)


def _settle(
    giving: Sequence[_Said],
    all_said: Iterable[_Said],
    words: Iterable[tuple[int, bool | None]],
    segment_ids: Collection[int],
) -> Judgement:
    """The verdicts that those `giving` agree on, and that nothing speaks against."""
    heard: dict[int, set[bool | None]] = {}
    for mark, spurious in words:
        heard.setdefault(mark, set()).add(spurious)
    for one in all_said:
        for line in one.lines:
            heard.setdefault(line.segment, set()).add(line.spurious)
    giving = [one for one in giving if all(one.on(mark) for mark in segment_ids)] or giving
    verdicts: dict[int, tuple[bool | None, str]] = {}
    problems: dict[int, str] = {}
    for mark in segment_ids:
        counts = [len(one.on(mark)) for one in giving]
        if max(counts) > 1:
            problems[mark] = f"the judge gave {max(counts)} verdicts on segment {mark}"
        elif min(counts) == 0:
            problems[mark] = f"there is no verdict on segment {mark}"
        elif len(heard[mark]) > 1:
            problems[mark] = f"the judge gave conflicting verdicts on segment {mark}"
        else:
            (line,) = giving[0].on(mark)
            verdicts[mark] = (line.spurious, as_text(line.reason or ""))
    return Judgement(verdicts, problems)


def _nothing(segment_ids: Collection[int], problem: str) -> Judgement:
    return Judgement(problems=dict.fromkeys(segment_ids, problem))


def _read(values: Iterable[Found], text: str, mixed: bool) -> list[_Said]:
    said: list[_Said] = []
    for found in values:
        lines = read_form(found.value, mixed=mixed)
        loose = is_loose(found.value)
        if loose and said and said[-1].loose and _BETWEEN_LINES.fullmatch(text, said[-1].end, found.start):
            before = said.pop()
            said.append(_Said(before.lines + lines, before.start, found.end, loose=True))
        else:
            said.append(_Said(lines, found.start, found.end, loose))
        if len(said) > _MOST:
            raise WrongForm(f"the judge's answer holds more than {_MOST} sets of verdicts")
    return said


def _drafts(thought: str, mixed: bool) -> Iterator[_Said]:
    """What a <think> block holds, as far as it can be read."""
    try:
        for found in json_values(thought):
            yield _Said(read_form(found.value, mixed=mixed), 0, 0)
    except (Unreadable, WrongForm):
        return


def _around(text: str, said: Sequence[_Said]) -> Iterator[str]:
    """The text without the values, a space for each."""
    end = 0
    for one in said:
        yield text[end : one.start] + " "
        end = one.end
    yield text[end:]


def _stands_first(text: str, one: _Said) -> bool:
    """Whether nothing precedes the verdicts, and no sentence goes on after them on their line."""
    rest_of_line = text[one.end :].partition("\n")[0]
    return not _WRAPPING.sub("", text[: one.start]) and not _WRAPPING.sub("", rest_of_line)


def _is_copied(text: str, one: _Said, critique: str) -> bool:
    return "".join(text[one.start : one.end].split()) in "".join(critique.split())


def _is_quoted(text: str, one: _Said, critique: str) -> bool:
    before, after = text[: one.start], text[one.end :]
    if _is_copied(text, one, critique):
        return True
    line = before[before.rfind("\n") + 1 :]
    if line.lstrip().startswith((">", "|")):
        return True
    opening, closing = line.rstrip()[-1:], after.lstrip(" \t")[:1]
    fenced = line.rstrip().endswith("```")
    if opening in _QUOTES and _QUOTES[opening] == closing and not fenced:
        return True
    if _CLOSING_THOUGHT.search(after):
        return True
    inside: list[str] = []
    for tag in _TAG.finditer(before):
        name = tag[2].lower()
        if not tag[1]:
            inside.append(name)
        elif name in inside:
            del inside[inside.index(name) :]
    return bool(inside)
