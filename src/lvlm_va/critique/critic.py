"""The critic g: how it is asked (Section 4.2, "Critic")."""

from collections.abc import Mapping
from typing import Any

from lvlm_va.critique.prompts import delimit, fill, prompt_key
from lvlm_va.critique.question import Picture, Question, Subject
from lvlm_va.critique.specification import ClassSpecification

__all__ = ["CRITIC_PARAMETERS", "critic_question"]

CRITIC_PARAMETERS: Mapping[str, Any] = {"temperature": 0, "max_tokens": 4096, "detail": "high"}
"""What the critic is asked with unless the user says otherwise."""


def critic_question(
    subject: Subject,
    specification: ClassSpecification,
    pictures: tuple[Picture, ...],
    parameters: Mapping[str, Any] = CRITIC_PARAMETERS,
) -> Question:
    """Ask for a critique of one explanation, in six steps, steered by the class specification alone.

    Args:
        subject: the explained picture.
        specification: V_k of `subject.class_name`.
        pictures: original, segment map, overlay; empty for a backend that measures the subject itself.
        parameters: sampling parameters and picture detail.
    """
    shares = [f"- segment {j}: {subject.shares[j - 1]:.0%}" for j in subject.marks]
    key = prompt_key(
        subject.class_name,
        subject.predicted,
        specification.text,
        *shares,
        *(f"{picture.caption} {picture.sha256}" for picture in pictures),
    )
    return Question(
        stage="critic",
        subject=subject,
        specification=specification,
        system=fill("critic_system"),
        prompt=fill(
            "critic_user",
            class_name=delimit("class", subject.class_name, key),
            predicted=delimit("class", subject.predicted, key),
            specification=delimit("specification", specification.text, key),
            shares="\n".join(shares),
            marks=", ".join(map(str, subject.marks)),
        ),
        pictures=pictures,
        marks=subject.marks,
        parameters=parameters,
    )
