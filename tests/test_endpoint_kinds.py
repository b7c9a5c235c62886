"""Kinds of servers, each met as it is: their limits, waits, thoughts, addresses and lists of models."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from critique_helpers import SEVEN, critic_judge, explained, render
from lvlm_va.critique.backends import line, make_backend
from lvlm_va.critique.backends.connection import proxy_variable, why_unreachable
from lvlm_va.critique.backends.dialect import Dialect
from lvlm_va.critique.backends.endpoint import read_endpoint
from lvlm_va.critique.backends.model_list import ListedModel, find_model, read_models
from lvlm_va.critique.backends.openai import OpenAIBackend
from lvlm_va.critique.backends.rejection import Rejection, said_in
from lvlm_va.critique.backends.token_limit import context_too_short, smaller_limit
from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.driver import critique
from lvlm_va.critique.question import Question, Reply
from lvlm_va.critique.store import Store
from lvlm_va.critique.thinking import split_thought
from lvlm_va.errors import AnswerFailed, BudgetReached, CriticError
from servers import Asked, ChatServer, answer, chat_server, completion, failure


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with chat_server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        yield server


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of a clock that needs no waiting."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(line, "_clock", lambda: sum(pauses))
    monkeypatch.setattr(line, "_sleep", sleep)
    monkeypatch.setattr(line, "_STEP", 5.0)
    return pauses


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "critiques.sqlite") as store:
        yield store


def critic(**parameters: Any) -> Question:
    whole = {"temperature": 0, "max_tokens": 4096, "detail": "high"} | parameters
    return critic_question(explained(), SEVEN, render(explained()), whole)


async def ask(question: Question, **options: Any) -> Reply:
    backend = OpenAIBackend("m", **options)
    try:
        return await backend.answer(question)
    finally:
        await backend.close()


# Limits, in the server's own words and form.

FORMS: dict[str, Any] = {
    "an error": lambda said: JSONResponse({"error": {"message": said, "type": "invalid_request_error"}}, 400),
    "a list of errors": lambda said: JSONResponse([{"error": {"code": 400, "message": said}}], 400),
    "detail": lambda said: JSONResponse({"detail": said}, 422),
    "detail with a place": lambda said: JSONResponse({"detail": [{"loc": ["body"], "msg": said}]}, 422),
    "plain text": lambda said: PlainTextResponse(said, 400),
    "a page": lambda said: HTMLResponse(f"<html><title>400</title><body><p>{said}</p></body></html>", 400),
    "under 200": lambda said: JSONResponse({"error": {"code": 400, "message": said}}),
    "inside a choice": lambda said: JSONResponse(
        {"choices": [{"finish_reason": "error", "error": {"code": 400, "message": said}}]}
    ),
    "500": lambda said: JSONResponse({"error": {"code": 500, "message": said}}, 500),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
async def test_a_limit_is_learnt_whatever_form_its_words_have(server: ChatServer, form: str) -> None:
    said = "max_tokens must be at most 2000"
    server.behave = lambda asked: FORMS[form](said) if asked.body["max_tokens"] > 2000 else None
    reply = await ask(critic())
    assert [body["max_tokens"] for body in server.bodies] == [4096, 2000]
    assert "SEGMENT 1" in reply.text
    assert "2000 max_tokens" in reply.note


PHRASES = (
    "max_tokens may be {most} at most here, {limit} were asked for",
    "max_tokens is too large: {limit}. This model supports at most {most} completion tokens",
    "Invalid value for max_tokens: must be less than or equal to {most}",
    "`max_new_tokens` must be <= {most}. Given: {limit}",
    "The value of maxOutputTokens must be in the range from 1 to {most}",
    "max_output_tokens: {limit} > {most}, which is the maximum allowed number of output tokens",
    "Range of max_tokens should be [1, {most}]",
    "the limit of generated tokens is {most:,}; max_tokens={limit:,} exceeds it",
    "the completion tokens exceed what is left of the context",
)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(PHRASES), st.integers(256, 100_000), st.integers(300, 32_768))
def test_whatever_the_words_a_limit_that_fits_is_found_soon(phrase: str, most: int, asked: int) -> None:
    """And never one above what the server takes, nor one that is taken to be about something else."""
    dialect, body = Dialect(), {"max_tokens": asked}
    for _ in range(10):
        spoken, _ = dialect.speak(body)
        if spoken["max_tokens"] <= most:
            break
        learnt = dialect.learn(spoken, "", phrase.format(most=most, limit=spoken["max_tokens"]))
        assert learnt is not None
        dialect = learnt
    assert spoken["max_tokens"] <= most
    assert spoken["max_tokens"] >= min(asked, most) // 2


@settings(max_examples=40, deadline=None)
@given(st.integers(4096, 200_000), st.integers(100, 100_000), st.integers(512, 32_768), st.integers(0, 5))
def test_what_is_left_of_a_context_is_what_an_answer_may_have(
    context: int, prompt: int, limit: int, server: int
) -> None:
    said = (
        "This model's maximum context length is {c} tokens. However, you requested {n} tokens ({p} in the "
        "messages, {a} in the completion). Please reduce the length of the messages or completion.",
        "'max_tokens' or 'max_completion_tokens' is too large: {a}. This model's maximum context length is "
        "{c} tokens and your request has {p} input tokens.",
        "the request exceeds the available context size\nn_prompt_tokens: {p}\nn_ctx: {c}",
        "This endpoint's maximum context length is {c} tokens. However, you requested about {n} tokens ({p} "
        "of text input, {a} in the output).",
        "max_tokens {a} exceeds the context window of {c:,}: the prompt has {p:,} tokens",
        "input has {p} prompt tokens; with max_tokens = {a} this exceeds context_length {c}",
    )[server].format(c=context, p=prompt, a=limit, n=prompt + limit)
    if prompt + limit <= context:
        return
    room = context - prompt
    assert smaller_limit(limit, said) == (room if room >= 256 else None)
    assert context_too_short(said) == ((context, prompt) if room < 256 else None)


@pytest.mark.parametrize(
    "said",
    ["the image is too large", "bad request", "prompt too long", "at most 3 images", "rate limit reached"],
)
def test_what_is_not_about_the_limit_teaches_nothing_about_it(said: str) -> None:
    learnt = Dialect().learn({"max_tokens": 4096}, "", said)
    assert learnt is None or learnt.most_tokens is None


async def test_a_context_that_is_too_short_for_the_question_is_told(server: ChatServer) -> None:
    error = {"code": 400, "message": "the request exceeds the available context size"}
    body = {"error": error | {"n_prompt_tokens": 5000, "n_ctx": 4096}}
    server.behave = lambda asked: JSONResponse(body, 400)
    with pytest.raises(AnswerFailed, match=r"of 4,096 tokens is too short .* 5,000"):
        await ask(critic())
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>",
         "502 Bad Gateway 502 Bad Gateway"),
        (b"<!DOCTYPE html><style>p{}</style><p>Too&nbsp;busy &amp; tired", "Too busy & tired"),
        (b'{"message": "plain"}', "plain"),
        (b'{"error_description": "expired"}', "expired"),
        (b"", "without a word"),
    ],
)  # fmt: skip
def test_a_page_is_told_by_its_words(page: bytes, said: str) -> None:
    assert Rejection(502, {}, page).said == said
    assert "<" not in Rejection(502, {}, page).words


def test_names_of_fields_are_no_words_of_the_server() -> None:
    rejection = Rejection(422, {}, b'{"detail": "the picture is broken"}')
    body = {"messages": [{"role": "user", "content": [{"image_url": {"detail": "high"}}]}]}
    assert Dialect().learn(body, "", rejection.words) is None
    assert said_in({"choices": [{"error": {"message": "gone"}}]}) == "gone"


# Settings.


@pytest.mark.parametrize("detail", ["high", "low", "auto", "none"])
async def test_how_closely_images_are_read_is_a_setting(server: ChatServer, detail: str) -> None:
    reply = await ask(critic(detail=detail))
    images = [part["image_url"] for part in server.bodies[0]["messages"][1]["content"] if "image_url" in part]
    assert len(images) == 3
    assert {image.get("detail", "none") for image in images} == {detail}
    assert reply.note == ""


async def test_without_a_system_role_by_setting_nothing_is_rejected_first(server: ChatServer) -> None:
    question = critic()
    reply = await ask(question, system_role=False)
    ((message,),) = [body["messages"] for body in server.bodies]
    assert message["role"] == "user"
    assert message["content"][0]["text"] == f"{question.system}\n\n{question.prompt}"
    assert reply.note == ""


# Waits.

IN_50_S = {"Date": "Thu, 01 Jan 2026 00:00:00 GMT", "Retry-After": "Thu, 01 Jan 2026 00:00:50 GMT"}
WAITS: dict[str, tuple[dict[str, str], Any]] = {
    "Retry-After": ({"Retry-After": "50"}, {}),
    "a date by the server's clock": (IN_50_S, {}),
    "milliseconds": ({"retry-after-ms": "50000"}, {}),
    "a reset": ({"x-ratelimit-reset-requests": "50s"}, {}),
    "a reset in words": ({"x-ratelimit-reset-tokens": "0m50.0s", "x-ratelimit-remaining-tokens": "0"}, {}),
    "a moment": ({"x-ratelimit-reset": "@epoch"}, {}),
    "a moment in milliseconds": ({"x-ratelimit-reset": "@epoch_ms"}, {}),
    "a moment as a date": (
        {"anthropic-ratelimit-requests-reset": "2026-01-01T00:00:50Z", "Date": IN_50_S["Date"]},
        {},
    ),
    "the draft standard": ({"ratelimit": '"default";r=0;t=50'}, {}),
    "retryDelay": ({}, [{"error": {"details": [{"retryDelay": "50s"}]}}]),
    "retryDelay in parts": ({}, {"error": {"details": [{"retryDelay": {"seconds": 50}}]}}),
    "headers in the body": ({}, {"error": {"metadata": {"headers": {"X-RateLimit-Reset": "@epoch_ms"}}}}),
    "a field": ({}, {"error": {"message": "busy", "retry_after": 50}}),
    "try again in": ({}, {"error": {"message": "Please try again in 50.0s."}}),
    "retry after": ({}, {"detail": "Rate limit exceeded, retry after 50 seconds"}),
    "wait": ({}, "too fast: wait 50 seconds"),
}


@pytest.mark.parametrize("wait", WAITS)
async def test_the_wait_that_a_server_names_is_waited(
    server: ChatServer, waited: list[float], wait: str
) -> None:
    def behave(asked: Asked) -> Response | None:
        if asked.before:
            return None
        headers, body = WAITS[wait]
        text = body if isinstance(body, str) else json.dumps(body)
        moment = time.time() + 50
        for name, value in {"@epoch_ms": f"{moment * 1000:.0f}", "@epoch": f"{moment:.0f}"}.items():
            text = text.replace(name, value)
            headers = {key: said.replace(name, value) for key, said in headers.items()}
        return Response(text, 429, headers, "application/json")

    server.behave = behave
    assert "SEGMENT 1" in (await ask(critic())).text
    assert 30 <= sum(waited) <= 51  # a moment comes nearer while a slow machine is at work


LOADING = {
    "llama.cpp": failure(503, "Loading model", type="unavailable_error"),
    "a hub": JSONResponse({"error": "Model m is currently loading", "estimated_time": 40.0}, 503),
    "a proxy": PlainTextResponse("the model is not ready yet", 502),
    "a cold start": failure(503, "warming up, please wait"),
}


@pytest.mark.parametrize("kind", LOADING)
async def test_a_server_that_loads_its_model_is_waited_for(
    server: ChatServer, waited: list[float], kind: str
) -> None:
    server.behave = lambda asked: LOADING[kind] if asked.before < 15 else None
    assert "SEGMENT 1" in (await ask(critic(), attempts=3)).text
    assert server.requests.total() == 16
    assert sum(waited) > 300


async def test_patience_with_a_loading_server_ends(server: ChatServer, waited: list[float]) -> None:
    server.behave = lambda asked: LOADING["llama.cpp"]
    with pytest.raises(CriticError, match="loading its model for half an hour") as caught:
        await ask(critic())
    assert not isinstance(caught.value, AnswerFailed)
    assert 1700 < sum(waited) <= 1800


async def test_an_overloaded_server_is_not_loading(server: ChatServer, waited: list[float]) -> None:
    server.behave = lambda asked: failure(503, "The engine is currently overloaded, please try again later")
    with pytest.raises(AnswerFailed, match="no answer in 3 attempts"):
        await ask(critic(), attempts=3)
    assert server.requests.total() == 3


# Thoughts.

THOUGHTS: dict[str, dict[str, Any]] = {
    "beside the answer": {"content": "", "reasoning_content": "a long thought"},
    "under another name": {"content": None, "reasoning": "a long thought"},
    "hidden": {"content": ""},
    "in the text": {"content": "<think>a long thought about SEGMENT 1: VALID"},
    "in parts": {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": ""}]},
    "with half an answer": {"content": "Step 1. It sho", "reasoning_content": "a long thought"},
}


def _thinking(kind: str, enough: int) -> Any:
    def behave(asked: Asked) -> Response | None:
        if asked.body["max_tokens"] >= enough:
            return None
        choice = {"message": THOUGHTS[kind], "finish_reason": "length"}
        return JSONResponse(
            {"model": "m", "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 9}}
        )

    return behave


@pytest.mark.parametrize("kind", THOUGHTS)
def test_a_model_whose_thinking_takes_the_limit_is_asked_again_with_more(
    server: ChatServer, store: Store, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.behave = _thinking(kind, 16_384)
    who = critic_judge(make_backend("openai:m", prices={"m": {"input": 0, "output": 1000}}))
    assert [v.spurious for v in critique([explained()], who, store)] == [True, False, True]
    limits = [body["max_tokens"] for body in server.bodies]
    assert limits == [4096, 16_384, 2048, 8192, 32_768]
    assert "its thinking" in caplog.text
    assert "critique.max_tokens" in caplog.text
    assert sum(cost.calls for cost in store.costs()) == 5, "each is kept and paid"
    assert [v.spurious for v in critique([explained()], who, store)] == [True, False, True]
    assert len(server.bodies) == 5, "nothing is asked again by the next run"


def test_thinking_without_end_leaves_no_verdict(server: ChatServer, store: Store) -> None:
    server.behave = _thinking("beside the answer", 10**9)
    verdicts = critique([explained()], critic_judge(make_backend("openai:m")), store)
    assert [v.spurious for v in verdicts] == [None] * 3
    assert "its thinking took all of max_tokens = 32768; raise critique.max_tokens" in verdicts[0].reason
    assert len(server.bodies) == 3


def test_more_tokens_are_not_asked_for_beyond_a_budget(server: ChatServer, store: Store) -> None:
    server.behave = _thinking("hidden", 16_384)
    who = critic_judge(make_backend("openai:m", prices={"m": {"input": 0, "output": 1000}}))
    with pytest.raises(BudgetReached):
        critique([explained()], who, store, max_usd=10)
    assert len(server.bodies) == 1


async def test_the_most_that_a_server_accepts_is_not_asked_for_twice(server: ChatServer) -> None:
    def behave(asked: Asked) -> Response | None:
        if asked.body["max_tokens"] > 2000:
            return failure(400, "max_tokens must be at most 2000")
        return completion(asked, None, "length", reasoning_content="hm")

    server.behave = behave
    reply = await ask(critic())
    assert reply.problem.startswith("the answer was cut off at max_tokens = 2000, the most that this server")


async def test_a_context_that_ends_before_the_limit_is_named(server: ChatServer) -> None:
    server.behave = lambda asked: completion(asked, "Step 1. It sho", "length")  # after 100 tokens
    assert (
        "after 100 tokens, before max_tokens = 4096: the server's context is full"
        in (await ask(critic())).problem
    )


@pytest.mark.parametrize("text", ["<think>only this</think>", "[THINK]hm[/THINK]\n", "<think>and no end"])
async def test_thoughts_alone_are_no_answer(server: ChatServer, waited: list[float], text: str) -> None:
    server.behave = lambda asked: completion(asked, text)
    with pytest.raises(AnswerFailed, match="the answer is empty but for what the model thought"):
        await ask(critic())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<think>", "</think>"),
        ("<thinking>", "</thinking>\n"),
        ("[THINK]", "[/THINK]"),
        ("◁think▷", "◁/think▷"),
        ("<unused94>thought\n", "<unused95>"),
        ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        ("", "\n</think>\n\n"),
    ],
)
def test_thoughts_are_left_aside(server: ChatServer, store: Store, before: str, after: str) -> None:
    """Of the critic's and of the judge's text; the raw text is kept."""

    def behave(asked: Asked) -> Response:
        draft = (
            "Segment 1 may be VALID, let me see." if not asked.is_judge or not before else '{"verdicts": []}'
        )
        if asked.is_judge and not before:
            return completion(asked, answer(asked))
        return completion(asked, f"{before}{draft}{after}{answer(asked)}")

    server.behave = behave
    who = critic_judge(make_backend("openai:m"))
    assert [v.spurious for v in critique([explained()], who, store)] == [True, False, True]
    critique_prompt = server.bodies[-1]["messages"][-1]["content"]
    assert "let me see" not in critique_prompt
    assert "let me see" in store.exchanges()[0].reply.text  # type: ignore[union-attr]


@settings(max_examples=40, deadline=None)
@given(st.text(), st.text())
def test_only_thoughts_that_open_a_text_are_taken_off(before: str, after: str) -> None:
    for text in (f"a{before}<think>{after}</think>", f"{before}\nSEGMENT 1: VALID — x\n</think>\n{after}"):
        thought, spoken = split_thought(text)
        if not text.lstrip().startswith(("<", "[", "◁")):
            assert (thought, spoken) == ("", text)
    assert split_thought(f"<think>{after}") == (after, None) or "</" in after


# Images that are not taken.


@pytest.mark.parametrize(
    ("status", "said", "told"),
    [
        (400, "m is not a multimodal model", "takes no images"),
        (404, "No endpoints found that support image input", "takes no images"),
        (400, "messages[1]: unknown variant `image_url`, expected `text`", "takes no images"),
        (500, "image input is not supported - hint: you may need to provide the mmproj", "--mmproj"),
        (400, "This model does not support vision", "takes no images"),
        (400, "At most 0 image(s) may be provided in one prompt.", "takes no images"),
        (400, "At most 1 image(s) may be provided in one prompt.", "limit-mm-per-prompt"),
    ],
)
async def test_a_model_without_eyes_is_told_at_once(
    server: ChatServer, status: int, said: str, told: str
) -> None:
    server.behave = lambda asked: failure(status, said)
    with pytest.raises(CriticError, match=told) as caught:
        await ask(critic())
    assert not isinstance(caught.value, AnswerFailed)
    assert len(server.bodies) == 1


# Addresses.

AZURE = "https://me.openai.azure.com"


@pytest.mark.parametrize(
    ("address", "version", "url", "query"),
    [
        (f"{AZURE}/openai/deployments/d?api-version=v", "", f"{AZURE}/openai/deployments/d", "v"),
        (
            f"{AZURE}/openai/deployments/d/chat/completions?api-version=v",
            "",
            f"{AZURE}/openai/deployments/d",
            "v",
        ),
        (f"{AZURE}/openai/deployments/d", "v", f"{AZURE}/openai/deployments/d", "v"),
        (f"{AZURE}/", "v", f"{AZURE}/openai/deployments/m", "v"),
        (f"{AZURE}?api-version=v", "", f"{AZURE}/openai/deployments/m", "v"),
        (AZURE, "", f"{AZURE}/openai/v1", None),
        (f"{AZURE}/openai/v1/", "", f"{AZURE}/openai/v1/", None),
        ("https://gate.example/openai/deployments/d", "v", "https://gate.example/openai/deployments/d", "v"),
    ],
)
def test_an_azure_address_is_completed(address: str, version: str, url: str, query: str | None) -> None:
    environment = {"OPENAI_BASE_URL": address, "OPENAI_API_KEY": "sk-other", "OPENAI_API_VERSION": version}
    endpoint = read_endpoint(environment, "m")
    assert (endpoint.url, endpoint.key_header, endpoint.key) == (url, "api-key", "sk-other")
    assert dict(endpoint.query).get("api-version") == query
    endpoint = read_endpoint(environment | {"AZURE_OPENAI_API_KEY": "az-key"}, "m")
    assert (endpoint.key, endpoint.key_name) == ("az-key", "AZURE_OPENAI_API_KEY")


def test_a_deployment_wants_a_version() -> None:
    with pytest.raises(CriticError, match="set OPENAI_API_VERSION"):
        read_endpoint({"OPENAI_BASE_URL": f"{AZURE}/openai/deployments/d", "OPENAI_API_KEY": "k"}, "m")


async def test_azures_key_travels_in_its_own_header(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = server.url.removesuffix("/v1")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{root}/openai/deployments/d?api-version=2024-10-21")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "az-secret-CANARY")
    await ask(critic())
    assert server.headers[0]["api-key"] == "az-secret-CANARY"
    assert "authorization" not in server.headers[0]
    assert server.urls[0] == f"{root}/openai/deployments/d/chat/completions?api-version=2024-10-21"
    server.behave = lambda asked: failure(401, "wrong az-secret-CANARY")
    with pytest.raises(CriticError, match="check AZURE_OPENAI_API_KEY") as caught:
        await ask(critic())
    assert "CANARY" not in str(caught.value)
    server.behave = lambda asked: failure(400, "bad az-secret-CANARY")
    with pytest.raises(AnswerFailed) as failed:
        await ask(critic())
    assert "CANARY" not in str(failed.value)


async def test_the_address_of_a_question_stands_for_the_endpoints(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/chat/completions")
    assert "SEGMENT 1" in (await ask(critic())).text


async def test_an_address_without_v1_is_told(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url.removesuffix("/v1"))
    with pytest.raises(CriticError, match="it usually ends in /v1"):
        await ask(critic())


# Lists of models.


@pytest.mark.parametrize(
    ("document", "models"),
    [
        ({"object": "list", "data": [{"id": "m"}]}, [ListedModel("m")]),
        ({"object": "list", "data": None}, []),
        ({"data": []}, []),
        ([{"id": "m", "context_length": 4096}], [ListedModel("m", 4096)]),
        ({"models": [{"name": "m", "model": "m"}]}, [ListedModel("m")]),
        ({"data": [{"id": "m", "max_model_len": 16384}]}, [ListedModel("m", 16384)]),
        (
            {
                "models": [{"name": "m", "capabilities": ["completion", "multimodal"]}],
                "data": [{"id": "m", "meta": {"n_ctx_train": 32768}}],
            },
            [ListedModel("m", 32768, True)],
        ),
        (
            {
                "data": [
                    {
                        "id": "m",
                        "context_length": 131072,
                        "architecture": {"input_modalities": ["text", "image"]},
                        "pricing": {"prompt": "0.0000025", "completion": "0.00001"},
                    }
                ]
            },
            [ListedModel("m", 131072, True, (2.5, 10.0))],
        ),
        ({"data": [{"id": "m", "capabilities": {"vision": False}}]}, [ListedModel("m", None, False)]),
        ({"data": [{"id": "m", "pricing": {"prompt": "-1", "completion": "x"}}]}, [ListedModel("m")]),
        ({"data": ["m"]}, None),
        (["m"], None),
        ({"error": "no"}, None),
        ("m", None),
    ],
)
def test_lists_of_models(document: Any, models: list[ListedModel] | None) -> None:
    assert read_models(json.dumps(document).encode()) == models


@settings(max_examples=40, deadline=None)
@given(st.binary() | st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["data", "id", "models", "name", "meta", "pricing", "x"]), x)).map(lambda x: json.dumps(x).encode()))  # fmt: skip  # noqa: E501
def test_no_list_of_models_breaks_its_reader(content: bytes) -> None:
    models = read_models(content)
    assert models is None or all(isinstance(one, ListedModel) for one in models)


@pytest.mark.parametrize(
    ("name", "listed"), [("llava", "llava:latest"), ("gemini", "models/gemini"), ("Qwen/X", "qwen/x")]
)
def test_a_model_is_found_under_the_name_it_is_listed_by(name: str, listed: str) -> None:
    assert find_model([ListedModel("other"), ListedModel(listed)], name) == ListedModel(listed)
    assert find_model([ListedModel("other")], name) is None


# The way there.


async def test_a_proxy_that_fails_is_told_by_its_variable(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with chat_server() as gone:
        pass
    monkeypatch.setenv("HTTP_PROXY", gone.url.removesuffix("/v1"))
    with pytest.raises(CriticError, match=r"the proxy in HTTP_PROXY .*add 127\.0\.0\.1 to NO_PROXY"):
        await ask(critic())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert "SEGMENT 1" in (await ask(critic())).text


async def test_a_proxy_that_wants_a_password_is_told_by_its_variable(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example:1")
    monkeypatch.setenv("NO_PROXY", "nothing.example")
    assert proxy_variable(server.url) == "ALL_PROXY"
    monkeypatch.setenv("http_proxy", "http://proxy.example:1")
    assert proxy_variable(server.url) == "http_proxy"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert proxy_variable(server.url) == ""
    server.behave = lambda asked: PlainTextResponse("Proxy Authentication Required", 407)
    with pytest.raises(CriticError, match="wants a user name and password"):
        await ask(critic())


async def test_https_to_a_server_that_speaks_http_is_told(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url.replace("http://", "https://"))
    with pytest.raises(CriticError, match="does OPENAI_BASE_URL begin with http://"):
        await ask(critic())


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate in certificate chain", "in SSL_CERT_FILE"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired", "has expired"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] Hostname mismatch, not valid for 'x'", "another name"),
        ("[Errno -2] Name or service not known", "no host has this name"),
        ("[Errno 111] Connection refused", "check the network and OPENAI_BASE_URL"),
    ],
)
def test_why_there_is_no_connection(monkeypatch: pytest.MonkeyPatch, said: str, told: str) -> None:
    for name in ("https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    error = OSError("All attempts failed")
    error.__cause__ = OSError(said)
    assert told in why_unreachable(error, "https://models.example/v1")
    if "self-signed" in said:
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
        assert "the proxy in HTTPS_PROXY opens the connection" in why_unreachable(
            error, "https://models.example"
        )
    if "Name" in said:
        assert "name of a container" in why_unreachable(error, "http://ollama:11434/v1")
