"""The real HTTP path, against a server that misbehaves."""

import asyncio
import base64
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from starlette.responses import PlainTextResponse, Response

from critique_helpers import SEVEN, explained, render
from lvlm_va.critique.backends import make_backend
from lvlm_va.critique.backends.chat import NotACompletion, read_completion
from lvlm_va.critique.backends.openai import OpenAIBackend
from lvlm_va.critique.backends.retry import retry_after
from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.examples import load_examples
from lvlm_va.critique.judge import judge_question
from lvlm_va.critique.question import Question, Reply
from lvlm_va.errors import AnswerFailed, ConfigError, CriticError
from patience import PATIENCE
from servers import Asked, ChatServer, Late, answer, chat_server, completion, cut, failure

SECRET = "sk-very-secret"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    with chat_server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
        yield server


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvlm_va.critique.backends.openai.backoff", lambda attempt: 0.001)


def critic(**parameters: Any) -> Question:
    return critic_question(
        explained(), SEVEN, render(explained()), {"temperature": 0, "max_tokens": 99} | parameters
    )


def judge() -> Question:
    return judge_question(
        critic(), "SEGMENT 1: VALID — x\nSEGMENT 2: VALID — x\nSEGMENT 3: VALID — x", load_examples()
    )


async def ask(question: Question, model: str = "gpt-4o", **options: Any) -> Reply:
    backend = OpenAIBackend(model, **options)
    try:
        return await backend.answer(question)
    finally:
        await backend.close()


async def test_prompts_images_and_parameters_arrive_as_they_are(server: ChatServer) -> None:
    question = critic(detail="low", seed=4)
    reply = await ask(question)
    (body,) = server.bodies
    assert body["model"] == "gpt-4o"
    assert (body["temperature"], body["max_tokens"], body["seed"]) == (0, 99, 4)
    assert "detail" not in body
    assert body["messages"][0] == {"role": "system", "content": question.system}
    text, *rest = body["messages"][1]["content"]
    assert text == {"type": "text", "text": question.prompt}
    captions, images = rest[0::2], rest[1::2]
    assert [c["text"] for c in captions] == [p.caption for p in question.images]
    for sent, image in zip(images, question.images, strict=True):
        assert sent["image_url"]["detail"] == "low"
        head, data = sent["image_url"]["url"].split(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(data) == image.png
    assert server.headers[0]["authorization"] == f"Bearer {SECRET}"
    assert reply.text == answer(Asked(body, 0))
    assert (reply.model, reply.input_tokens, reply.output_tokens) == ("gpt-4o-2024", 1000, 100)
    assert reply.seconds > 0
    assert reply.problem == reply.note == ""


async def test_the_judge_asks_for_its_schema(server: ChatServer) -> None:
    await ask(judge())
    form = server.bodies[0]["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["strict"] is True
    assert form["json_schema"]["schema"] == judge().schema


async def test_prices_are_unknown_on_an_unknown_endpoint_and_taken_from_the_user(server: ChatServer) -> None:
    assert (await ask(critic())).usd is None
    reply = await ask(critic(), prices={"gpt-4o": {"input": 2, "output": 10}})
    assert reply.usd == pytest.approx(1000 * 2e-6 + 100 * 10e-6)


TROUBLE: dict[str, Callable[[Asked], Response]] = {
    "429": lambda asked: failure(429, "slow down"),
    "408": lambda asked: failure(408, "slow"),
    "500": lambda asked: PlainTextResponse("oops", 500),
    "503": lambda asked: failure(503, "later"),
    "cut body": cut,
    "too late": lambda asked: Late(6.0),
    "not JSON": lambda asked: PlainTextResponse("<html>Bad Gateway</html>"),
    "JSON of another kind": lambda asked: PlainTextResponse('{"choices": "none"}'),
    "no choice": lambda asked: PlainTextResponse('{"choices": []}'),
    "a list": lambda asked: PlainTextResponse("[1, 2]"),
    "not UTF-8": lambda asked: Response(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_passing_trouble_passes(server: ChatServer, trouble: str) -> None:
    server.behave = lambda asked: TROUBLE[trouble](asked) if asked.before < 2 else None
    reply = await ask(critic(), timeout=3.0 if trouble == "too late" else PATIENCE)
    assert "SEGMENT 1: SPURIOUS" in reply.text
    assert server.requests.total() == 3


@pytest.mark.parametrize("trouble", ["429", "500", "cut body", "not JSON"])
async def test_lasting_trouble_is_a_failed_answer_after_the_attempts(
    server: ChatServer, trouble: str
) -> None:
    server.behave = TROUBLE[trouble]
    with pytest.raises(AnswerFailed, match="no answer in 3 attempts"):
        await ask(critic(), attempts=3)
    assert server.requests.total() == 3


async def test_retry_after_is_waited_for_by_every_call(server: ChatServer) -> None:
    server.behave = lambda asked: (
        failure(429, "slow down", headers={"Retry-After": "1"}) if server.requests.total() == 1 else None
    )
    backend = OpenAIBackend("gpt-4o")
    started = time.perf_counter()
    await backend.answer(critic())
    first = time.perf_counter() - started
    await backend.close()
    assert first >= 1.0
    assert server.requests.total() == 2


async def test_an_hour_of_retry_after_is_not_slept_through(server: ChatServer) -> None:
    server.behave = lambda asked: failure(429, "quota", headers={"Retry-After": "3600"})
    with pytest.raises(CriticError, match="asks to wait 3600 s") as caught:
        await ask(critic())
    assert not isinstance(caught.value, AnswerFailed)
    assert server.requests.total() == 1


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (failure(401, f"Incorrect API key provided: {SECRET}"), "check OPENAI_API_KEY"),
        (failure(404, "no such model"), "does not know this model"),
        (failure(402, "credits"), "wants payment"),
        (failure(429, "quota", code="insufficient_quota"), "no credit left"),
    ],
)
async def test_what_no_question_can_mend_stops_at_once_and_keeps_the_key_secret(
    server: ChatServer, response: Response, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.behave = lambda asked: response
    with pytest.raises(CriticError, match=said) as caught:
        await ask(critic())
    assert not isinstance(caught.value, AnswerFailed)
    assert server.requests.total() == 1
    assert SECRET not in str(caught.value)
    assert SECRET not in caplog.text
    assert SECRET not in repr(OpenAIBackend("gpt-4o"))


@pytest.mark.parametrize("status", [400, 403, 413, 422])
async def test_a_rejected_question_is_a_failed_answer_with_the_servers_words_but_not_the_key(
    server: ChatServer, status: int
) -> None:
    server.behave = lambda asked: failure(status, f"bad image; by the way {SECRET}")
    with pytest.raises(AnswerFailed, match=f"HTTP {status}.*bad image") as caught:
        await ask(critic())
    assert SECRET not in str(caught.value)


async def test_structured_output_falls_back_visibly_and_is_remembered(
    server: ChatServer, caplog: pytest.LogCaptureFixture
) -> None:
    known = ["text"]

    def behave(asked: Asked) -> Response | None:
        form = asked.body.get("response_format", {"type": "text"})["type"]
        if form in known:
            return None
        return failure(400, f"response_format type {form} is unavailable", param="response_format")

    server.behave = behave
    backend = OpenAIBackend("gpt-4o")
    reply = await backend.answer(judge())
    forms = [body.get("response_format", {}).get("type") for body in server.bodies]
    assert forms == ["json_schema", "json_object", None]
    assert "without a JSON schema" in reply.note
    assert caplog.text.count("rejects part of the request") == 2
    await backend.answer(judge())
    await backend.close()
    assert len(server.bodies) == 4
    known.append("json_object")
    server.bodies.clear()
    assert "without a JSON schema" in (await ask(judge())).note
    assert server.bodies[-1]["response_format"] == {"type": "json_object"}


async def test_rejected_parameters_are_renamed_or_left_out_and_said(server: ChatServer) -> None:
    def behave(asked: Asked) -> Response | None:
        if "max_tokens" in asked.body:
            return failure(400, "Unsupported parameter: use 'max_completion_tokens'", param="max_tokens")
        if "temperature" in asked.body:
            return failure(400, "'temperature' does not support 0 with this model", param="temperature")
        return None

    server.behave = behave
    reply = await ask(critic())
    assert server.bodies[-1]["max_completion_tokens"] == 99
    assert "temperature" not in server.bodies[-1]
    assert reply.note == "asked without temperature = 0: the server rejects it"


@pytest.mark.parametrize(
    ("text", "finish", "message", "problem"),
    [
        ("SEGMENT 1: SPUR", "length", {}, "cut off at max_tokens = 99"),
        (None, "length", {}, "took all of max_tokens = 99"),
        (None, "stop", {"refusal": "I will not."}, "refused"),
        ("half", "content_filter", {}, "content filter"),
        ("SEGMENT 1: SPUR", "MAX_TOKENS", {}, "cut off at max_tokens = 99"),
    ],
)
async def test_an_answer_paid_for_and_unusable_is_kept_with_its_problem(
    server: ChatServer, text: str | None, finish: str, message: dict[str, Any], problem: str
) -> None:
    server.behave = lambda asked: completion(asked, text, finish, **message)
    reply = await ask(critic())
    assert problem in reply.problem
    assert reply.text == (message.get("refusal") or text or "")
    assert reply.output_tokens == 100
    assert server.requests.total() == 1


async def test_no_key_and_no_server_of_ones_own_stops_before_any_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(CriticError, match="set OPENAI_API_KEY"):
        make_backend("openai:gpt-4o")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://example.com/v1")
    with pytest.raises(CriticError, match=r"no key for https://example\.com/v1"):
        make_backend("openai:gpt-4o")
    for own in (
        "http://localhost:1/v1",
        "http://127.0.0.1:1/v1",
        "http://192.168.1.2/v1",
        "http://[::1]:1/v1",
    ):
        monkeypatch.setenv("OPENAI_BASE_URL", own)
        make_backend("openai:gpt-4o")
    for wrong in ("localhost", "ftp://localhost", "http://", "http://localhost:port/"):
        monkeypatch.setenv("OPENAI_BASE_URL", wrong)
        with pytest.raises(CriticError, match="not an address"):
            make_backend("openai:gpt-4o")


async def test_an_unreachable_endpoint_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server() as gone:
        monkeypatch.setenv("OPENAI_BASE_URL", gone.url.replace("http://", "http://user:word@"))

    def waited(attempt: int) -> float:
        raise AssertionError("it was tried again")

    monkeypatch.setattr("lvlm_va.critique.backends.openai.backoff", waited)
    with pytest.raises(CriticError, match=r"cannot reach http://127\.0\.0\.1:\d+/v1") as caught:
        await ask(critic())
    assert not isinstance(caught.value, AnswerFailed)
    assert "word" not in str(caught.value)


async def test_the_rate_limit_spreads_calls(server: ChatServer) -> None:
    backend = OpenAIBackend("gpt-4o", requests_per_minute=600)
    started = time.perf_counter()
    for _ in range(4):
        await backend.answer(critic())
    await backend.close()
    assert time.perf_counter() - started >= 0.25  # the first goes at once, the others 0.1 s apart


def test_a_backend_serves_one_event_loop_after_another(server: ChatServer) -> None:
    backend = OpenAIBackend("gpt-4o", requests_per_minute=60_000)

    async def once() -> None:
        await backend.answer(critic())
        await backend.close()

    asyncio.run(once())
    asyncio.run(once())
    assert server.requests.total() == 2


def test_retry_after_in_all_its_forms() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=30)
    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after({"retry-after": format_datetime(soon, usegmt=True)}) == pytest.approx(30, abs=2)
    assert retry_after({"retry-after": format_datetime(soon - timedelta(hours=1), usegmt=True)}) == 0
    for nothing in ({}, {"retry-after": "soon"}, {"retry-after": "nan"}, {"retry-after": ""}):
        assert retry_after(nothing) is None


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"timeout": -1}, {"attempts": 0}, {"requests_per_minute": 0}]
)
def test_numbers_must_be_positive(server: ChatServer, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        OpenAIBackend("gpt-4o", **options)


def test_a_bill_that_cannot_be_read_does_not_lose_the_answer() -> None:
    body = {
        "choices": [{"message": {"content": "words \ud800"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": -1},
        "model": None,
    }
    read = read_completion(body, model="asked", limit=1)
    assert (read.text, read.model, read.input_tokens) == ("words ?", "asked", None)
    with pytest.raises(NotACompletion):
        read_completion(b'{"choices": [{"message":' + b"[" * 100_000, model="m", limit=1)
