"""The judge h: critique text in, one binary verdict per segment out (Section 4.2, "Judge").

The judge knows no class and sees no picture. Its answer is data: it counts only where it is one JSON
object of the agreed form about the marks that were offered. What is left after that is *unscored*.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, StrictBool, StrictInt, StrictStr, ValidationError

from lvlm_va.critique.examples import Example
from lvlm_va.critique.prompts import delimit, fill
from lvlm_va.critique.question import Question, as_text

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

_LONGEST_ANSWER = 100_000  # characters; no judgement is longer, and scanning more invites mischief


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")
    segment: StrictInt
    spurious: StrictBool
    reason: StrictStr


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    verdicts: list[_Line]


@dataclass(frozen=True)
class Judgement:
    """What a judge's answer says about the offered marks; each is in exactly one of the two mappings.

    Attributes:
        verdicts: segment → (spurious, reason).
        problems: segment → why it has no verdict.
    """

    verdicts: Mapping[int, tuple[bool, str]] = field(default_factory=dict)
    problems: Mapping[int, str] = field(default_factory=dict)


def judge_question(
    critic_question: Question,
    critique: str,
    examples: Sequence[Example],
    parameters: Mapping[str, Any] = JUDGE_PARAMETERS,
) -> Question:
    """Ask which of the offered segments the critique condemns.

    The examples stand in the system prompt, so that the critique is the only text with verdicts in the
    user prompt: that is what a judge without a language model reads.
    """
    return Question(
        stage="judge",
        subject=critic_question.subject,
        specification=critic_question.specification,
        system=fill("judge_system", examples="\n\n".join(example.text for example in examples)),
        prompt=fill(
            "judge_user",
            critique=delimit("critique", critique),
            marks=", ".join(map(str, critic_question.marks)),
        ),
        pictures=(),
        marks=critic_question.marks,
        schema=judge_schema(critic_question.marks),
        parameters=parameters,
    )


def repair_question(question: Question, critique: str, answer: str, problem: str) -> Question:
    """Ask once more, showing the judge its unusable answer and what was wrong with it."""
    return Question(
        stage="judge",
        subject=question.subject,
        specification=question.specification,
        system=question.system,
        prompt=fill(
            "judge_repair",
            critique=delimit("critique", critique),
            answer=delimit("answer", answer[:_LONGEST_ANSWER]),
            problem=problem,
            marks=", ".join(map(str, question.marks)),
        ),
        pictures=(),
        marks=question.marks,
        schema=question.schema,
        parameters=question.parameters,
    )


def judge_schema(marks: Sequence[int]) -> dict[str, Any]:
    """JSON schema of the judge's answer, in the subset that strict structured output accepts."""
    line = {
        "type": "object",
        "properties": {
            "segment": {"type": "integer", "enum": list(marks)},
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


def read_judgement(text: str, marks: Collection[int]) -> Judgement:
    """Read a judge's answer. Never raises, and never yields a verdict about a mark not offered.

    Of several JSON objects the last one counts that has the agreed form and names offered marks only (an
    answer that also names others has lost count, so none of its verdicts can be trusted). Within it, a
    mark that occurs twice or not at all has no verdict; the others keep theirs.
    """
    if len(text) > _LONGEST_ANSWER:
        return _nothing(marks, f"the judge's answer is longer than {_LONGEST_ANSWER:,} characters")
    problem = "the judge's answer holds no readable JSON object"
    answer: _Answer | None = None
    for candidate in _objects(text):
        try:
            read = _Answer.model_validate(candidate)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            problem = f"the judge's answer has the wrong form at {_path(first['loc'])}: {first['msg']}"
            continue
        if any(line.segment not in marks for line in read.verdicts):
            problem = "the judge's answer names a segment that was not offered"
            continue
        answer = read
    if answer is None:
        return _nothing(marks, problem)

    verdicts: dict[int, tuple[bool, str]] = {}
    problems: dict[int, str] = {}
    for mark in marks:
        lines = [line for line in answer.verdicts if line.segment == mark]
        if len(lines) == 1:
            verdicts[mark] = (lines[0].spurious, as_text(lines[0].reason))
        else:
            problems[mark] = (
                f"the judge gave {len(lines)} verdicts" if lines else "the judge gave no verdict"
            ) + f" on segment {mark}"
    return Judgement(verdicts, problems)


def _nothing(marks: Collection[int], problem: str) -> Judgement:
    return Judgement(problems=dict.fromkeys(marks, problem))


def _path(location: tuple[int | str, ...]) -> str:
    """Where the form is wrong, in our words: this goes into a prompt, the answer's own keys must not."""
    known = {*_Answer.model_fields, *_Line.model_fields}
    parts = [str(part) if isinstance(part, int) or part in known else "an unknown key" for part in location]
    return ".".join(parts) or "the top"


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The outermost JSON objects in `text`, in order, whatever stands around them."""
    decoder = json.JSONDecoder(object_pairs_hook=_unique)
    start = text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except ValueError:
            end = start + 1
        except RecursionError:
            return  # nested beyond all reason; trying every level of it would take minutes
        else:
            yield value
        start = text.find("{", end)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key occurs twice: which one counts would be a guess")
    return dict(pairs)
