"""The judge h: critique text in, one binary verdict per segment out (Sec. 4.1).

The judge knows no class and sees no image. Its answer is data, read in `verdict_answer`. What has no
verdict after that is *unscored*.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lvlm_va.critique.examples import Example
from lvlm_va.critique.prompts import delimit, fill, prompt_key
from lvlm_va.critique.question import Background, Question
from lvlm_va.critique.verdict_answer import LONGEST_ANSWER, Judgement, read_judgement
from lvlm_va.critique.verdict_form import MIXED

__all__ = [
    "JUDGE_PARAMETERS",
    "Judgement",
    "allows_mixed",
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
    *,
    mixed: bool = False,
) -> Question:
    """Ask which of the offered segments the critique condemns.

    The examples stand in the system prompt, so that the critique is the only text with verdicts in the
    user prompt: that is what a judge without a language model reads.

    Args:
        critic_question: what the critic was asked.
        critique: what it answered.
        examples: critiques and their verdicts.
        parameters: sampling parameters.
        background: where a critic may allow what is not relevant, empty background, the judge is told that
            this, too, is no condemnation.
        mixed: whether a segment may be mixed.
    """
    system = fill(
        "judge_system",
        relevant="relevant or allowed" if background == "valid" else "relevant",
        examples="\n\n".join(example.text for example in examples),
        mixed="\n" + fill("judge_mixed") if mixed else "",
        answers='true, false or "mixed"' if mixed else "true or false",
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
        schema=judge_schema(critic_question.segment_ids, mixed=mixed),
        parameters=parameters,
        mixed=mixed,
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
        mixed=question.mixed,
    )


def judge_schema(segment_ids: Sequence[int], *, mixed: bool = False) -> dict[str, Any]:
    """JSON schema of the judge's answer, in the subset that strict structured output accepts."""
    spurious: dict[str, Any] = {"type": "boolean"}
    if mixed:
        spurious = {"anyOf": [spurious, {"type": "string", "enum": [MIXED]}]}
    line = {
        "type": "object",
        "properties": {
            "segment": {"type": "integer", "enum": list(segment_ids)},
            "spurious": spurious,
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


def allows_mixed(schema: Mapping[str, Any] | None) -> bool:
    """Whether a judge that was asked with this schema may call a segment mixed."""
    return schema is not None and f'"{MIXED}"' in json.dumps(schema)
