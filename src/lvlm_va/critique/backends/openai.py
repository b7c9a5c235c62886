"""Any OpenAI-compatible endpoint: a vision-language model behind /v1/chat/completions.

The key comes from OPENAI_API_KEY and the address from OPENAI_BASE_URL, from nowhere else; neither a log,
nor the store, nor an error ever holds the key.
"""

import asyncio
import ipaddress
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import openai
from aiolimiter import AsyncLimiter

from lvlm_va.critique.backends.chat import NotACompletion, read_completion, request_body
from lvlm_va.critique.backends.dialect import Dialect
from lvlm_va.critique.backends.retry import backoff, retry_after
from lvlm_va.critique.pricing import OPENAI_URL, price_usd, read_prices
from lvlm_va.critique.question import Question, Reply
from lvlm_va.errors import AnswerFailed, ConfigError, CriticError
from lvlm_va.hints import did_you_mean

__all__ = ["NoKeyError", "OpenAIBackend"]

_LONGEST_WAIT = 600.0  # seconds; a server that asks for more is worth a message, not a silent run
_GLANCE = 10.0  # seconds for a look whether the server is there
_log = logging.getLogger(__name__)


class NoKeyError(CriticError):
    """The endpoint wants a key and there is none."""


class _AskAgainError(Exception):
    """The server was busy or broken; `after` is how long it asks us to wait, if it says."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


@dataclass
class _Line:
    """Connections and limits, which belong to one event loop."""

    loop: asyncio.AbstractEventLoop
    client: openai.AsyncOpenAI
    slots: asyncio.Semaphore
    limiter: AsyncLimiter | None
    quiet_until: float = field(default=0.0)  # loop time; all wait when the server asked one to wait

    async def turn(self) -> None:
        while (pause := self.quiet_until - self.loop.time()) > 0:
            await asyncio.sleep(pause)
        if self.limiter is not None:
            await self.limiter.acquire()


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
        self._url, self._key = _endpoint(os.environ)
        self._concurrency = concurrency
        self._rate = requests_per_minute
        self._timeout = timeout
        self._attempts = attempts
        self._prices = read_prices(prices or {})
        self._dialect = Dialect()
        self._reached = False
        self._line: _Line | None = None

    def __repr__(self) -> str:
        return f"OpenAIBackend({self.model!r} at {_shown(self._url)})"

    def usd(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float | None:
        """The price of one call, or None where no price is known."""
        return price_usd(
            self.model,
            input_tokens,
            output_tokens,
            cached_tokens=cached_tokens,
            prices=self._prices,
            url=self._url,
        )

    async def answer(self, question: Question) -> Reply:
        """Ask the model, as often as `attempts` allows.

        An answer that was paid for and cannot be used (cut off, refused, empty) is returned with its
        `problem`: asking the same again would only pay again.

        Raises:
            AnswerFailed: if all attempts failed, or the server rejects this question.
            CriticError: if the server cannot be reached, rejects the key or does not know the model.
        """
        line = self._open()
        body = request_body(question, self.model)
        reason = ""
        async with line.slots:
            for attempt in range(self._attempts):
                try:
                    return await self._ask(line, body)
                except _AskAgainError as error:
                    reason = str(error)
                    if error.after:
                        line.quiet_until = max(line.quiet_until, line.loop.time() + error.after)
                    elif attempt + 1 < self._attempts:
                        await asyncio.sleep(backoff(attempt))
        raise AnswerFailed(f"{self.name}: no answer in {self._attempts} attempts, at last: {reason}")

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
        if line is not None:
            await line.client.close()

    async def _reach(self) -> str:
        url, timeout = _shown(self._url), min(self._timeout, _GLANCE)
        client = openai.AsyncOpenAI(api_key=self._key, base_url=self._url, timeout=timeout, max_retries=0)
        try:
            async with client, asyncio.timeout(timeout):
                models = [model.id async for model in client.models.list()]
        except (TimeoutError, openai.APITimeoutError):
            raise CriticError(f"{self.name}: no answer from {url} within {timeout:g} s") from None
        except openai.APIConnectionError as error:
            reason = self._safe(str(error.__cause__ or error))
            raise CriticError(
                f"{self.name}: cannot reach {url} ({reason}); check the network and OPENAI_BASE_URL"
            ) from None
        except openai.APIStatusError as error:
            if error.status_code in (401, 403):
                raise CriticError(
                    f"{self.name}: {url} does not accept the key (HTTP {error.status_code}); "
                    "check OPENAI_API_KEY"
                ) from None
            return f"{url} answers, but does not list its models (HTTP {error.status_code})"
        if self.model in models:
            return f"{url} answers and has the model"
        return f"{url} answers, but does not list {self.model!r}; {did_you_mean(self.model, models[:10])}"

    def _open(self) -> _Line:
        loop = asyncio.get_running_loop()
        if self._line is None or self._line.loop is not loop:
            self._line = _Line(
                loop,
                openai.AsyncOpenAI(
                    api_key=self._key, base_url=self._url, timeout=self._timeout, max_retries=0
                ),
                asyncio.Semaphore(self._concurrency),
                AsyncLimiter(1, 60 / self._rate) if self._rate else None,
            )
        return self._line

    async def _ask(self, line: _Line, body: Mapping[str, Any]) -> Reply:
        """One attempt; repeated at once where the server rejects a field that can be done without."""
        create: Any = line.client.chat.completions.with_raw_response.create
        while True:
            dialect = self._dialect
            spoken, note = dialect.speak(body)
            await line.turn()
            started = time.perf_counter()
            try:
                async with asyncio.timeout(self._timeout):
                    # What is not a model or a message travels as extra_body: the client need not know it.
                    extra = {k: v for k, v in spoken.items() if k not in ("model", "messages")}
                    raw = await create(model=spoken["model"], messages=spoken["messages"], extra_body=extra)
                    content: bytes = raw.content
            except (TimeoutError, openai.APITimeoutError):
                raise _AskAgainError(f"no complete answer within {self._timeout:g} s") from None
            except openai.APIConnectionError as error:
                raise self._unconnected(error) from None
            except openai.APIStatusError as error:
                self._reached = True
                self._adapt(dialect, spoken, error)
                continue
            self._reached = True
            try:
                limit = body.get("max_tokens")
                completion = read_completion(content, model=self.model, limit=limit)
            except NotACompletion as error:
                raise _AskAgainError(str(error)) from None
            counted = completion.input_tokens is not None and completion.output_tokens is not None
            usd = (
                self.usd(
                    completion.input_tokens or 0, completion.output_tokens or 0, completion.cached_tokens
                )
                if counted
                else None
            )
            return completion.reply(usd, time.perf_counter() - started, note)

    def _unconnected(self, error: openai.APIConnectionError) -> Exception:
        cause = error.__cause__
        reason = self._safe(str(cause) or type(cause).__name__)
        # By name: the client's HTTP library, and so the class, differs between its major versions.
        if not self._reached and type(cause).__name__ == "ConnectError":
            return CriticError(
                f"{self.name}: cannot reach {_shown(self._url)} ({reason}); check the network and "
                "OPENAI_BASE_URL, or use another critic"
            )
        return _AskAgainError(f"the connection broke ({reason})")

    def _adapt(self, dialect: Dialect, spoken: Mapping[str, Any], error: openai.APIStatusError) -> None:
        """Return if the same question may be put differently at once; raise what the status means if not."""
        status, url = error.status_code, _shown(self._url)
        said = self._safe(error.message)
        match status:
            case 401:
                raise CriticError(
                    f"{self.name}: {url} does not accept the key (HTTP 401); check OPENAI_API_KEY"
                )
            case 404:
                raise CriticError(
                    f"{self.name}: {url} does not know this model or address (HTTP 404: {said}); check the "
                    "model's name and OPENAI_BASE_URL"
                )
            case 402:
                raise CriticError(f"{self.name}: {url} wants payment first (HTTP 402: {said})")
            case 429 if error.code == "insufficient_quota":
                raise CriticError(f"{self.name}: the account at {url} has no credit left (HTTP 429: {said})")
            case _ if status in (408, 409, 429) or status >= 500:
                after = retry_after(error.response.headers)
                if after is not None and after > _LONGEST_WAIT:
                    raise CriticError(
                        f"{self.name}: {url} asks to wait {after:.0f} s (HTTP {status}); all answers so far "
                        "are kept, run the same command again then"
                    )
                raise _AskAgainError(f"HTTP {status}: {said}", after)
            case 400 | 422:
                if self._dialect != dialect:
                    return  # another call has learnt in the meantime
                learnt = dialect.learn(spoken, str(error.param or ""), error.message)
                if learnt is not None:
                    self._dialect = learnt
                    _log.warning("%s: the server rejects part of the request (%s)", self.name, said)
                    return
        raise AnswerFailed(f"{self.name}: the server rejects the question (HTTP {status}: {said})")

    def _safe(self, text: str) -> str:
        """What the server said, on one short line, without the key."""
        return " ".join(text.replace(self._key, "***").split())[:300]


def _endpoint(environment: Mapping[str, str]) -> tuple[str, str]:
    """The address and the key."""
    url = environment.get("OPENAI_BASE_URL", "").strip() or OPENAI_URL
    key = environment.get("OPENAI_API_KEY", "").strip()
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        sound = False
    if not sound:
        raise CriticError("OPENAI_BASE_URL is not an address like http://localhost:8000/v1; correct it")
    if not key and not _is_local(parts.hostname or ""):
        raise NoKeyError(
            f"no key for {_shown(url)}: set OPENAI_API_KEY, or set OPENAI_BASE_URL to a server of your own, "
            "or use the built-in critic"
        )
    return url, key or "no-key-needed"


def _is_local(host: str) -> bool:
    """Whether a host is this machine or on its private network, where servers often want no key."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local"))


def _shown(url: str) -> str:
    """The address without user name, password and query."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"
