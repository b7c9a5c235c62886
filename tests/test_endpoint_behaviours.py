"""What endpoints do besides answering: half answers, errors in disguise, redirects, floods, echoes."""

import asyncio
import base64
import gzip
import json
import logging
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from critique_helpers import SEVEN, critic_judge, explained, render
from lvlm_va.critique.backends import make_backend
from lvlm_va.critique.backends.chat import NotACompletion, UpstreamError, read_completion
from lvlm_va.critique.backends.openai import OpenAIBackend
from lvlm_va.critique.backends.retry import retry_after
from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.driver import critique
from lvlm_va.critique.estimate import open_questions
from lvlm_va.critique.examples import load_examples
from lvlm_va.critique.judge import judge_question
from lvlm_va.critique.question import Question, Reply
from lvlm_va.critique.review import limited
from lvlm_va.critique.store import Store
from lvlm_va.critique.unanswered import check_answered, say_unscored
from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import AnswerFailed, ConfigError, CriticError, Interrupted
from lvlm_va.report.tables import unscored_table
from servers import Asked, ChatServer, answer, chat_server, completion, failure

SECRET = "sk-very-secret-CANARY"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with chat_server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "critiques.sqlite") as store:
        yield store


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvlm_va.critique.backends.openai.backoff", lambda attempt: 0.001)


def critic(**parameters: Any) -> Question:
    return critic_question(
        explained(),
        SEVEN,
        render(explained()),
        {"temperature": 0, "max_tokens": 4096, "detail": "high"} | parameters,
    )


async def ask(question: Question, model: str = "m", **options: Any) -> Reply:
    backend = OpenAIBackend(model, **options)
    try:
        return await backend.answer(question)
    finally:
        await backend.close()


# What cannot travel is refused first, and never shown.


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_BASE_URL"])
@pytest.mark.parametrize(
    ("character", "what"),
    [
        ("\n", "a line break"),
        ("\r\n", "a line break"),
        (" ", "white space"),
        ("\t", "white space"),
        ("\x1b", "a control character"),
        ("\x7f", "a control character"),
        ("\u200b", "no ASCII character"),
        ("ü", "no ASCII character"),
        ("\udcff", "no ASCII character"),
    ],
)
def test_what_no_header_can_carry_is_refused_with_its_position(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, name: str, character: str, what: str
) -> None:
    monkeypatch.setenv(name, f"sk-CANARY{character}second")
    with pytest.raises(CriticError, match=rf"{name}: character 10 is {what}") as caught:
        make_backend("openai:m")
    assert "CANARY" not in str(caught.value)
    assert "second" not in str(caught.value)
    monkeypatch.setenv(name, f"sk-CANARY{character}")
    with pytest.raises(CriticError, match=rf"{name}: character 10"):
        make_backend("openai:m")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("all_proxy", "socks://127.0.0.1:7897/", "all_proxy is not the address of a proxy"),
        ("HTTPS_PROXY", "http://user:PWCANARY@host:port", "HTTPS_PROXY is not the address of a proxy"),
        ("http_proxy", "http://", "http_proxy is not the address of a proxy"),
        ("SSL_CERT_FILE", "/nonexistent.pem", "SSL_CERT_FILE names no file of certificates"),
        ("SSL_CERT_FILE", __file__, "SSL_CERT_FILE names no file of certificates"),
        ("SSL_CERT_DIR", "/nonexistent", "SSL_CERT_DIR names no folder"),
    ],
)
def test_an_environment_without_a_way_out_is_told_by_the_variables_name(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(CriticError, match=said) as caught:
        make_backend("openai:m")
    assert "CANARY" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_socks_proxy_wants_a_package(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvlm_va.critique.backends.endpoint.has_socks", lambda: False)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:7897")
    with pytest.raises(CriticError, match=r"ALL_PROXY names a SOCKS proxy.*pip install aiohttp-socks"):
        make_backend("openai:m")


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("ollama:11434", True),
        ("gpu-box", True),
        ("host.docker.internal:8000", True),
        ("host.containers.internal", True),
        ("box.local", True),
        ("10.1.2.3", True),
        ("[fd00::1]:80", True),
        ("example.com", False),
        ("8.8.8.8", False),
        ("134744072", False),
        ("0x08080808", False),
        ("internal.example.com", False),
    ],
)
def test_whose_server_it_is(monkeypatch: pytest.MonkeyPatch, host: str, own: bool) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://{host}/v1")
    if own:
        make_backend("openai:m")
    else:
        with pytest.raises(CriticError, match="no key for"):
            make_backend("openai:m")


async def test_the_query_of_an_address_stays_behind_its_path(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url + "?api-version=2024-10-21&key=QKCANARY")
    await ask(critic())
    assert server.urls[0].endswith("/v1/chat/completions?api-version=2024-10-21&key=QKCANARY")
    server.models = ["m"]
    assert "QKCANARY" not in await asyncio.to_thread(OpenAIBackend("m").reach)


async def test_what_a_server_echoes_is_kept_without_secrets(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def behave(asked: Asked) -> Response:
        sent = server.headers[-1]["authorization"]
        text = answer(asked)
        if asked.is_judge:
            verdicts = json.loads(text)
            for line in verdicts["verdicts"]:
                line["reason"] = f"{sent} of {server.urls[-1]}"
            text = json.dumps(verdicts)
        else:
            text = f"{sent} {base64.b64encode(sent.encode()).decode()} {server.urls[-1]}\n{text}"
        body = json.loads(bytes(completion(asked, text).body)) | {"model": sent}
        return JSONResponse(body)

    with chat_server(behave) as server:
        host = server.url.removeprefix("http://")
        for number, address in enumerate(
            (f"http://{host}", f"http://user:PW%21CANARY@{host}", f"http://{host}?key=QKCANARY")
        ):
            monkeypatch.setenv("OPENAI_BASE_URL", address)
            monkeypatch.setenv("OPENAI_API_KEY", SECRET)
            backend = make_backend(f"openai:m{number}")
            verdicts = await asyncio.to_thread(critique, [explained()], critic_judge(backend), store)
            assert [v.spurious for v in verdicts] == [True, False, True]
            assert all("***" in v.reason for v in verdicts)
            assert not any("CANARY" in v.reason for v in verdicts)
    assert "CANARY" not in caplog.text
    blobs = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (b"CANARY", base64.b64encode(b"user:PW!CANARY"), base64.b64encode(SECRET.encode())[:-2]):
        assert secret not in blobs


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_a_redirect_would_take_the_images_along(server: ChatServer, status: int) -> None:
    with chat_server() as other:
        place = other.url.replace("http://", "http://me:PWCANARY@")
        server.behave = lambda asked: Response(
            status_code=status, headers={"location": f"{place}/chat/completions?sig=CANARY"}
        )
        with pytest.raises(
            CriticError, match=r"redirects to http://127\.0\.0\.1:\d+/v1/chat.*not followed"
        ) as e:
            await ask(critic())
        assert not isinstance(e.value, AnswerFailed)
        assert "CANARY" not in str(e.value)
        server.models = Response(status_code=status, headers={"location": f"{place}/models"})
        with pytest.raises(CriticError, match="not followed"):
            await asyncio.to_thread(OpenAIBackend("m").reach)
        assert other.requests.total() == 0
        assert server.requests.total() == 1


# A reply that is none.


async def test_a_flood_is_not_read_to_its_end(server: ChatServer) -> None:
    async def much() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield b" " * 2**20

    for status in (200, 500):
        server.behave = lambda asked, status=status: StreamingResponse(much(), status)
        with pytest.raises(AnswerFailed, match="more than 8,388,608 bytes"):
            await ask(critic(), attempts=1)


async def test_a_compressed_flood_is_none_either(server: ChatServer) -> None:
    bomb = gzip.compress(b" " * 2**26)
    server.behave = lambda asked: Response(bomb, headers={"content-encoding": "gzip"})
    with pytest.raises(AnswerFailed, match="more than 8,388,608 bytes"):
        await ask(critic(), attempts=1)


@pytest.mark.parametrize("reason", ["error", "abort", "unknown", "", None, 7, ["stop"], "tool_calls"])
def test_what_is_not_known_to_be_whole_is_no_answer(reason: object) -> None:
    body = {"choices": [{"message": {"content": "half"}, "finish_reason": reason}]}
    with pytest.raises(NotACompletion, match="does not say that the answer is whole"):
        read_completion(body, model="m", limit=1)


@pytest.mark.parametrize("reason", ["stop", "STOP", "eos", "eos_token", "end_turn", "stop_sequence"])
def test_the_names_of_a_whole_answer(reason: str) -> None:
    body = {"choices": [{"message": {"content": "whole"}, "finish_reason": reason}]}
    assert (read := read_completion(body, model="m", limit=1)).text == "whole"
    assert read.problem == ""


@pytest.mark.parametrize("reason", ["length", "MAX_TOKENS", "max_output_tokens", "model_length"])
def test_the_names_of_a_cut_answer(reason: str) -> None:
    body = {"choices": [{"message": {"content": ""}, "finish_reason": reason}]}
    assert "raise critique.max_tokens" in read_completion(body, model="m", limit=9).problem


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
        (
            {"content": [{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "a"}]},
            "a",
        ),
        ({"content": ["a", {"text": "b"}, None, 3]}, "ab"),
        ({"content": {"type": "text", "text": "a"}}, "a"),
        ({"content": None, "tool_calls": [{"function": {"name": "x", "arguments": '{"a": 1}'}}]}, '{"a": 1}'),
        ({"tool_calls": [{"function": {"name": "x", "arguments": {"a": 1}}}]}, '{"a": 1}'),
        ({"function_call": {"name": "x", "arguments": '{"a": 1}'}}, '{"a": 1}'),
    ],
)
def test_content_in_parts_is_joined_and_a_tool_call_is_read(message: dict[str, Any], text: str) -> None:
    called = "tool_calls" if "content" not in message or message["content"] is None else "stop"
    body = {"choices": [{"message": message, "finish_reason": called}]}
    assert read_completion(body, model="m", limit=1).text == text


@pytest.mark.parametrize("count", [-1, 2**63, 2**200, 1.5, "9", True, None, [1], {"a": 1}])
def test_a_count_that_is_none_is_unknown_and_the_answer_is_kept(store: Store, count: object) -> None:
    usage = {
        "prompt_tokens": count,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": count},
    }
    body = {"choices": [{"message": {"content": "words"}, "finish_reason": "stop"}], "usage": usage}
    read = read_completion(body, model="m", limit=1)
    assert (read.text, read.input_tokens, read.output_tokens) == ("words", None, 5)
    store.record(critic(), "b", read.reply(None, 0.1))
    assert store.costs()[0].calls == 1


def test_many_large_counts_can_be_summed(store: Store) -> None:
    for number in range(20):
        question = critic_question(explained(number), SEVEN, ())
        store.record(question, "b", Reply("x", "m", 10**12, 10**12))
    assert store.costs()[0].input_tokens == 20 * 10**12


EMPTY: list[dict[str, Any]] = [
    {"message": {"content": ""}, "finish_reason": "stop"},
    {"message": {"content": " \n"}, "finish_reason": "stop"},
    {"message": None, "finish_reason": "stop"},
    {"finish_reason": "stop"},
    {"message": {"content": ""}, "finish_reason": "error", "error": {"code": 502, "message": "went away"}},
    {"message": {"content": "half"}, "finish_reason": "error"},
]


@pytest.mark.parametrize("choice", EMPTY)
def test_an_empty_answer_is_asked_again_now_and_by_the_next_run(
    server: ChatServer, store: Store, choice: dict[str, Any]
) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 1}
    server.behave = lambda asked: JSONResponse({"choices": [choice], "usage": usage})
    backend = make_backend("openai:m")
    verdicts = critique([explained()], critic_judge(backend), store)
    assert [v.spurious for v in verdicts] == [None] * 3
    assert 1 < server.requests.total() <= 6, "asked again, but not for ever"
    assert [e.reply for e in store.exchanges()] == [None]
    server.behave = lambda asked: None
    assert [v.spurious for v in critique([explained()], critic_judge(backend), store)] == [True, False, True]


async def test_what_useless_answers_cost_is_counted(server: ChatServer) -> None:
    prices = {"m": {"input": 1000, "output": 0}}
    server.behave = lambda asked: completion(asked, "") if asked.before < 2 else None
    assert (await ask(critic(), prices=prices)).usd == pytest.approx(3 * 1.0)
    server.behave = lambda asked: completion(asked, "")
    with pytest.raises(AnswerFailed) as caught:
        await ask(critic(), prices=prices)
    assert caught.value.usd == pytest.approx(3 * 1.0)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ({"code": 429, "message": "the provider is busy"}, "the provider is busy"),
        ({"code": "500", "message": "oops"}, "oops"),
        ("plain words", "plain words"),
        ({"message": "no"}, "no"),
    ],
)
async def test_an_error_under_200_is_told_in_the_servers_words(
    server: ChatServer, error: object, said: str
) -> None:
    server.behave = lambda asked: JSONResponse({"error": error})
    with pytest.raises(AnswerFailed, match=f"no answer in 2 attempts.*{said}"):
        await ask(critic(), attempts=2)


async def test_an_error_under_200_means_what_its_code_says(server: ChatServer) -> None:
    server.behave = lambda asked: JSONResponse({"error": {"code": 402, "message": "credits"}})
    with pytest.raises(CriticError, match=r"wants payment first.*credits") as caught:
        await ask(critic())
    assert not isinstance(caught.value, AnswerFailed)
    assert server.requests.total() == 1
    with pytest.raises(UpstreamError):
        read_completion({"error": {"code": 9}}, model="m", limit=1)


def test_a_wait_may_be_asked_for_in_many_ways() -> None:
    body = json.dumps([{"error": {"message": "please retry in 24s", "details": [{"retryDelay": "26.5s"}]}}])
    assert retry_after({}, body) == 26.5
    assert retry_after({"x-ratelimit-reset-requests": "1m30s"}) == 90
    assert retry_after({"x-ratelimit-reset-tokens": "250ms"}, "please retry in 24s") == 24
    assert retry_after({"x-ratelimit-reset-tokens": "6h", "x-ratelimit-remaining-tokens": "5"}) is None
    assert retry_after({"x-ratelimit-reset": "12"}) == 12
    assert retry_after({"retry-after": "2"}, body) == 2
    assert retry_after({}, "Please try again in 1m30s.") == 90
    assert retry_after({}, '{"error": "loading", "estimated_time": 20.5}') == 20.5
    for nothing in ("", "try again", "try again in a while", "retry in 5 apples", "5s"):
        assert retry_after({}, nothing) is None
    assert retry_after({"x-ratelimit-reset": "soon"}) is None
    retry_after({}, "retry in " + "1" * 1_000_000)


# What a server does not know is put differently.


def _plain(asked: Asked) -> str:
    return json.dumps(asked.body)


@pytest.mark.parametrize(
    "said",
    [
        "this template has no place for a system message",
        "System role not supported",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Only user and assistant roles are supported!",
    ],
)
async def test_without_a_system_role_its_words_open_the_users(server: ChatServer, said: str) -> None:
    server.behave = lambda asked: failure(400, said) if '"role": "system"' in _plain(asked) else None
    question = critic()
    reply = await ask(question)
    assert "without a system role" in reply.note
    (message,) = server.bodies[-1]["messages"]
    assert message["content"][0]["text"] == f"{question.system}\n\n{question.prompt}"
    judge = judge_question(question, reply.text, load_examples())
    assert "without a system role" in (await ask(judge)).note


@pytest.mark.parametrize(
    "rejection",
    [
        failure(400, "image_url.detail: unknown field"),
        JSONResponse(
            {"detail": [{"loc": ["body", "image_url", "detail"], "msg": "extra not permitted"}]}, 422
        ),
    ],
)
async def test_where_detail_is_unknown_it_is_left_out(server: ChatServer, rejection: Response) -> None:
    server.behave = lambda asked: rejection if '"detail"' in _plain(asked) else None
    assert "without the images' detail" in (await ask(critic())).note
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    ("most", "said", "tries"),
    [
        (2048, "max_tokens may be 2048 at most here, {n} were asked for", 2),
        (2596, "'max_tokens' or 'max_completion_tokens' is too large: {n}. This model's maximum context "
         "length is 4096 tokens and your request has 1500 input tokens", 2),
        (3000, "max_tokens: out of range (from 1 to 3001 exclusive)", 3),
        (1000, "the completion tokens exceed what is left of the context", 4),
    ],
)  # fmt: skip
async def test_a_smaller_limit_is_learnt(server: ChatServer, most: int, said: str, tries: int) -> None:
    def behave(asked: Asked) -> Response | None:
        limit = asked.body["max_tokens"]
        return failure(400, said.format(n=limit)) if limit > most else None

    server.behave = behave
    reply = await ask(critic())
    assert server.bodies[-1]["max_tokens"] <= most
    assert "max_tokens: the server rejects it" in reply.note
    assert len(server.bodies) == tries


async def test_what_was_learnt_in_vain_is_forgotten(server: ChatServer) -> None:
    server.behave = lambda asked: failure(400, "max_tokens exceeds the maximum context length")
    backend = OpenAIBackend("m")
    with pytest.raises(AnswerFailed, match="rejects the question"):
        await backend.answer(critic())
    assert len(server.bodies) < 10
    server.behave = lambda asked: None
    assert (await backend.answer(critic())).note == ""
    await backend.close()


# Looking whether it is there.


@pytest.mark.parametrize(
    "models",
    [
        PlainTextResponse("<!doctype html><title>Log in</title>"),
        PlainTextResponse(""),
        PlainTextResponse('{"data": [{"id": "m"'),
        PlainTextResponse("[" * 100_000),
        JSONResponse(["m"]),
        JSONResponse({"data": ["m"]}),
        JSONResponse({"data": "m"}),
        JSONResponse({"data": [{"id": 7}]}),
        JSONResponse("m"),
        JSONResponse(None),
        Response(b"\xff"),
        Response(b" " * (9 * 2**20)),
    ],
)
def test_what_is_no_list_of_models(server: ChatServer, models: Response) -> None:
    server.models = models
    with pytest.raises(CriticError, match=r"answers, but not with a list of models; does .* end in /v1\?"):
        OpenAIBackend("m").reach()


# Never twice for the same, and never nothing for something.


def test_equal_questions_about_two_images_are_paid_once(server: ChatServer, store: Store) -> None:
    twins = [explained(1, image_id=name) for name in ("a", "b", "c")] + [explained(2)]
    asked = critic_judge(make_backend("openai:m", prices={"m": {"input": 1, "output": 1}}))
    assert len(list(open_questions(twins, asked, store))) == 2
    verdicts = critique(twins, asked, store)
    assert [(v.image_id, v.spurious) for v in verdicts] == [
        (name, spurious) for name in ("a", "b", "c", "image-2") for spurious in (True, False, True)
    ]
    assert server.requests.total() == 4
    assert sum(cost.calls for cost in store.costs()) == 4
    assert store.spent() == pytest.approx(4 * 1100e-6)
    for name in ("a", "b", "c"):  # each image has its own record
        assert [e.stage for e in store.exchanges(name)] == ["critic", "judge"]
        assert all(e.reply is not None for e in store.exchanges(name))


def test_a_cut_answer_is_not_final_once_the_limit_changes_and_a_whole_one_is(
    server: ChatServer, store: Store
) -> None:
    def behave(asked: Asked) -> Response | None:
        if not asked.is_judge and "seven-1" in asked.prompt and asked.body["max_tokens"] < 9000:
            return completion(asked, "half", "length")
        return None

    server.behave = behave
    backend = make_backend("openai:m")
    explained_images = [explained(1), explained(2)]

    def run(limit: int | None) -> list[bool | None]:
        base = critic_judge(backend)
        asked = critic_judge(
            backend,
            critic_parameters=limited(base.critic_parameters, limit),
            judge_parameters=limited(base.judge_parameters, limit),
        )
        return [v.spurious for v in critique(explained_images, asked, store)]

    assert run(None) == [None] * 3 + [True, False, True]
    assert server.requests.total() == 3
    assert run(None) == [None] * 3 + [True, False, True]
    assert server.requests.total() == 3, "not paid again for the same half"
    assert run(9000) == [True, False, True] * 2
    # Critique and judgement of image 1 anew; of image 2 everything was whole.
    assert server.requests.total() == 5


def test_no_verdict_at_all_is_an_error_with_the_reasons_counted() -> None:
    def verdicts(*reasons: str | None) -> list[Verdict]:
        return [
            Verdict("x", j, None if reason else True, reason or "seen", "m")
            for j, reason in enumerate(reasons, 1)
        ]

    with pytest.raises(CriticError, match=r"not one verdict.*\n  2 × b\n  1 × a") as caught:
        check_answered(verdicts("a", "b", "b"))
    assert caught.value.exit_code != 0
    check_answered([])
    check_answered(verdicts("a", None))
    assert say_unscored(verdicts(None)) == ""
    many = say_unscored(verdicts(*(f"reason {n}" for n in range(9)), None))
    assert "9 of 10" in many
    assert "4 × 4 other reasons" in many
    same = verdicts(*(f"there is no verdict on segment {n}" for n in (1, 2, 3)))
    assert "3 × there is no verdict on the segment" in say_unscored(same)
    assert unscored_table(same).rows == (
        ("there is no verdict on the segment", "x, segment 1; x, segment 2; x, segment 3", "3"),
    )


@pytest.mark.parametrize("concurrency", [0, 257, 10**9])
def test_how_much_may_happen_at_once_is_bounded(server: ChatServer, store: Store, concurrency: int) -> None:
    with pytest.raises(ConfigError, match="at most 256"):
        critique([explained()], critic_judge(make_backend("openai:m")), store, concurrency=concurrency)


def test_a_signal_ends_a_wait_of_minutes(server: ChatServer, store: Store) -> None:
    server.behave = lambda asked: failure(429, "later", headers={"Retry-After": "590"})
    seen = threading.Event()

    def stop() -> None:
        while not server.requests:
            seen.wait(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Interrupted, match="the same command resumes"):
        critique([explained()], critic_judge(make_backend("openai:m")), store)
    thread.join()
