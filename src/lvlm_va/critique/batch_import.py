"""Answers from the output and error files of a batch: partial, damaged, repeated, all are welcome."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvlm_va.critique.backends.batch import batch_usd
from lvlm_va.critique.backends.chat import NotACompletion, read_completion
from lvlm_va.critique.pricing import Price, read_prices
from lvlm_va.critique.question import Reply, as_text
from lvlm_va.critique.store import Exchange, Store
from lvlm_va.errors import ConfigError
from lvlm_va.io.redaction import one_line

__all__ = ["Import", "import_responses"]

_LONGEST_LINE = 16 * 2**20  # bytes


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
        damaged: (where, reason) of lines or folders that could not be read.
        unreadable: files of whose lines none could be read, and folders that hold no question.
        empty: questions whose answer was left empty; they stay open.
    """

    imported: int
    useless: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str], ...]
    unknown: tuple[str, ...]
    known: int
    damaged: tuple[tuple[str, str], ...]
    unreadable: tuple[str, ...] = ()
    empty: int = 0


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
    damaged: list[tuple[str, str]] = []
    unreadable: list[str] = []
    for path in map(Path, paths):
        read, before = 0, len(damaged)
        with closing(store.committed_together(_lines(path))) as lines:
            for number, line in lines:
                try:
                    key, response = _read_line(line)
                except ValueError as error:
                    damaged.append((f"{path}, line {number}", str(error)))
                    continue
                read += 1
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
        if len(damaged) > before and not read:
            unreadable.append(str(path))
    return Import(
        imported, tuple(useless), tuple(failed), tuple(unknown), known, tuple(damaged), tuple(unreadable)
    )


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that hold anything, numbered from 1; of one that is too long for an answer, its beginning."""
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: the answers cannot be read: not a file")
        with path.open("rb") as file:
            number, cut = 1, False
            while line := file.readline(_LONGEST_LINE):
                if line.strip() and not cut:
                    yield number, line
                cut = not line.endswith(b"\n")
                number += not cut
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{path}: the answers cannot be read: {reason}") from None


def _read_line(line: bytes) -> tuple[str, Mapping[str, Any]]:
    """The key and the line as an object; ValueError where it is neither."""
    try:
        response = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("not JSON; the line may be cut off") from None
    key = response.get("custom_id") if isinstance(response, dict) else None
    if not isinstance(key, str):
        raise ValueError("no custom_id")
    if as_text(key) != key:
        raise ValueError("the custom_id is no text")
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
    return one_line(str(error or ""))
