"""Any OpenAI-compatible endpoint: a vision-language model behind /v1/chat/completions.

The key comes from OPENAI_API_KEY and the address from OPENAI_BASE_URL, from nowhere else; neither a log,
nor the store, nor an error ever holds the key: whatever the server says goes through `redact`.
"""

import asyncio
import importlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import openai
from aiolimiter import AsyncLimiter

from lvlm_va.critique.backends.chat import (
    NotACompletion,
    UpstreamError,
    read_completion,
    request_body,
    said_in,
)
from lvlm_va.critique.backends.dialect import Dialect
from lvlm_va.critique.backends.endpoint import NoKeyError, http_client, read_endpoint
from lvlm_va.critique.backends.retry import backoff, retry_after
from lvlm_va.critique.pricing import price_usd, read_prices
from lvlm_va.critique.question import Question, Reply
from lvlm_va.errors import AnswerFailed, ConfigError, CriticError
from lvlm_va.io.hints import did_you_mean
from lvlm_va.io.redaction import one_line, redact

__all__ = ["NoKeyError", "OpenAIBackend"]

_LONGEST_WAIT = 600.0  # seconds; a server that asks for more is worth a message, not a silent run
_GLANCE = 10.0  # seconds for a look whether the server is there
_LOADING = 5.0  # seconds before a server that loads its model is first asked again
_STEP = 0.25  # seconds after which a wait looks whether it still makes sense
_MOST_PAID = 3  # how often a question is sent whose answers are paid for and cannot be used
_LARGEST = 8 * 2**20  # bytes of a reply; an answer of a million characters fits
_HTTP: Any = importlib.import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])
"""The client's HTTP library, which differs between its major versions."""
_log = logging.getLogger(__name__)


class _AskAgainError(Exception):
    """The server was busy or broken.

    Attributes:
        after: how long it asks us to wait, if it says.
        loading: whether it has not loaded its model yet.
        usd: what the useless answer cost, where one came; None where that is unknown.
        paid: whether one came.
    """

    def __init__(
        self,
        reason: str,
        after: float | None = None,
        *,
        loading: bool = False,
        paid: bool = False,
        usd: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.after = after
        self.loading = loading
        self.paid = paid
        self.usd = usd


class _RejectedError(Exception):
    """A response that is no success, with as much of its body as was read."""

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.text = content.decode("utf-8", "replace")
        try:
            self.body: Any = json.loads(content)
        except (ValueError, RecursionError):
            self.body = None

    def field(self, name: str) -> str:
        """A field of the error in the body, or ""."""
        body = self.body[0] if isinstance(self.body, list) and self.body else self.body
        error = body.get("error", body) if isinstance(body, dict) else None
        value = error.get(name) if isinstance(error, dict) else None
        return value if isinstance(value, str) else ""

    @property
    def said(self) -> str:
        """What the server said, whichever form it has, on one short line without secrets."""
        return said_in(self.body) or one_line(self.text)


class _TooLargeError(Exception):
    """A reply larger than any answer."""


async def _bounded(chunks: AsyncIterator[bytes]) -> bytes:
    content = bytearray()
    async for chunk in chunks:
        content += chunk
        if len(content) > _LARGEST:
            raise _TooLargeError
    return bytes(content)


async def _refuse(response: Any) -> None:
    """Before the client reads it: take what is no success out of its hands, redirects above all."""
    if not response.is_success:
        raise _RejectedError(response.status_code, response.headers, await _bounded(response.aiter_bytes()))


@dataclass
class _Line:
    """Connections and limits, which belong to one event loop."""

    loop: asyncio.AbstractEventLoop
    client: openai.AsyncOpenAI
    slots: asyncio.Semaphore
    limiter: AsyncLimiter | None
    quiet_until: float = field(default=0.0)  # loop time; all wait when the server asked one to wait


class OpenAIBackend:
    """A model behind an OpenAI-compatible endpoint. See `Backend`.

    Args:
        model: the model's name on the endpoint.
        concurrency: how many calls may be under way at once.
        requests_per_minute: calls started per minute at most, evenly spread; None for no limit.
        timeout: seconds from sending to the last byte.
        attempts: how often one question is sent at most, when the server is busy (408, 409, 429, 5xx),
            does not answer in time, or answers with something that is not a completion. Retry-After is
            honoured, by all calls of this backend, up to ten minutes.
        prices: the user's own, see `read_prices`.

    Raises:
        NoKeyError: if there is no key and the endpoint is not on this machine or its network.
        CriticError: if the address is not a URL.
        ConfigError: if a number is not positive.
    """

    kind: Literal["lvlm"] = "lvlm"

    def __init__(
        self,
        model: str,
        *,
        concurrency: int = 8,
        requests_per_minute: float | None = None,
        timeout: float = 120.0,
        attempts: int = 6,
        prices: Mapping[str, Any] | None = None,
    ) -> None:
        for name, value in (
            ("concurrency", concurrency),
            ("requests_per_minute", requests_per_minute),
            ("timeout", timeout),
            ("attempts", attempts),
        ):
            if value is not None and not value > 0:
                raise ConfigError(f"openai:{model}: {name} must be positive, not {value}")
        self.name = f"openai:{model}"
        self.model = model
        if not model.isprintable():  # nor could a half character travel
            raise ConfigError("openai: the model's name holds a character that cannot be printed; correct it")
        self._endpoint = read_endpoint(os.environ)
        self._shown = self._endpoint.shown
        self._concurrency = concurrency
        self._rate = requests_per_minute
        self._timeout = timeout
        self._attempts = attempts
        self._prices = read_prices(prices or {})
        self._dialect = Dialect()
        self._reached = False
        self._halted = False
        self._line: _Line | None = None
        _keep_logs_clean()
        # Made now, so that an environment with which no connection can be made is told now.
        self._spare: openai.AsyncOpenAI | None = self._client(timeout)

    def __repr__(self) -> str:
        return f"OpenAIBackend({self.model!r} at {self._shown})"

    def usd(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float | None:
        """The price of one call, or None where no price is known."""
        return price_usd(
            self.model,
            input_tokens,
            output_tokens,
            cached_tokens=cached_tokens,
            prices=self._prices,
            url=self._endpoint.url,
        )

    async def answer(self, question: Question) -> Reply:
        """Ask the model, as often as `attempts` allows.

        An answer that was paid for and cannot be used (cut off at the limit, refused) is returned with its
        `problem`: asking the same again would only pay again. One that is empty, or not known to be whole, is
        a failed attempt; of these there are three at most.

        Raises:
            AnswerFailed: if all attempts failed, or the server rejects this question.
            CriticError: if the server cannot be reached, rejects the key, does not know the model or sends us
                elsewhere.
        """
        line = self._open()
        body = request_body(question, self.model)
        reason, sent, useless = "", 0, 0
        wasted: float | None = 0.0  # US dollars for answers of no use; None once it is unknown
        async with line.slots:
            while sent < self._attempts and useless < _MOST_PAID:
                sent += 1
                try:
                    reply = await self._ask(line, body)
                except _AskAgainError as error:
                    reason = str(error)
                    if error.paid:
                        useless += 1
                        wasted = None if wasted is None or error.usd is None else wasted + error.usd
                    after = error.after
                    if error.loading and not after:
                        after = min(_LOADING * 2.0 ** (sent - 1), 60.0)
                    now = line.loop.time()
                    if after:
                        line.quiet_until = max(line.quiet_until, now + after)
                    elif sent < self._attempts:
                        await self._until(partial(float, now + backoff(sent - 1)), line)
                else:
                    if useless:
                        usd = None if wasted is None or reply.usd is None else reply.usd + wasted
                        reply = replace(reply, usd=usd)
                    return reply
        failed = AnswerFailed(f"{self.name}: no answer in {sent} attempts, at last: {reason}")
        failed.usd = wasted
        raise failed

    def halt(self) -> None:
        """Wait for nothing more: who waits to ask again fails now. Until `close`; answers under way come."""
        self._halted = True

    def reach(self) -> str:
        """Look whether the endpoint answers and accepts the key, by its list of models; costs nothing.

        Returns:
            What was found, in words.

        Raises:
            CriticError: if it cannot be reached or rejects the key.
        """
        return asyncio.run(self._reach())

    async def close(self) -> None:
        """Close all connections; the next question opens new ones."""
        line, self._line = self._line, None
        self._halted = False
        if line is not None:
            await line.client.close()

    async def _reach(self) -> str:
        url, timeout = self._shown, min(self._timeout, _GLANCE)
        try:
            async with (
                self._client(timeout) as client,
                asyncio.timeout(timeout),
                client.models.with_streaming_response.list() as response,
            ):
                content = await _bounded(response.iter_bytes())
        except (TimeoutError, openai.APITimeoutError, _HTTP.TimeoutException):
            raise CriticError(f"{self.name}: no answer from {url} within {timeout:g} s") from None
        except (openai.APIConnectionError, _HTTP.RequestError) as error:
            reason = one_line(str(error.__cause__ or error))
            raise CriticError(
                f"{self.name}: cannot reach {url} ({reason}); check the network and OPENAI_BASE_URL"
            ) from None
        except _TooLargeError:
            content = b""
        except _RejectedError as error:
            if error.status in (401, 403):
                raise CriticError(
                    f"{self.name}: {url} does not accept the key (HTTP {error.status}); check OPENAI_API_KEY"
                ) from None
            self._refuse_redirect(error)
            return f"{url} answers, but does not list its models (HTTP {error.status})"
        models = _model_names(content)
        if models is None:
            raise CriticError(
                f"{self.name}: {url} answers, but not with a list of models; does OPENAI_BASE_URL end in /v1?"
            )
        if self.model in models:
            return f"{url} answers and has the model"
        known = [one_line(name, 100) for name in models[:10]]
        return f"{url} answers, but does not list {self.model!r}; {did_you_mean(self.model, known)}"

    def _client(self, timeout: float) -> openai.AsyncOpenAI:
        client = http_client(params=self._endpoint.query, event_hooks={"response": [_refuse]})
        try:
            return openai.AsyncOpenAI(
                api_key=self._endpoint.key,
                base_url=self._endpoint.url,
                timeout=timeout,
                max_retries=0,
                http_client=client,
            )
        except Exception:  # noqa: BLE001 -- of the HTTP library; it would show the address
            raise CriticError(
                "OPENAI_BASE_URL is not an address like http://localhost:8000/v1; correct it"
            ) from None

    def _open(self) -> _Line:
        loop = asyncio.get_running_loop()
        if self._line is None or self._line.loop is not loop:
            self._line = _Line(
                loop,
                self._spare or self._client(self._timeout),
                asyncio.Semaphore(self._concurrency),
                AsyncLimiter(1, 60 / self._rate) if self._rate else None,
            )
            self._spare = None
        return self._line

    async def _until(self, end: Callable[[], float], line: _Line) -> None:
        """Wait until a loop time, which may move meanwhile, in steps short enough to notice `halt`."""
        while (pause := end() - line.loop.time()) > 0:
            if self._halted:
                raise AnswerFailed(f"{self.name}: stopped while waiting to ask again")
            await asyncio.sleep(min(pause, _STEP))

    async def _ask(self, line: _Line, body: Mapping[str, Any]) -> Reply:
        """One attempt; repeated at once where the server rejects a field that can be done without."""
        create: Any = line.client.chat.completions.with_streaming_response.create
        before = self._dialect
        while True:
            dialect = self._dialect
            spoken, note = dialect.speak(body)
            await self._until(lambda: line.quiet_until, line)
            if line.limiter is not None:
                await line.limiter.acquire()
            started = time.perf_counter()
            try:
                async with asyncio.timeout(self._timeout):
                    # What is not a model or a message travels as extra_body: the client need not know it.
                    extra = {k: v for k, v in spoken.items() if k not in ("model", "messages")}
                    async with create(
                        model=spoken["model"], messages=spoken["messages"], extra_body=extra
                    ) as response:
                        content = await _bounded(response.iter_bytes())
            except (TimeoutError, openai.APITimeoutError, _HTTP.TimeoutException):
                raise _AskAgainError(f"no complete answer within {self._timeout:g} s") from None
            except (openai.APIConnectionError, _HTTP.RequestError) as error:
                raise self._unconnected(error) from None
            except _TooLargeError:
                raise _AskAgainError(f"a reply of more than {_LARGEST:,} bytes", paid=True) from None
            except _RejectedError as error:
                self._reached = True
                try:
                    self._adapt(dialect, spoken, error)
                except AnswerFailed:
                    self._dialect = before  # what was learnt from it did not help
                    raise
                continue
            self._reached = True
            try:
                limit = spoken.get("max_tokens", spoken.get("max_completion_tokens"))
                completion = read_completion(content, model=self.model, limit=limit)
            except UpstreamError as error:
                self._adapt(dialect, spoken, _RejectedError(error.status, {}, content), code=200)
                raise _AskAgainError(str(error)) from None
            except NotACompletion as error:
                paid = self.usd(*error.usage) if error.usage else None
                raise _AskAgainError(str(error), paid=error.usage is not None, usd=paid) from None
            counted = completion.input_tokens is not None and completion.output_tokens is not None
            usd = (
                self.usd(
                    completion.input_tokens or 0, completion.output_tokens or 0, completion.cached_tokens
                )
                if counted
                else None
            )
            return completion.reply(usd, time.perf_counter() - started, note)

    def _unconnected(self, error: Exception) -> Exception:
        cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
        reason = one_line(str(cause) or type(cause).__name__)
        if not self._reached and isinstance(cause, _HTTP.ConnectError):
            return CriticError(
                f"{self.name}: cannot reach {self._shown} ({reason}); check the network and "
                "OPENAI_BASE_URL, or use another critic"
            )
        return _AskAgainError(f"the connection broke ({reason})")

    def _adapt(
        self, dialect: Dialect, spoken: Mapping[str, Any], error: _RejectedError, *, code: int | None = None
    ) -> None:
        """Return if the same question may be put differently at once; raise what the status means if not.

        Args:
            dialect: in which the question was put.
            spoken: the body as it was sent.
            error: what came back.
            code: the HTTP status where that is another than the error's own.
        """
        status, url, said = error.status, self._shown, error.said
        shown = f"HTTP {status}" if code is None else f"HTTP {code}, error {status}"
        self._refuse_redirect(error)
        match status:
            case 401:
                raise CriticError(
                    f"{self.name}: {url} does not accept the key ({shown}); check OPENAI_API_KEY"
                )
            case 404:
                raise CriticError(
                    f"{self.name}: {url} does not know this model or address ({shown}: {said}); check the "
                    "model's name and OPENAI_BASE_URL"
                )
            case 402:
                raise CriticError(f"{self.name}: {url} wants payment first ({shown}: {said})")
            case 429 if "insufficient_quota" in (error.field("code"), error.field("type")):
                raise CriticError(f"{self.name}: the account at {url} has no credit left ({shown}: {said})")
            case _ if status in (408, 409, 429) or status >= 500:
                after = retry_after(error.headers, error.text)
                if after is not None and after > _LONGEST_WAIT:
                    raise CriticError(
                        f"{self.name}: {url} asks to wait {after:.0f} s ({shown}); all answers so far "
                        "are kept, run the same command again then"
                    )
                loading = status == 503 and "load" in said.lower()
                raise _AskAgainError(f"{shown}: {said}", after, loading=loading)
            case 400 | 422:
                if self._dialect != dialect:
                    return  # another call has learnt in the meantime
                learnt = dialect.learn(spoken, error.field("param"), error.text[:10_000])
                if learnt is not None:
                    self._dialect = learnt
                    _log.warning("%s: the server rejects part of the request (%s)", self.name, said)
                    return
        raise AnswerFailed(f"{self.name}: the server rejects the question ({shown}: {said})")

    def _refuse_redirect(self, error: _RejectedError) -> None:
        if 300 <= error.status < 400:
            where = one_line(_without_secrets(error.headers.get("location", "")), 200) or "nowhere"
            raise CriticError(
                f"{self.name}: {self._shown} redirects to {where} (HTTP {error.status}), which is not "
                "followed: the images would go there. If they may, set OPENAI_BASE_URL to the new address"
            )


def _without_secrets(url: str) -> str:
    """An address without user name, password and query, as far as it can be taken apart."""
    head, at, tail = url.partition("?")[0].rpartition("@")
    scheme, slashes, _ = head.partition("//")
    return f"{scheme}{slashes}{tail}" if at else tail


def _model_names(content: bytes) -> list[str] | None:
    """The ids in a list of models; None if it is none."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    entries = document.get("data") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return None
    if not all(isinstance(entry, dict) and isinstance(entry.get("id"), str) for entry in entries):
        return None
    return [entry["id"] for entry in entries]


class _Redacting(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        return True


_REDACTING = _Redacting()


def _keep_logs_clean() -> None:
    """Addresses in the logs of the libraries below may hold secrets."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
            logging.getLogger(name).addFilter(_REDACTING)  # the same one is added only once
