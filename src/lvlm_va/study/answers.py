"""The files that participants send back, checked against the study before anything is counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lvlm_va.errors import DataError
from lvlm_va.study.key import Asked, Study, explain_invalid, read_json
from lvlm_va.study.kinds import EXPLANATIONS, KINDS

__all__ = ["Answer", "Participant", "read_answers"]


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        value: what was meant: of a comparison "before", "after" or "no difference", wherever the images
            stood; None where the question was left open.
        seconds: that the question was in view.
        comment: the participant's words, or "".
        left: of a comparison, which explanation stood on the left; None where that was not recorded.
    """

    value: str | None
    seconds: float
    comment: str
    left: str | None


@dataclass(frozen=True)
class Participant:
    """One file.

    Attributes:
        code: the participant's.
        role: "expert" or "other".
        answers: question → answer; questions that were never seen are missing.
        path: of the file.
    """

    code: str
    role: str
    answers: Mapping[str, Answer]
    path: Path


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Entry(_Strict):
    question: str
    answer: str | None
    seconds: Annotated[float, Field(ge=0)]
    comment: str = ""
    sides: tuple[str, str] | None = None


class _File(_Strict):
    format: Literal[1]
    study: str
    code: Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9_-]+$")]
    role: Literal["expert", "other"]
    answers: list[_Entry]


def read_answers(study: Study, paths: Sequence[Path]) -> list[Participant]:
    """Read the files of all participants, in the order of their codes.

    Raises:
        DataError: naming the file, if one cannot be read, is of another study, answers what was not asked,
            or is the second of a participant.
    """
    found: dict[str, Participant] = {}
    for path in paths:
        participant = _read(study, path)
        if participant.code in found:
            raise DataError(
                f"{path}: participant {participant.code!r} is already in {found[participant.code].path}; "
                "give one file for each, the last that was saved"
            )
        found[participant.code] = participant
    return [found[code] for code in sorted(found)]


def _read(study: Study, path: Path) -> Participant:
    text = read_json(path, missing="no such file of answers")
    try:
        file = _File.model_validate_json(text)
    except ValidationError as error:
        raise DataError(f"{path}: is not a file of answers ({explain_invalid(error)})") from None
    if file.study != study.fingerprint:
        raise DataError(
            f"{path}: answers another study ({file.study[:40]}) than {study.fingerprint}; give the "
            "study.json that was written together with its page"
        )
    asked = {question.id: question for question in study.questions}
    answers: dict[str, Answer] = {}
    for entry in file.answers:
        where = f"{path}: question {entry.question!r}"
        if entry.question not in asked:
            raise DataError(f"{where} is not part of the study; the file was changed, ask for it again")
        if entry.question in answers:
            raise DataError(f"{where} is answered twice; the file was changed, ask for it again")
        answers[entry.question] = _answer(asked[entry.question], entry, where)
    return Participant(file.code, file.role, answers, path)


def _answer(question: Asked, entry: _Entry, where: str) -> Answer:
    """Say it in absolute terms."""
    values = {value: value for value, _ in KINDS[question.kind].options}
    if question.kind == EXPLANATIONS:
        values = {value: value for value in KINDS[question.kind].undecided} | dict(question.tokens)
    if entry.answer is not None and entry.answer not in values:
        raise DataError(f"{where} is answered with {entry.answer[:40]!r}, which was not offered")
    left = None
    if entry.sides is not None:
        if set(entry.sides) != set(question.tokens):
            raise DataError(f"{where} names other images than were shown")
        left = question.tokens[entry.sides[0]]
    value = None if entry.answer is None else values[entry.answer]
    return Answer(value, entry.seconds, entry.comment.strip(), left)
