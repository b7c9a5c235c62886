"""Any OpenAI-compatible endpoint: a vision-language model behind /v1/chat/completions.

The key comes from OPENAI_API_KEY and the address from OPENAI_BASE_URL, from nowhere else; neither a log,
nor the store, nor an error ever holds the key: whatever the server says goes through `redact`.
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import aiohttp
from aiolimiter import AsyncLimiter

from lvlm_va.critique.backends.chat import (
    NotACompletion,
    UpstreamError,
    encoded,
    read_completion,
    request_body,
)
from lvlm_va.critique.backends.connection import Connections, TooLargeError, why_unreachable
from lvlm_va.critique.backends.dialect import Dialect
from lvlm_va.critique.backends.endpoint import NoKeyError, read_endpoint
from lvlm_va.critique.backends.line import Line
from lvlm_va.critique.backends.model_list import ListedModel, find_model, read_models
from lvlm_va.critique.backends.refusal import AskAgainError, meaning
from lvlm_va.critique.backends.rejection import Rejection
from lvlm_va.critique.backends.retry import backoff
from lvlm_va.critique.pricing import price_usd, read_prices
from lvlm_va.critique.question import Question, Reply
from lvlm_va.critique.thinking import THOUGHT_TOO_LONG
from lvlm_va.errors import AnswerFailed, ConfigError, CriticError
from lvlm_va.io.hints import did_you_mean
from lvlm_va.io.redaction import one_line

__all__ = ["NoKeyError", "OpenAIBackend"]

_GLANCE = 10.0  # seconds for a look whether the server is there
_LOADING, _LONGEST_LOADING = (
    5.0,
    1800.0,
)  # seconds before a server that loads its model is asked again; in all
_MOST_PAID = 3  # how often a question is sent whose answers are paid for and cannot be used
_log = logging.getLogger(__name__)


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
        system_role: whether there is a system prompt; its words else open the user's text.

    A server that is loading its model is waited for, half an hour at most.

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
        system_role: bool = True,
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
        self._endpoint = read_endpoint(os.environ, model)
        self._shown = self._endpoint.shown
        self._concurrency = concurrency
        self._rate = requests_per_minute
        self._timeout = timeout
        self._attempts = attempts
        self._prices = read_prices(prices or {})
        self._system_role = system_role
        self._dialect = Dialect()
        self._reached = False
        self._said: set[str] = set()  # what is told once
        self._line: Line | None = None
        # Made now, so that an environment with which no connection can be made is told now.
        self._spare: Connections | None = self._connections()

    def __repr__(self) -> str:
        return f"OpenAIBackend({self.model!r} at {self._shown})"

    @property
    def address(self) -> str:
        """Where it is asked, without secrets."""
        return self._shown

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
        body = request_body(question, self.model, system_role=self._system_role)
        reason, sent, useless, loading = "", 0, 0, 0
        wasted: float | None = 0.0  # US dollars for answers of no use; None once it is unknown
        async with line.slots:
            started = line.now()
            while sent < self._attempts and useless < _MOST_PAID:
                sent += 1
                try:
                    reply = await self._ask(line, body)
                except AskAgainError as error:
                    reason = str(error)
                    if error.paid:
                        useless += 1
                        wasted = None if wasted is None or error.usd is None else wasted + error.usd
                    after = error.after
                    if error.loading:
                        sent -= 1  # it has not looked at the question
                        after = after or min(_LOADING * 2.0**loading, 60.0)
                        loading += 1
                        self._tell(f"the server is loading its model; waiting ({reason})")
                        if line.now() + after - started > _LONGEST_LOADING:
                            raise CriticError(
                                f"{self.name}: {self._shown} has been loading its model for half an hour "
                                f"({reason}); run the same command again later"
                            ) from None
                    if after:
                        line.keep_quiet(after)
                    elif sent < self._attempts:
                        await line.wait_until(line.now() + backoff(sent - 1))
                else:
                    if reply.problem.startswith(THOUGHT_TOO_LONG):
                        self._tell(f"{reply.problem} (it is asked again with up to 32,768)")
                    if useless:
                        usd = None if wasted is None or reply.usd is None else reply.usd + wasted
                        reply = replace(reply, usd=usd)
                    return reply
        failed = AnswerFailed(f"{self.name}: no answer in {sent} attempts, at last: {reason}")
        failed.usd = wasted
        raise failed

    def halt(self) -> None:
        """Wait for nothing more: who waits to ask again fails now. Until `close`; answers under way come."""
        if self._line is not None:
            self._line.halted = True

    def reach(self) -> str:
        """Look whether the endpoint answers and accepts the key, by its list of models; costs nothing.

        Returns:
            What was found, in words.

        Raises:
            CriticError: if it cannot be reached or rejects the key.
        """
        models = asyncio.run(self.list_models())
        url = self._shown
        if isinstance(models, str):
            return f"{url} answers, but does not list its models ({models})"
        if find_model(models, self.model) is not None:
            return f"{url} answers and has the model"
        if not models:
            return f"{url} answers, but lists no model; has one been installed there?"
        known = [one_line(one.name, 100) for one in models[:10]]
        return f"{url} answers, but does not list {self.model!r}; {did_you_mean(self.model, known)}"

    async def close(self) -> None:
        """Close all connections; the next question opens new ones."""
        line, self._line = self._line, None
        if line is not None:
            await line.connections.close()

    async def list_models(self) -> list[ListedModel] | str:
        """What the endpoint lists; in words why not, where it answers but lists none. Costs nothing.

        Raises:
            CriticError: if it cannot be reached, rejects the key, or answers with something else.
        """
        url, timeout = self._shown, min(self._timeout, _GLANCE)
        connections = self._connections()
        try:
            async with asyncio.timeout(timeout):
                models = read_models(await connections.request("GET", "/models"))
        except TimeoutError:
            raise CriticError(f"{self.name}: no answer from {url} within {timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from None
        except TooLargeError:
            models = None
        except Rejection as rejection:
            if rejection.status in (401, 403) or not rejection.is_busy:
                found = meaning(rejection, self.name, self._endpoint)
                if rejection.status < 400 or rejection.status in (401, 403, 407):
                    raise found from None
            return rejection.shown
        finally:
            await connections.close()
        if models is None:
            raise CriticError(
                f"{self.name}: {url} answers, but not with a list of models; does OPENAI_BASE_URL end in /v1?"
            )
        return models

    def _connections(self) -> Connections:
        endpoint = self._endpoint
        key = endpoint.key if endpoint.key_header == "api-key" else f"Bearer {endpoint.key}"
        headers = {endpoint.key_header: key}
        for header, name in (
            ("OpenAI-Organization", "OPENAI_ORG_ID"),
            ("OpenAI-Project", "OPENAI_PROJECT_ID"),
        ):
            if value := os.environ.get(name):
                headers[header] = value
        return Connections(endpoint.url, endpoint.query, headers)

    def _open(self) -> Line:
        loop = asyncio.get_running_loop()
        if self._line is None or self._line.loop is not loop:
            self._line = Line(
                self.name,
                loop,
                self._spare or self._connections(),
                asyncio.Semaphore(self._concurrency),
                AsyncLimiter(1, 60 / self._rate) if self._rate else None,
            )
            self._spare = None
        return self._line

    async def _ask(self, line: Line, body: Mapping[str, Any]) -> Reply:
        """One attempt; repeated at once where the server rejects a field that can be done without."""
        before = self._dialect
        while True:
            dialect = self._dialect
            spoken, note = dialect.speak(body)
            await line.wait_until()
            if line.limiter is not None:
                await line.limiter.acquire()
            started = time.perf_counter()
            try:
                async with asyncio.timeout(self._timeout):
                    content = await line.connections.request("POST", "/chat/completions", encoded(spoken))
            except TimeoutError:
                raise AskAgainError(
                    f"no complete answer within critique.timeout = {self._timeout:g} s"
                ) from None
            except (aiohttp.ClientError, OSError) as error:
                raise self._unconnected(error) from None
            except TooLargeError as error:
                raise AskAgainError(str(error), paid=True) from None
            except Rejection as rejection:
                self._reached = True
                self._adapt(before, dialect, spoken, rejection)
                continue
            self._reached = True
            try:
                completion = read_completion(
                    content, model=self.model, limit=_limit(spoken), is_most=_limit(spoken) != _limit(body)
                )
            except UpstreamError as error:
                said = json.dumps({"error": error.error}).encode()
                self._adapt(before, dialect, spoken, Rejection(error.status, {}, said, http_status=200))
                continue
            except NotACompletion as error:
                paid = self.usd(*error.usage) if error.usage else None
                raise AskAgainError(str(error), paid=error.usage is not None, usd=paid) from None
            counted = completion.input_tokens is not None and completion.output_tokens is not None
            usd = (
                self.usd(
                    completion.input_tokens or 0, completion.output_tokens or 0, completion.cached_tokens
                )
                if counted
                else None
            )
            return completion.reply(usd, time.perf_counter() - started, note)

    def _adapt(
        self, before: Dialect, dialect: Dialect, spoken: Mapping[str, Any], rejection: Rejection
    ) -> None:
        """Return if the same question may be put differently at once; raise what the rejection means if not.

        Args:
            before: the dialect when the question was first put.
            dialect: in which it was put.
            spoken: the body as it was sent.
            rejection: what came back.
        """
        if rejection.status in (400, 413, 422, 500):
            if self._dialect != dialect:
                return  # another call has learnt in the meantime
            learnt = dialect.learn(spoken, rejection.field("param"), rejection.words)
            if learnt is not None:
                self._dialect = learnt
                self._tell(f"the server rejects part of the request ({rejection.said})")
                return
        error = meaning(rejection, self.name, self._endpoint)
        if isinstance(error, AnswerFailed):
            self._dialect = before  # what was learnt from it did not help
        raise error from None

    def _tell(self, what: str) -> None:
        """Warn, of the same thing once."""
        if what not in self._said:
            self._said.add(what)
            _log.warning("%s: %s", self.name, what)

    def _unconnected(self, error: Exception) -> Exception:
        if not self._reached and isinstance(
            error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError
        ):
            return self._unreachable(error)
        return AskAgainError(f"the connection broke ({one_line(str(error) or type(error).__name__)})")

    def _unreachable(self, error: Exception) -> CriticError:
        why = why_unreachable(error, self._endpoint.url)
        return CriticError(f"{self.name}: cannot reach {self._shown} ({why}, or use another critic")


def _limit(body: Mapping[str, Any]) -> object:
    return body.get("max_tokens", body.get("max_completion_tokens"))
