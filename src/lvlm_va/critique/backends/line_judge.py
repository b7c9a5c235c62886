"""The judge of critics that are no language model: it reads the verdict lines of a critique, nothing else."""

import json

from lvlm_va.critique.prompts import enclosed
from lvlm_va.critique.question import Question
from lvlm_va.critique.verdict_form import MIXED
from lvlm_va.critique.verdict_lines import parse_lines

__all__ = ["judge_by_lines"]


def judge_by_lines(question: Question) -> str:
    """The answer that a judge is asked for, from the lines of the critique in `question.prompt`.

    A segment without such a line gets no verdict.
    """
    lines = parse_lines(
        enclosed("critique", question.prompt) or "", question.segment_ids, mixed=question.mixed
    )
    verdicts = [
        {"segment": segment, "spurious": MIXED if spurious is None else spurious, "reason": reason}
        for segment, (spurious, reason) in sorted(lines.items())
    ]
    return json.dumps({"verdicts": verdicts}, ensure_ascii=False)
