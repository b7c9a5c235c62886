"""The oracle: answers from the ground truth of the planted feature. For upper bounds only."""

import time
from typing import Literal

from lvlm_va.critique.backends.line_judge import judge_by_lines
from lvlm_va.critique.question import Question, Reply
from lvlm_va.critique.verdict_lines import format_line
from lvlm_va.errors import CriticError

__all__ = ["GroundTruthBackend"]

_LEAST_MIXED, _MOST_MIXED = 0.01, 0.5
"""Shares of a segment that the feature covers, between which it is mixed."""


class GroundTruthBackend:
    """A segment is spurious when it holds at least one pixel of the planted feature (Table 1).

    Whether that pixel carries attribution does not matter: the verdict is about what the segment covers,
    and the mask A penalises all of it. Where a segment may be mixed, it is if the feature covers at least
    1 % and less than half of it: less nobody would see, and with more there is little else to keep.
    """

    name = "ground-truth"
    kind: Literal["oracle"] = "oracle"

    async def answer(self, question: Question) -> Reply:
        """Answer from `question.explained.spurious` (critic) or the critique's verdict lines (judge).

        Raises:
            CriticError: if the image has no ground truth.
        """
        started = time.perf_counter()
        text = _critique(question) if question.stage == "critic" else judge_by_lines(question)
        return Reply(text, self.name, usd=0.0, seconds=time.perf_counter() - started)

    async def close(self) -> None:
        """Nothing to release."""


def _critique(question: Question) -> str:
    explained = question.explained
    if explained.spurious is None:
        raise CriticError(
            f"the ground-truth critic needs to know where the planted feature is, and image "
            f"{explained.image_id} has no such mask; use another critic for these images"
        )
    lines = ["ORACLE. Read from the ground truth of the planted feature; nobody looked at the image."]
    planted = int(explained.spurious.sum())
    for mark in question.segment_ids:
        held = int((explained.spurious & (explained.segments == mark)).sum())
        reason = f"segment {mark} holds {held} of {planted} planted pixels"
        covered = held / int((explained.segments == mark).sum())
        mixed = question.mixed and _LEAST_MIXED <= covered < _MOST_MIXED
        lines.append(format_line(mark, None if mixed else held > 0, reason))
    return "\n".join(lines)
