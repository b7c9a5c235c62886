"""The judge h: critique text in, one binary verdict per segment out (Sec. 4.1).

The judge knows no class and sees no image. Its answer is data, read in `verdict_answer`. What has no
verdict after that is *unscored*.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lvlm_va.critique.examples import Example
from lvlm_va.critique.prompts import delimit, fill, prompt_key
from lvlm_va.critique.question import Background, Question
from lvlm_va.critique.verdict_answer import LONGEST_ANSWER, Judgement, read_judgement

__all__ = [
    "JUDGE_PARAMETERS",
    "Judgement",
    "judge_question",
    "judge_schema",
    "read_judgement",
    "repair_question",
]

JUDGE_PARAMETERS: Mapping[str, Any] = {"temperature": 0, "max_tokens": 2048}
"""What the judge is asked with unless the user says otherwise."""


def judge_question(
    critic_question: Question,
    critique: str,
    examples: Sequence[Example],
    parameters: Mapping[str, Any] = JUDGE_PARAMETERS,
    background: Background = "valid",
) -> Question:
    """Ask which of the offered segments the critique condemns.

    The examples stand in the system prompt, so that the critique is the only text with verdicts in the
    user prompt: that is what a judge without a language model reads. Where a critic may allow what is not
    relevant, empty `background`, the judge is told that this, too, is no condemnation.
    """
    system = fill(
        "judge_system",
        relevant="relevant or allowed" if background == "valid" else "relevant",
        examples="\n\n".join(example.text for example in examples),
    )
    segment_ids = ", ".join(map(str, critic_question.segment_ids))
    key = prompt_key(system, critique, segment_ids)
    return Question(
        stage="judge",
        explained=critic_question.explained,
        specification=critic_question.specification,
        system=system,
        prompt=fill("judge_user", critique=delimit("critique", critique, key), segment_ids=segment_ids),
        images=(),
        segment_ids=critic_question.segment_ids,
        schema=judge_schema(critic_question.segment_ids),
        parameters=parameters,
    )


def repair_question(question: Question, critique: str, answer: str, problem: str) -> Question:
    """Ask once more, showing the judge its unusable answer and what was wrong with it."""
    answer = answer[:LONGEST_ANSWER]
    segment_ids = ", ".join(map(str, question.segment_ids))
    key = prompt_key(question.system, critique, answer, problem, segment_ids)
    return Question(
        stage="judge",
        explained=question.explained,
        specification=question.specification,
        system=question.system,
        prompt=fill(
            "judge_repair",
            critique=delimit("critique", critique, key),
            answer=delimit("answer", answer, key),
            problem=delimit("problem", problem, key),
            segment_ids=segment_ids,
        ),
        images=(),
        segment_ids=question.segment_ids,
        schema=question.schema,
        parameters=question.parameters,
    )


def judge_schema(segment_ids: Sequence[int]) -> dict[str, Any]:
    """JSON schema of the judge's answer, in the subset that strict structured output accepts."""
    line = {
        "type": "object",
        "properties": {
            "segment": {"type": "integer", "enum": list(segment_ids)},
            "spurious": {"type": "boolean"},
            "reason": {"type": "string"},
        },
        "required": ["segment", "spurious", "reason"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"verdicts": {"type": "array", "items": line}},
        "required": ["verdicts"],
        "additionalProperties": False,
    }
