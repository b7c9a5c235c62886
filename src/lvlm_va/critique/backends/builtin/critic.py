"""The built-in critic: measures what an LVLM would look at, and answers in the same form.

It needs no key, no hub and no network. It is *not* a vision-language model, and says so.
"""

import time
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lvlm_va.critique.backends.builtin.assessment import assess
from lvlm_va.critique.backends.builtin.language import names_it, write_critique
from lvlm_va.critique.backends.builtin.weighing import Scales
from lvlm_va.critique.backends.line_judge import judge_by_lines
from lvlm_va.critique.question import ExplainedImage, Intervention, Question, Reply
from lvlm_va.vision.letters import why_not_read
from lvlm_va.vision.measures import Measures
from lvlm_va.vision.regions import Scene
from lvlm_va.vision.scenes import seen

__all__ = ["BuiltinCritic", "criticise", "thing_named"]

_MODEL = "builtin measurement (not an LVLM)"


class BuiltinCritic:
    """A `Backend` that measures segments and weighs them against the class specification.

    As a critic it measures `question.explained`'s image, segments, attribution and shares (never its ground
    truth) and writes a critique in six steps. As a judge it reads the verdict lines of the critique in
    `question.prompt`, and nothing else; a segment without such a line gets no verdict.
    """

    name = "builtin"
    kind: Literal["lvlm", "measurement", "oracle"] = "measurement"

    def __init__(self) -> None:
        self._scales: dict[tuple[str, Intervention], Scales] = {}

    async def answer(self, question: Question) -> Reply:
        """Answer one question, free of charge.

        Raises:
            CriticError: if the package with the sentence encoder's weights is not installed.
        """
        start = time.perf_counter()
        text = self._criticise(question) if question.stage == "critic" else judge_by_lines(question)
        return Reply(text=text, model=_MODEL, usd=0.0, seconds=time.perf_counter() - start)

    async def close(self) -> None:
        """Nothing to release."""

    def _criticise(self, question: Question) -> str:
        explained, specification = question.explained, question.specification
        key = (specification.version, question.intervene)
        if key not in self._scales:
            self._scales[key] = Scales(specification, question.intervene)
        scales = self._scales[key]
        scene, measures = seen(explained.image)
        return criticise(explained, scene, scales, measures)


def criticise(
    explained: ExplainedImage, scene: Scene, scales: Scales, known: tuple[Measures, ...] | None = None
) -> str:
    """The critique of an image, given what is in it, and the words to weigh that against; see `assess`."""
    measures, findings = assess(explained, scene, scales, known)
    return write_critique(explained, measures, findings, scales.wishes, letters=why_not_read(explained.image))


def thing_named(explained: ExplainedImage, reasons: Sequence[str]) -> list[NDArray[np.bool_] | None]:
    """Where the things lie that these reasons of the built-in critic for verdicts on one image name.

    Returns:
        (H, W) bool for each reason: the regions of that name; None where no region of the image has it.
    """
    scene, measures = seen(explained.image)
    measured = [(region.mask, m) for region, m in zip(scene.regions, measures, strict=True)]
    found: list[NDArray[np.bool_] | None] = []
    for reason in reasons:
        masks = [mask for mask, m in measured if names_it(reason, m)]
        found.append(np.logical_or.reduce(masks) if masks else None)
    return found
