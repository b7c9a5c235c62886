"""A response that is no answer: what the server said, in whatever form, and what that means."""

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lvlm_va.io.redaction import one_line

__all__ = ["Rejection", "said_in", "status_in"]

_SAYING = ("error", "message", "detail", "msg", "error_description", "title", "errors", "code")
_STATUS_WORDS = (  # of errors that name no number, under HTTP 200
    ("quota", 429),
    ("rate", 429),
    ("billing", 402),
    ("authenticat", 401),
    ("api_key", 401),
    ("permission", 403),
    ("not_found", 404),
    ("invalid", 400),
    ("context_length", 400),
    ("overloaded", 503),
)
_LOADING = re.compile(
    r"\bload(?:s|ing)\b|not (?:yet )?(?:been )?(?:loaded|ready)|warming|\bstart(?:s|ing) up|is starting"
    r"|initiali[sz]ing|cold.?start|booting",
    re.IGNORECASE,
)
_BUSY = frozenset((408, 409, 425, 429, 498))
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]{0,2000}>", re.IGNORECASE | re.DOTALL)


class Rejection(Exception):
    """A response that is no success, with as much of its body as was read.

    Attributes:
        status: the HTTP status, or what an error under HTTP 200 names itself.
        shown: both, in words.
        headers: of the response.
        text: its body as text.
        body: the same as JSON; None where it is none.
    """

    def __init__(
        self, status: int, headers: Mapping[str, str], content: bytes, *, http_status: int | None = None
    ) -> None:
        super().__init__(status)
        self.status = status
        self.shown = f"HTTP {status}" if http_status is None else f"HTTP {http_status}, error {status}"
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
        return said_in(self.body) or said_in(self.text) or "without a word"

    @property
    def words(self) -> str:
        """All that the server said: every text in the body, names of fields apart."""
        texts = [self.text] if self.body is None else list(_texts(self.body))
        return _without_markup("\n".join(texts)[:20_000])[:10_000]

    @property
    def is_busy(self) -> bool:
        """Whether the same question may be answered later."""
        return self.status in _BUSY or self.status >= 500

    @property
    def is_loading(self) -> bool:
        """Whether the server says that it has not loaded its model yet."""
        return self.is_busy and self.status != 429 and bool(_LOADING.search(self.words))

    @property
    def is_out_of_credit(self) -> bool:
        """Whether waiting does not help, because the account is empty."""
        return self.status == 429 and "insufficient_quota" in (self.field("code"), self.field("type"))


def said_in(document: object) -> str:
    """What a parsed body says went wrong, on one short line, whichever of the usual forms it has."""
    for _ in range(6):
        if isinstance(document, list) and document:
            document = document[0]
        elif isinstance(document, dict) and document.get("choices"):  # an error inside a choice
            document = document["choices"]
        elif isinstance(document, dict):
            document = next((document[k] for k in _SAYING if document.get(k)), None)
        else:
            break
    if isinstance(document, dict | list):
        document = json.dumps(document)
    return one_line(_without_markup(str(document)[:100_000])) if document else ""


def status_in(error: object) -> int:
    """The HTTP status that an error names itself, by number or by word; 502 where it names none."""
    if isinstance(error, dict):
        named = [error.get(name) for name in ("code", "status", "status_code", "http_status", "type")]
        for value in named:
            if isinstance(value, str) and value.isascii() and value.isdigit():
                value = int(value[:4])
            if isinstance(value, int) and 400 <= value < 600:
                return value
        for value in named:
            if isinstance(value, str):
                for word, status in _STATUS_WORDS:
                    if word in value.lower():
                        return status
    return 502


def _texts(value: object, depth: int = 8) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
    elif depth and isinstance(value, list):
        for one in value[:100]:
            yield from _texts(one, depth - 1)
    elif depth and isinstance(value, dict):
        for name, one in list(value.items())[:100]:
            if isinstance(one, int | float):  # "n_ctx": 4096 says more with its name
                yield f"{name}: {one}"
            else:
                yield from _texts(one, depth - 1)


def _without_markup(text: str) -> str:
    """The words of an HTML page; any other text as it is."""
    if not re.search(r"<(?:!doctype|html|head|title|body|h1|center)\b", text[:2000], re.IGNORECASE):
        return text
    return html.unescape(_MARKUP.sub(" ", text))
