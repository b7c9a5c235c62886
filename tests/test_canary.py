"""The canary tells a critic that knows from one that guesses, misnumbers, or says nothing."""

import json
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest

from lvlm_va.critique.backends import make_backend
from lvlm_va.critique.canary import CanaryImage, canary_images, check
from lvlm_va.critique.question import Question, Reply
from lvlm_va.critique.rendering import render
from lvlm_va.errors import AnswerFailed, CriticError

IMAGES = {image.explained.image_id: image for image in canary_images()}
Answer = Callable[[CanaryImage, int], bool | None]


class Scripted:
    """A backend that answers by a rule; None leaves a mark out. Images are drawn for "lvlm" only."""

    name = "scripted"

    def __init__(
        self, rule: Answer, usd: float | None = 0.01, kind: Literal["lvlm", "measurement"] = "measurement"
    ) -> None:
        self.rule, self.usd, self.kind, self.questions = rule, usd, kind, []

    async def answer(self, question: Question) -> Reply:
        self.questions.append(question)
        image = IMAGES[question.explained.image_id]
        lines = [
            {"segment": j, "spurious": said, "reason": "so it looks"}
            for j in question.segment_ids
            if (said := self.rule(image, j)) is not None
        ]
        text = "a critique" if question.stage == "critic" else json.dumps({"verdicts": lines})
        return Reply(text, "scripted-1", 10, 10, self.usd, 0.0)

    async def close(self) -> None:
        pass


def truth(image: CanaryImage, j: int) -> bool:
    return image.spurious[j]


async def test_a_critic_that_knows_is_right_everywhere() -> None:
    backend = Scripted(truth)
    result = await check(backend, backend)
    assert result.images == result.images_right == 12
    assert result.right_share == 1
    assert result.failures == ()
    assert result.usd == pytest.approx(0.01 * len(backend.questions)) == pytest.approx(0.24)
    assert result.seconds > 0


async def test_the_critic_is_shown_what_a_run_shows_and_no_answers() -> None:
    backend = Scripted(truth, kind="lvlm")
    await check(backend, backend)
    critics = [question for question in backend.questions if question.stage == "critic"]
    assert len(critics) == 12
    for question in critics:
        assert question.images == render(question.explained)
        for words in IMAGES[question.explained.image_id].contents.values():
            assert words not in question.prompt + question.system


@pytest.mark.parametrize("name", ["ground-truth", "builtin"])
async def test_the_backends_that_need_no_network_are_right(name: str) -> None:
    backend = make_backend(name)
    result = await check(backend, backend)
    assert result.failures == ()
    assert result.right == result.segments == 36
    assert result.usd == 0


@pytest.mark.parametrize(
    "rule",
    [
        lambda image, j: True,
        lambda image, j: False,
        lambda image, j: j == 1,
        lambda image, j: j == len(image.spurious),
        lambda image, j: not truth(image, j),
    ],
    ids=["all spurious", "all valid", "the first", "the last", "the contrary"],
)
async def test_a_critic_that_does_not_look_is_found_out(rule: Answer) -> None:
    backend = Scripted(rule)
    result = await check(backend, backend)
    assert result.right_share < 0.75
    assert len(result.failures) == result.wrong == result.segments - result.right
    assert result.images_right <= 6


async def test_failures_are_told_in_words() -> None:
    backend = Scripted(lambda image, j: truth(image, j) and image.explained.image_id != "canary-05")
    result = await check(backend, backend)
    (failure,) = result.failures
    (mark,) = [j for j, spurious in IMAGES["canary-05"].spurious.items() if spurious]
    assert failure.startswith(f"canary-05: mark {mark} covers the grey square in the ")
    assert failure.endswith("corner and was called valid: so it looks")
    assert (result.wrong, result.unscored, result.images_right) == (1, 0, 11)


async def test_silence_is_unscored_not_right() -> None:
    backend = Scripted(lambda image, j: None if j == 1 else truth(image, j))
    result = await check(backend, backend)
    assert result.unscored == 12
    assert result.wrong == 0
    assert all("mark 1 covers" in failure and "was unscored: " in failure for failure in result.failures)


async def test_an_unknown_price_is_not_nothing() -> None:
    backend = Scripted(truth, usd=None, kind="lvlm")
    assert (await check(backend, backend)).usd is None


async def test_an_unreachable_critic_is_an_error() -> None:
    class Unreachable(Scripted):
        async def answer(self, question: Question) -> Reply:
            raise CriticError("nobody answers")

    backend = Unreachable(truth)
    with pytest.raises(CriticError, match="nobody answers"):
        await check(backend, backend)


async def test_single_failures_leave_their_marks_unscored() -> None:
    class Flaky(Scripted):
        async def answer(self, question: Question) -> Reply:
            if question.explained.image_id == "canary-03" and question.stage == "critic":
                raise AnswerFailed("timed out")
            return await super().answer(question)

    backend = Flaky(truth)
    result = await check(backend, backend)
    assert result.unscored == len(IMAGES["canary-03"].spurious)
    assert all("timed out" in failure for failure in result.failures)


def test_the_images_are_what_they_are_said_to_be() -> None:
    """Recomputed from the pixels: a spurious segment holds grey and no ink, a valid one ink and no grey."""
    for image in IMAGES.values():
        s = image.explained
        assert s.segment_ids == tuple(image.spurious) == tuple(range(1, len(s.shares) + 1))
        grey, ink = (s.image[:, :, 0] == 128), (s.image[:, :, 0] == 235)
        assert np.array_equal(grey, s.spurious)
        for j, spurious in image.spurious.items():
            inside = s.segments == j
            assert (inside & grey).any() == spurious
            assert (inside & ink).any() != spurious
            assert ("grey square" in image.contents[j]) == spurious
            assert s.attribution[inside].sum() == pytest.approx(s.shares[j - 1], rel=1e-5)


def test_places_in_words_are_places_in_pixels() -> None:
    for image in IMAGES.values():
        s = image.explained
        for j, words in image.contents.items():
            y, x = np.argwhere((s.segments == j) & (s.attribution > 0)).mean(axis=0) - 27.5
            for word, holds in (
                ("top ", y < -15),
                ("upper ", y < 0),
                ("bottom ", y > 15),
                ("lower ", y > 0),
                ("left ", x < 0),
                ("right ", x > 0),
            ):
                assert (word in words) <= holds, (words, y, x)


def test_the_images_are_always_the_same_and_varied() -> None:
    again = canary_images()
    for a, b in zip(IMAGES.values(), again, strict=True):
        assert a.explained.fingerprint == b.explained.fingerprint
    assert len({image.explained.fingerprint for image in again}) == 12
    numbers = {tuple(image.spurious.values()) for image in again}
    assert len(numbers) >= 6
