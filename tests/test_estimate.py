"""Tokens and dollars before the first call, against published numbers."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from critique_helpers import Scripted, critic_judge, explained, render
from lvlm_va.critique.backends.batch import BatchBackend
from lvlm_va.critique.backends.ground_truth import GroundTruthBackend
from lvlm_va.critique.drawn import DrawnOnce
from lvlm_va.critique.estimate import Estimate, estimate
from lvlm_va.critique.pricing import Price, price_usd, read_prices
from lvlm_va.critique.question import CaptionedImage, ExplainedImage, Reply
from lvlm_va.critique.store import Store
from lvlm_va.critique.tokens import image_tokens
from lvlm_va.errors import ConfigError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "critiques.sqlite") as store:
        yield store


@pytest.mark.parametrize(
    ("width", "height", "model", "detail", "tokens"),
    [
        # The worked examples of OpenAI's guide to images.
        (1024, 1024, "gpt-4o", "high", 765),
        (2048, 4096, "gpt-4o", "high", 1105),
        (4096, 8192, "gpt-4o", "low", 85),
        (1024, 1024, "gpt-4.1-mini", "high", 1659),  # 1024 patches × 1.62
        # One tile up to 512×512, four beyond.
        (512, 512, "gpt-4o", "high", 85 + 170),
        (513, 513, "gpt-4o", "high", 85 + 4 * 170),
        (448, 448, "gpt-4o-mini", "high", 2833 + 5667),
        (448, 448, "gpt-5-2025-08-07", "high", 70 + 140),
        (448, 448, "gpt-5-mini", "high", 318),  # 196 patches × 1.62
        (448, 448, "someone-elses", "high", 85 + 170),
    ],
)
def test_images_count_as_published(width: int, height: int, model: str, detail: str, tokens: int) -> None:
    assert image_tokens(width, height, model, detail) == tokens


def test_prices_are_the_users_then_the_tables_then_unknown() -> None:
    million = 1_000_000
    assert price_usd("gpt-4o", million, 0, prices={}) == pytest.approx(2.5)
    assert price_usd("gpt-4o", million, 0, cached_tokens=million, prices={}) == pytest.approx(1.25)
    assert price_usd("gpt-4o", million, million, prices={"gpt-4o": Price(1, 2)}) == pytest.approx(3)
    assert price_usd("my-model", million, 0, prices={}) is None
    assert price_usd("gpt-4o", million, 0, prices={}, url="http://localhost:8000/v1") is None


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ({"m": {"input": 1}}, "`output` must be"),
        ({"m": {"input": 1, "output": -1}}, "`output` must be"),
        ({"m": {"input": True, "output": 1}}, "`input` must be"),
        ({"m": {"inptu": 1, "output": 1}}, "did you mean 'input'"),
        ({"m": 3}, "give `input` and `output`"),
    ],
)
def test_prices_that_cannot_be_meant(prices: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_prices(prices)


def test_what_is_answered_is_not_estimated_again(store: Store) -> None:
    explained_images = [explained(number) for number in range(4)]
    asked = critic_judge(BatchBackend("gpt-4o"))
    whole = estimate(explained_images, asked, store)
    assert (whole.critic_calls, whole.judge_calls) == (4, 4)
    assert whole.usd is not None
    by_hand = 0.5 * (whole.input_tokens * 2.5e-6 + whole.output_tokens * 10e-6)
    assert whole.usd == pytest.approx(by_hand)

    review = asked.review(explained_images[0])
    store.record(next(review), "openai:gpt-4o", Reply("a critique", "m"))
    rest = estimate(explained_images, asked, store)
    assert (rest.critic_calls, rest.judge_calls) == (3, 4)
    assert rest.usd is not None
    assert rest.usd < whole.usd
    assert estimate([], asked, store) == Estimate()


def test_measuring_is_free_and_an_unknown_price_is_unknown(store: Store) -> None:
    explained_images = [explained()]
    assert estimate(explained_images, critic_judge(GroundTruthBackend()), store).usd == 0
    assert estimate(explained_images, critic_judge(BatchBackend("my-model")), store).usd is None
    assert estimate(explained_images, critic_judge(Scripted(lambda q: "", kind="lvlm")), store).usd is None
    priced = BatchBackend("my-model", prices={"my-model": {"input": 1, "output": 1}})
    both = estimate(explained_images, critic_judge(priced), store)
    assert both.usd == pytest.approx((both.input_tokens + both.output_tokens) / 1e6)


def test_a_first_estimate_draws_one_image_of_a_kind_and_says_the_same(store: Store) -> None:
    drawn: list[str] = []

    def counting(it: ExplainedImage) -> tuple[CaptionedImage, ...]:
        drawn.append(it.image_id)
        return render(it)

    images = [explained(n) for n in range(5)] + [explained(9, segments=2)]
    asks = replace(critic_judge(BatchBackend("gpt-4o")), render=counting)
    first = estimate(images, asks, store)
    assert drawn == ["image-0", "image-9"]
    question = asks.critic_question(images[0])
    store.record(question, asks.critic.name, Reply("words", "m"))
    later = estimate(images, asks, store)
    assert first.critic_calls == 6
    assert later.critic_calls == 5
    assert first.judge_calls == later.judge_calls == 6
    with Store.open(":memory:") as fresh:
        alone = [estimate([one], critic_judge(BatchBackend("gpt-4o")), fresh) for one in images]
    assert first.input_tokens == sum(one.input_tokens for one in alone)


def test_an_image_is_drawn_once_while_there_is_room() -> None:
    drawn: list[str] = []

    def counting(it: ExplainedImage) -> tuple[CaptionedImage, ...]:
        drawn.append(it.image_id)
        return render(it)

    one, other = explained(), explained(1)
    size = sum(len(image.png) for image in render(one))
    once = DrawnOnce(counting, most=size + 10)
    assert once(one) is once(one)
    assert once(other) == once(other)
    assert drawn == ["image-0", "image-1", "image-1"]
