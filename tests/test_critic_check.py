"""`lvlm-va critic check`: one screen that says whether an endpoint will do, what it costs, what to change."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from lvlm_va.config.loading import CritiqueConfig
from lvlm_va.critique import canary
from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.rendering import render
from lvlm_va.errors import CriticError
from lvlm_va.project.critic_check import check_critic
from servers import Asked, ChatServer, answer, chat_server, completion, failure

IMAGES = canary.canary_images()[:3]  # two, three and four segments
OPENROUTER = {
    "id": "m",
    "context_length": 32768,
    "architecture": {"input_modalities": ["text", "image"]},
    "pricing": {"prompt": "0.000001", "completion": "0.000002"},
}


@pytest.fixture(autouse=True)
def _three_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "canary_images", lambda: IMAGES)


@pytest.fixture(scope="module")
def truth() -> dict[str, dict[int, bool]]:
    """The prompt of each canary question, and its right answers."""
    found = {}
    for image in IMAGES:
        it = image.explained
        question = critic_question(it, canary.SPECIFICATIONS[it.class_name], render(it))
        found[question.prompt] = image.spurious
    return found


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, truth: dict[str, dict[int, bool]]) -> Iterator[ChatServer]:
    """One that knows the answers, and counts a token for four characters and 100 for an image."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def behave(asked: Asked) -> Response:
        if asked.is_judge:
            text = answer(asked)
        else:
            words = {True: "SPURIOUS — a square", False: "VALID — the shape"}
            text = "\n".join(f"SEGMENT {j}: {words[is_so]}" for j, is_so in truth[asked.prompt].items())
        return counted(asked, text)

    with chat_server(behave) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        server.models = ["m"]
        yield server


def counted(asked: Asked, text: str, images: int = 100) -> Response:
    parts = [part for message in asked.body["messages"] for part in message["content"]]
    shown = sum(isinstance(part, dict) and part["type"] == "image_url" for part in parts)
    texts = [m["content"] for m in asked.body["messages"] if isinstance(m["content"], str)]
    texts += [part["text"] for part in parts if isinstance(part, dict) and part["type"] == "text"]
    schema = json.dumps(asked.body.get("response_format", ""))
    body = json.loads(bytes(completion(asked, text).body))
    body["usage"] = {
        "prompt_tokens": sum(map(len, texts)) // 4 + len(schema) // 4 + images * shown,
        "completion_tokens": max(1, len(text) // 4),
    }
    return JSONResponse(body)


def check(**settings: Any) -> str:
    result = check_critic(CritiqueConfig(critic="openai:m", **settings))
    assert len(result.text.splitlines()) <= 24, "one screen"
    return result.text


def test_one_that_will_do(server: ChatServer) -> None:
    server.models = JSONResponse({"data": [OPENROUTER]})
    text = check(concurrency=4)
    assert f"openai:m at {server.url}" in text
    for words in (
        "answers in",
        "known there, one of 1",
        "three a question are taken",
        "32,768 tokens; a question takes about",
        "9 of 9 segments read; 100% of the critiques end in clear lines",
        "9 of 9 segments judged rightly (100%)",
        "6 answered here",
        "the endpoint's list says 1 in and 2 out; to hold --max-usd, set critique.prices",
        "A critique of 256 images with 7 segments each",
    ):
        assert words in text
    paper, lines = (line for line in text.splitlines() if line.lstrip().startswith("judge: "))
    assert paper.split()[:4] == ["judge:", "paper", "512", "questions"]
    assert lines.split()[:4] == ["judge:", "lines", "256", "questions"]
    usd = [float(line.split(" USD")[0].split()[-1]) for line in (paper, lines)]
    tokens = [
        [int(n.replace(",", "")) for n in re.findall(r"([\d,]+) (?:tokens in|out)", line)]
        for line in (paper, lines)
    ]
    for price, (asked, answered) in zip(usd, tokens, strict=True):
        assert price == pytest.approx((asked * 1 + answered * 2) / 1e6, abs=0.006)
    assert text.endswith("It will do.")
    assert server.requests.total() == 6


def test_prices_of_ones_own_count(server: ChatServer) -> None:
    text = check(prices={"m": {"input": 3.0, "output": 4.0}})
    assert "3 USD per million tokens in, 4 out" in text
    assert "unknown" not in text


@pytest.mark.parametrize(
    ("models", "told"),
    [
        (["n"], "'m' is not among those listed there"),
        (failure(404, "no"), "the endpoint lists no models (HTTP 404)"),
        (PlainTextResponse("<!doctype html>"), "what it answers there is no list of models"),
        (JSONResponse({"data": [{"id": "m", "max_model_len": 4096}]}), "set critique.max_tokens"),
        (
            JSONResponse({"data": [OPENROUTER | {"architecture": {"input_modalities": ["text"]}}]}),
            "takes none",
        ),
    ],
)
def test_what_the_list_of_models_says(server: ChatServer, models: Any, told: str) -> None:
    server.models = models
    text = check()
    assert told in " ".join(text.split())
    assert "It will do" in text


def test_one_that_guesses_will_not_do(server: ChatServer) -> None:
    server.behave = lambda asked: counted(asked, answer(asked))
    text = check()
    assert "PROBLEM" in text
    assert "below 90%; choose another model" in text
    assert text.count("canary-") == 3
    assert "more" in text
    assert text.endswith("It will not do: see right.")


def test_images_that_are_dropped_are_noticed(server: ChatServer) -> None:
    know = server.behave

    def behave(asked: Asked) -> Response:
        known = know(asked)
        assert known is not None
        text = json.loads(bytes(known.body))["choices"][0]["message"]["content"]
        return counted(asked, text, images=0)

    server.behave = behave
    assert "counts no tokens for them" in check()


def test_thinking_that_takes_the_limit_is_told_with_the_setting(server: ChatServer) -> None:
    know = server.behave
    server.behave = lambda asked: (
        completion(asked, None, "length", reasoning_content="hm")
        if not asked.is_judge and asked.body["max_tokens"] < 10_000
        else know(asked)
    )
    assert "set critique.max_tokens to 16384" in " ".join(check().split())
    assert "thinking" not in check(max_tokens=16_384)


def test_what_a_server_would_not_accept_is_told(server: ChatServer) -> None:
    know = server.behave
    server.behave = lambda asked: (
        failure(400, "response_format is unknown") if "response_format" in asked.body else know(asked)
    )
    assert "asked without a JSON schema" in check()


def test_a_refused_question_is_not_asked_of_the_other_images(server: ChatServer) -> None:
    server.behave = lambda asked: failure(400, "this picture is indecent")
    with pytest.raises(CriticError, match=r"not one verdict(?s:.*)this picture is indecent") as refused:
        check()
    assert "kept" not in str(refused.value), "a check keeps nothing"
    assert server.requests.total() == 1


def test_the_judge_of_lines_is_asked_only_in_doubt(server: ChatServer) -> None:
    assert "3 answered here" in check(judge="lines")


def test_what_measures_costs_nothing() -> None:
    result = check_critic(CritiqueConfig(critic="builtin"))
    assert result.right_share == 1
    assert "asks no model and costs nothing" in result.text
