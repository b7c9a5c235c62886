"""What the participants answered: three rates of agreement, and how far they agree with each other."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from lvlm_va.errors import ConfigError
from lvlm_va.evaluate.statistics import wilson
from lvlm_va.io.files import write_atomically
from lvlm_va.report.figures import say_verdict
from lvlm_va.run.directory import disk_error
from lvlm_va.study.agreement import krippendorff
from lvlm_va.study.answers import Answer, Participant, read_answers
from lvlm_va.study.intervals import cluster_bootstrap
from lvlm_va.study.key import Asked, Study, read_study
from lvlm_va.study.kinds import AFTER, BEFORE, EXPLANATIONS, KINDS, RELEVANCE
from lvlm_va.study.tell import tell_analysis

__all__ = ["Analysis", "agrees", "analyse_answers", "analyse_study"]

ROLES = ("expert", "other")


@dataclass(frozen=True)
class Analysis:
    """An analysis that was written.

    Attributes:
        findings: what analysis.json says.
        text: what analysis.md says.
        json, markdown: the two files.
    """

    findings: dict[str, Any]
    text: str
    json: Path
    markdown: Path


def analyse_study(study: Path, answers: Sequence[Path], out: Path | None = None) -> Analysis:
    """Merge the answers of all participants and write analysis.json and analysis.md.

    Args:
        study: the study.json that was written with the page.
        answers: one file for each participant.
        out: folder to write to; that of `study` if None.

    Raises:
        ConfigError: if no file of answers is given.
        DataError: if a file cannot be read, is of another study, or is the second of a participant.
    """
    if not answers:
        raise ConfigError("give at least one file of answers")
    key = read_study(study)
    findings = analyse_answers(key, read_answers(key, answers))
    text = tell_analysis(findings)
    folder = study.parent if out is None else out
    files = folder / "analysis.json", folder / "analysis.md"
    contents = json.dumps(findings, indent=2, allow_nan=False, ensure_ascii=False) + "\n", text
    for path, content in zip(files, contents, strict=True):
        try:
            write_atomically(path, content.encode())
        except OSError as error:
            raise disk_error(path, error) from None
    return Analysis(findings, text, *files)


def analyse_answers(study: Study, people: Sequence[Participant]) -> dict[str, Any]:
    """Everything that is counted, JSON-able.

    An answer that decides nothing ("I cannot tell", "no difference") counts against agreement in `rate`, and
    not at all in `rate_decided`; an open question counts in neither. Between participants "I cannot tell" is
    a missing answer and "no difference" an answer.

    Args:
        study: what was asked.
        people: at least one participant.
    """
    kinds = [kind for kind in KINDS if any(q.kind == kind for q in study.questions)]

    def by_kind(people: Sequence[Participant], asked: Sequence[Asked] = study.questions) -> dict[str, Any]:
        of_kind = {kind: [q for q in asked if q.kind == kind] for kind in kinds}
        return {kind: _rate(questions, people) for kind, questions in of_kind.items() if questions}

    return {
        "format": 1,
        "study": study.fingerprint,
        "runs": [run.model_dump() for run in study.runs],
        "questions_asked": len(study.questions),
        "participants": [_participant(study, person, kinds) for person in people],
        "rates": by_kind(people),
        "by_role": {
            role: by_kind(group) for role in ROLES if (group := [one for one in people if one.role == role])
        },
        "by_verdict": {
            say_verdict(verdict): by_kind(people, [q for q in study.questions if q.spurious is verdict])
            for verdict in (True, False)
        },
        "by_run": [
            by_kind(people, [q for q in study.questions if q.run == n]) for n in range(len(study.runs))
        ],
        "between_participants": {kind: _between(study, people, kind) for kind in kinds},
        "sides": _sides(study, people),
        "questions": [_question(question, people) for question in study.questions],
    }


def agrees(question: Asked, value: str) -> bool:
    """Whether an answer agrees: with the critic's verdict, with its reasoning, with the aligned model."""
    if question.kind == RELEVANCE:
        return value == ("spurious" if question.spurious else "relevant")
    return value == (AFTER if question.kind == EXPLANATIONS else "agree")


def _given(question: Asked, people: Sequence[Participant]) -> list[tuple[Participant, Answer]]:
    """Who answered a question, and what."""
    found = [(person, person.answers.get(question.id)) for person in people]
    return [(person, answer) for person, answer in found if answer is not None and answer.value is not None]


def _decided(question: Asked, value: str | None) -> bool:
    return value is not None and value not in KINDS[question.kind].undecided


def _rate(questions: Sequence[Asked], people: Sequence[Participant]) -> dict[str, Any]:
    """Over some questions of one kind."""
    agreeing: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    values: Counter[str] = Counter()
    decided = 0
    for question in questions:
        for person, answer in _given(question, people):
            assert answer.value is not None
            answers[person.code] += 1
            agreeing[person.code] += agrees(question, answer.value)
            decided += _decided(question, answer.value)
            values[answer.value] += 1
    k, n = agreeing.total(), answers.total()
    codes = [person.code for person in people]
    return {
        "rate": k / n if n else None,
        "wilson": wilson(k, n) if n else None,
        "over_participants": cluster_bootstrap([agreeing[c] for c in codes], [answers[c] for c in codes]),
        "rate_decided": k / decided if decided else None,
        "agreeing": k,
        "decided": decided,
        "answers": n,
        "missing": len(questions) * len(people) - n,
        "participants": sum(answers[code] > 0 for code in codes),
        "values": dict(sorted(values.items())),
    }


def _participant(study: Study, person: Participant, kinds: Sequence[str]) -> dict[str, Any]:
    seconds = [answer.seconds for answer in person.answers.values() if answer.value is not None]
    rates = {kind: _rate([q for q in study.questions if q.kind == kind], [person]) for kind in kinds}
    return {
        "code": person.code,
        "role": person.role,
        "answers": len(seconds),
        "missing": len(study.questions) - len(seconds),
        "median_seconds": median(seconds) if seconds else None,
        "rates": {kind: rate["rate"] for kind, rate in rates.items()},
    }


def _between(study: Study, people: Sequence[Participant], kind: str) -> dict[str, Any]:
    keep_undecided = kind == EXPLANATIONS
    return asdict(
        krippendorff(
            [
                [a.value for _, a in _given(q, people) if keep_undecided or _decided(q, a.value)]
                for q in study.questions
                if q.kind == kind
            ]
        )
    )


def _sides(study: Study, people: Sequence[Participant]) -> dict[str, int]:
    """How often the left of two explanations was preferred, whichever it was: about half, or it was habit."""
    chosen = [
        (answer.value, answer.left)
        for question in study.questions
        for _, answer in _given(question, people)
        if answer.value in (BEFORE, AFTER) and answer.left is not None
    ]
    return {"left": sum(value == left for value, left in chosen), "decided": len(chosen)}


def _question(question: Asked, people: Sequence[Participant]) -> dict[str, Any]:
    rate = _rate([question], people)
    given = _given(question, people)
    return question.model_dump(exclude={"tokens"}) | {
        "agreeing": rate["agreeing"],
        "answers": rate["answers"],
        "missing": rate["missing"],
        "rate": rate["rate"],
        "values": rate["values"],
        "median_seconds": median(answer.seconds for _, answer in given) if given else None,
        "comments": [
            {"code": person.code, "comment": answer.comment}
            for person in people
            if (answer := person.answers.get(question.id)) is not None and answer.comment
        ],
    }
