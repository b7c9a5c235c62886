"""What a vision-language model would ask for the critiques that a run made without one."""

from dataclasses import dataclass

from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.estimate import Estimate
from lvlm_va.critique.examples import load_examples
from lvlm_va.critique.judge import judge_question
from lvlm_va.critique.pricing import price_usd
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.rendering import render
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.critique.tokens import expected_tokens, input_tokens

__all__ = ["MODELS", "Offer", "offers"]

MODELS = ("gpt-4o", "gpt-4o-mini")
"""Models of which a reader is told the price."""


@dataclass(frozen=True)
class Offer:
    """A model, and what it would probably take."""

    model: str
    estimate: Estimate


def offers(explained: ExplainedImage, specification: str, images: int) -> list[Offer]:
    """Estimate the critique of `images` images from one that stands for all.

    Args:
        explained: that image.
        specification: the words of its class specification.
        images: how many.
    """
    critic = critic_question(
        explained, ClassSpecification(explained.class_name, specification), render(explained)
    )
    critique = "word " * expected_tokens(critic)  # stands for a text not yet written
    judge = judge_question(critic, critique, load_examples())
    answered = images * (expected_tokens(critic) + expected_tokens(judge))
    found = []
    for model in MODELS:
        asked = images * (input_tokens(critic, model) + input_tokens(judge, model))
        usd = price_usd(model, asked, answered, prices={})
        found.append(Offer(model, Estimate(images, images, asked, answered, usd)))
    return found
