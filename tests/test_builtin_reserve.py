"""What the built-in critic does not recognise it does not condemn, however the expert puts it."""

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from builtin_images import decoys
from lvlm_va.critique.backends.builtin import BuiltinCritic
from lvlm_va.critique.backends.builtin.phrases import read_wishes
from lvlm_va.critique.backends.builtin.weighing import unrecognised
from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.critique.unanswered import say_too_little, unscored_evidence
from lvlm_va.critique.verdict import Verdict
from lvlm_va.critique.verdict_lines import parse_lines

CRITIC = BuiltinCritic()
COMPLEMENTS = (
    "anything outside the lesion",
    "everything but the crack",
    "all that is not part of the animal",
    "whatever does not belong to the tumour",
    "anything not on the leaf",
    "all other regions",
    "everything else in the picture",
    "nothing but the cells matters",
)


def condemned(explained: ExplainedImage, *spurious: str, relevant: tuple[str, ...] = ()) -> set[int]:
    specification = ClassSpecification("it", "What is asked for.", relevant, spurious)
    reply = asyncio.run(CRITIC.answer(critic_question(explained, specification, ())))
    return {j for j, (bad, _) in parse_lines(reply.text, explained.segment_ids).items() if bad}


def tissue(seed: int, *, colour: bool = True, side: int = 112) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Blotches of several sizes, as skin, cells, stones or fur may look."""
    random = np.random.default_rng(seed)
    layers = [
        ndimage.gaussian_filter(random.normal(size=(side, side, 3 if colour else 1)), (s, s, 0)) * s * weight
        for s, weight in ((2, 12), (6, 40), (15, 90))
    ]
    hue = random.uniform(60, 200, 3 if colour else 1)
    levels = (hue + sum(layers)).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(levels, (side, side, 3)))


def explained(image: np.ndarray[Any, np.dtype[np.uint8]], attribution: Any = None) -> ExplainedImage:
    """In four quarters."""
    v, u = np.indices(image.shape[:2])
    half = image.shape[0] // 2
    segments = (1 + (v >= half) * 2 + (u >= half)).astype(np.int16)
    phi = np.ones(image.shape[:2], np.float32) if attribution is None else attribution
    return ExplainedImage("image", image, segments, phi, (0.25,) * 4, "it", "it")


@pytest.mark.parametrize("words", COMPLEMENTS)
def test_a_complement_condemns_no_tissue(words: str) -> None:
    for seed in range(4):
        for colour in (True, False):
            assert not condemned(explained(tissue(seed, colour=colour)), words)


@pytest.mark.parametrize(
    "words",
    ["healthy tissue", "uneven exposure", "a shadow", "no osteophytes", "not the lesion", "surrounding skin"],
)
def test_what_cannot_be_measured_condemns_nothing(words: str) -> None:
    for seed in range(4):
        assert not condemned(explained(tissue(seed)), words)


def test_a_complement_condemns_what_can_only_have_been_put_there() -> None:
    for decoy in decoys(6):
        assert condemned(decoy.explained(), "everything but the handwritten digit") == {2}


def dated() -> np.ndarray[Any, np.dtype[np.uint8]]:
    image = Image.fromarray(tissue(3, side=224))
    font = ImageFont.load_default(size=24)
    ImageDraw.Draw(image).text((118, 6), "2024 KL", fill=(255, 255, 255), font=font)
    return np.asarray(image).copy()


def test_writing_is_condemned_where_the_evidence_lies() -> None:
    image = dated()
    assert condemned(explained(image), "a date or other text") == {2}
    beside = np.ones((224, 224), np.float32)
    beside[:48] = 0
    assert condemned(explained(image, beside), "a date or other text") == set()


@given(
    st.sampled_from(["no", "not", "without", "absence of", "lack of"]), st.sampled_from(["text", "a patch"])
)
def test_a_negation_names_nothing(negation: str, thing: str) -> None:
    wishes = read_wishes(ClassSpecification("it", "It.", (f"{negation} {thing}", "a spot"), ()))
    assert [phrase.core for phrase in wishes.relevant] == ["a spot"]


def test_words_that_can_condemn_nothing_are_named() -> None:
    spurious = (
        "a lead marker",
        "uneven exposure",
        "anything that is not bone, whatever it is",
        "healthy skin",
    )
    assert unrecognised(ClassSpecification("it", "It.", (), spurious)) == spurious[1:]
    assert unrecognised(ClassSpecification("it", "It.", (), ("a flat grey patch", "all but the digit"))) == ()


def test_too_little_is_said() -> None:
    images = [explained(tissue(0))]
    verdicts = [Verdict("image", j, True if j == 1 else None, "", "builtin") for j in (1, 2, 3, 4)]
    share = unscored_evidence(images, verdicts)
    assert share == pytest.approx(0.75)
    assert say_too_little("builtin", share).startswith("75% of the evidence got no verdict")
    assert say_too_little("builtin", 0.5) == say_too_little("openai:gpt-4o", 1.0) == ""
    assert unscored_evidence([], []) is None
    assert say_too_little("builtin", None) == ""
