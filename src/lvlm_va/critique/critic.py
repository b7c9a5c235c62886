"""The critic g: how it is asked (Sec. 4.1, "Generating LVLM-based Alignment Verdicts")."""

from collections.abc import Mapping
from typing import Any

from lvlm_va.critique.prompts import delimit, fill, prompt_key
from lvlm_va.critique.question import Background, CaptionedImage, ExplainedImage, Intervention, Question
from lvlm_va.critique.specification import ClassSpecification

__all__ = ["CRITIC_PARAMETERS", "critic_question"]

CRITIC_PARAMETERS: Mapping[str, Any] = {"temperature": 0, "max_tokens": 4096, "detail": "high"}
"""What the critic is asked with unless the user says otherwise."""


def critic_question(
    explained: ExplainedImage,
    specification: ClassSpecification,
    images: tuple[CaptionedImage, ...],
    parameters: Mapping[str, Any] = CRITIC_PARAMETERS,
    intervene: Intervention = "spurious",
    background: Background = "valid",
    mixed: bool = False,
) -> Question:
    """Ask for a critique of one explanation, in six steps, steered by the class specification alone.

    Args:
        explained: the explained image.
        specification: V_k of `explained.class_name`.
        images: original, segment map, overlay; empty for a backend that measures the explained image itself.
        parameters: sampling parameters and image detail.
        intervene: how much it is to condemn; decides step 5 and nothing else of the prompt.
        background: what empty background is; the same. Under "core" it is condemned in any case.
        mixed: whether it may call a segment mixed; adds to step 6 and changes nothing else.
    """
    shares = [f"- segment {j}: {explained.shares[j - 1]:.0%}" for j in explained.segment_ids]
    key = prompt_key(
        explained.class_name,
        explained.predicted,
        explained.explains,
        specification.text,
        *shares,
        *(f"{image.caption} {image.sha256}" for image in images),
    )
    allows = intervene == "spurious" and background == "valid"
    answered = explained.explains == explained.predicted
    return Question(
        stage="critic",
        explained=explained,
        specification=specification,
        system=fill("critic_system"),
        prompt=fill(
            "critic_user",
            class_name=delimit("class", explained.class_name, key),
            predicted=delimit("class", explained.predicted, key),
            specification=delimit("specification", specification.text, key),
            explains="the classifier's answer" if answered else "the true class, which it did not answer",
            shares="\n".join(shares),
            segment_ids=", ".join(map(str, explained.segment_ids)),
            step_5=fill(f"critic_step_5_{intervene}{'_background' if allows else ''}"),
            mixed="\n" + fill("critic_mixed") if mixed else "",
        ),
        images=images,
        segment_ids=explained.segment_ids,
        parameters=parameters,
        intervene=intervene,
        mixed=mixed,
    )
