"""What a reasoning model thinks aloud before it answers, told apart from its answer.

Where a server does not take the thoughts out, they open the text between a pair of marks that differs from
model to model. Some chat templates write the opening mark themselves, so that the text begins with thoughts
and holds the closing mark alone.
"""

import re

from lvlm_va.critique.verdict_lines import line_segments

__all__ = ["THOUGHT_TOO_LONG", "opening_thought", "split_thought"]

THOUGHT_TOO_LONG = "its thinking took"
"""How the problem of an answer begins for which thinking left too few tokens; with more it may come."""

_NAMES = r"think|thinking|thought|thoughts|reasoning|reflection|analysis|scratchpad"
_PAIRS = (
    (re.compile(rf"\s*+<(?:{_NAMES})>", re.I), re.compile(rf"</(?:{_NAMES})>", re.I)),
    (re.compile(r"\s*+\[THINK\]"), re.compile(r"\[/THINK\]")),  # Magistral
    (re.compile(r"\s*+◁think▷"), re.compile(r"◁/think▷")),  # Kimi-VL
    (re.compile(r"\s*+<unused94>"), re.compile(r"<unused95>")),  # MedGemma
    (re.compile(r"\s*+<seed:think>"), re.compile(r"</seed:think>")),
    (
        re.compile(r"\s*+(?:<\|start\|>assistant)?<\|channel\|>\s*(?:analysis|commentary)\s*<\|message\|>"),
        re.compile(r"<\|channel\|>\s*final\s*<\|message\|>"),
    ),  # gpt-oss
)
_CLOSING_LINE = re.compile(r"^[ \t]*(?:</think(?:ing)?>|\[/THINK\]|◁/think▷)[ \t]*$", re.M)
_OPENING_ANYWHERE = re.compile(r"<think(?:ing)?>|\[THINK\]|◁think▷")


def split_thought(text: str) -> tuple[str, str | None]:
    """The thoughts that open a text, and the answer after them.

    Only thoughts that open the text count: a mark further on may be quoted. They end at the first closing
    mark, so that whatever contradicts the answer stays visible in it. Without an opening mark the closing one
    must stand alone on its line and be the only one, with no verdict line before it.

    Returns:
        (thoughts or "", the answer). The answer is None if the text ends before the thoughts do.
    """
    opened = opening_thought(text)
    if opened is not None:
        return opened
    closed = list(_CLOSING_LINE.finditer(text))
    if len(closed) == 1 and not _OPENING_ANYWHERE.search(text):
        before, after = text[: closed[0].start()], text[closed[0].end() :]
        if not any(line_segments(before)):
            return before, after
    return "", text


def opening_thought(text: str) -> tuple[str, str | None] | None:
    """As `split_thought`, of thoughts with an opening mark alone; None without one."""
    for opening, closing in _PAIRS:
        if found := opening.match(text):
            end = closing.search(text, found.end())
            if end is None:
                return text[found.end() :], None
            return text[found.end() : end.start()], text[end.end() :]
    return None
