"""Answers from the output and error files of a batch: partial, damaged, repeated, all are welcome."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvlm_va.critique.backends.batch import batch_usd
from lvlm_va.critique.backends.chat import NotACompletion, read_completion
from lvlm_va.critique.pricing import Price, read_prices
from lvlm_va.critique.question import Reply
from lvlm_va.critique.store import Exchange, Store
from lvlm_va.errors import ConfigError

__all__ = ["Import", "import_responses"]


@dataclass(frozen=True)
class Import:
    """What was read.

    Attributes:
        imported: answers recorded, the useless ones included.
        useless: (key, reason) of those that cannot be used (cut off, refused, empty); they are not asked for
            again.
        failed: (key, reason) of requests that brought no answer; they stay open.
        unknown: custom ids that this store never asked.
        known: lines about questions answered before; the first answer stays.
        damaged: (file, line number, reason) of lines that could not be read.
    """

    imported: int
    useless: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str], ...]
    unknown: tuple[str, ...]
    known: int
    damaged: tuple[tuple[str, int, str], ...]


def import_responses(
    paths: Iterable[str | Path], store: Store, *, prices: Mapping[str, Any] | None = None
) -> Import:
    """Take the answers from output and error files of a batch; partial ones are welcome.

    Args:
        paths: the files, in any order; importing one twice changes nothing.
        store: the store that the questions were exported from.
        prices: the user's own, see `BatchBackend`.

    Raises:
        ConfigError: if a file cannot be opened.
    """
    own = read_prices(prices or {})
    imported = known = 0
    useless: list[tuple[str, str]] = []
    failed: list[tuple[str, str]] = []
    unknown: list[str] = []
    damaged: list[tuple[str, int, str]] = []
    for path in map(Path, paths):
        for number, line in _lines(path):
            try:
                key, response = _read_line(line)
            except ValueError as error:
                damaged.append((str(path), number, str(error)))
                continue
            exchange = store.exchange(key)
            if exchange is None:
                unknown.append(key)
            elif exchange.reply is not None:
                known += 1
            else:
                try:
                    reply = _read_response(response, exchange, own)
                    store.record_reply(key, reply)
                    imported += 1
                    if reply.problem:
                        useless.append((key, reply.problem))
                except NotACompletion as error:
                    store.record_failed_reply(key, str(error))
                    failed.append((key, str(error)))
    return Import(imported, tuple(useless), tuple(failed), tuple(unknown), known, tuple(damaged))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that hold anything, numbered from 1."""
    try:
        with path.open("rb") as file:
            yield from ((n, line) for n, line in enumerate(file, start=1) if line.strip())
    except OSError as error:
        raise ConfigError(f"{path}: the answers cannot be read: {error.strerror}") from None


def _read_line(line: bytes) -> tuple[str, Mapping[str, Any]]:
    """The key and the line as an object; ValueError where it is neither."""
    try:
        response = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("not JSON; the line may be cut off") from None
    key = response.get("custom_id") if isinstance(response, dict) else None
    if not isinstance(key, str):
        raise ValueError("no custom_id")
    return key, response


def _read_response(line: Mapping[str, Any], exchange: Exchange, prices: Mapping[str, Price]) -> Reply:
    """The reply in one line; NotACompletion, with what the provider says, where there is none."""
    response = line.get("response")
    body = response.get("body") if isinstance(response, dict) else None
    if line.get("error") or not isinstance(response, dict) or response.get("status_code") != 200:
        status = response.get("status_code") if isinstance(response, dict) else None
        raise NotACompletion(f"HTTP {status}: {_message(line.get('error')) or _message(body)}")
    model = exchange.backend.removeprefix("openai:")
    completion = read_completion(
        body if isinstance(body, dict) else b"", model=model, limit=exchange.parameters.get("max_tokens")
    )
    usd = None
    if completion.input_tokens is not None and completion.output_tokens is not None:
        usd = batch_usd(
            model, completion.input_tokens, completion.output_tokens, completion.cached_tokens, prices
        )
    return completion.reply(usd, seconds=0.0, note="answered in a batch")


def _message(error: object) -> str:
    """What a provider says about an error, on one short line, whichever of its forms it uses."""
    if isinstance(error, dict):
        inner = error.get("error", error)
        error = inner.get("message") or inner.get("code") if isinstance(inner, dict) else inner
    return " ".join(str(error or "").split())[:300]
