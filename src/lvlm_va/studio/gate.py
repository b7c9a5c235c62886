"""Who is let in: the one who has the address, from the page itself, and nobody else.

A page on this machine can be reached by every program on it and, through the browser, by every site that the
person visits. So the address begins with a random token; the Host must be one of the server's own (else a
site could point its name at this machine); what changes anything must come from a page of this server
(Origin). Whoever fails gets an empty answer.
"""

import secrets
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CONTENT_SECURITY_POLICY", "Gate", "hosts_of", "new_token"]

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Mapping[str, str] = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # The address holds the token. With no-referrer, forms would be sent without their Origin.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_SAFE = {"GET", "HEAD"}


def new_token() -> str:
    """128 random bits, as they stand in an address."""
    return secrets.token_urlsafe(16)


def hosts_of(host: str, port: int) -> frozenset[str]:
    """What a browser may write into Host for a server that listens on `host` and `port`."""
    names = {host}
    if host in ("127.0.0.1", "localhost", "::1"):
        names = {"127.0.0.1", "localhost", "::1"}
    return frozenset(f"{f'[{name}]' if ':' in name else name}:{port}" for name in names)


class Gate:
    """ASGI middleware: lets requests through to `app`, with the token taken off the path, or answers them.

    Args:
        app: what is behind the gate.
        token: the first part of every path.
        origins: of the pages that may send anything, e.g. "http://127.0.0.1:8765"; their hosts are those
            that a request may name.
    """

    def __init__(self, app: ASGIApp, token: str, origins: Iterable[str]) -> None:
        self._app, self._token = app, token
        self._origins = {origin.lower() for origin in origins}
        self._hosts = {urlsplit(origin).netloc for origin in self._origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        first, _, _ = scope["path"].removeprefix("/").partition("/")
        known = secrets.compare_digest(first.encode(), self._token.encode())
        if not known or headers.get("host", "").lower() not in self._hosts:
            await _refuse(send, 404)
        elif scope["method"] not in _SAFE and not self._is_own(headers):
            await _refuse(send, 403)
        else:
            await self._app({**scope, "root_path": f"/{self._token}"}, receive, _guarded(send))

    def _is_own(self, headers: Mapping[str, str]) -> bool:
        """Whether a request was sent by a page of this server; browsers say where a form was sent from."""
        return headers.get("origin", "").lower() in self._origins and headers.get(
            "sec-fetch-site", "same-origin"
        ) in ("same-origin", "none")


async def _refuse(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def _guarded(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: list[tuple[bytes, bytes]] = list(message["headers"])
            there = {name.lower() for name, _ in headers}
            extra: dict[str, Any] = {"cache-control": "no-store", **_HEADERS}
            headers += [
                (name.encode(), value.encode()) for name, value in extra.items() if name.encode() not in there
            ]
            message = {**message, "headers": headers}
        await send(message)

    return guarded
