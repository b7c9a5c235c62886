"""Small downloads with the standard library: they fail fast, say why, and never hand over half a file."""

import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from lvlm_va.errors import DataError

__all__ = ["download", "reachable"]

_CHUNK = 1 << 16


def download(url: str, *, max_bytes: int, timeout: float = 20.0) -> bytes:
    """Fetch one file into memory.

    Args:
        url: an http or https address.
        max_bytes: more than this is refused: the file is not what was asked for.
        timeout: seconds that the connection may stay silent.

    Raises:
        DataError: on any failure, with the address and the reason; also where fewer bytes arrive than
            the server announced.
    """
    try:
        with _open(url, "GET", timeout) as response:
            announced = response.length
            content = bytearray()
            while chunk := response.read(_CHUNK):
                content += chunk
                if len(content) > max_bytes:
                    raise DataError(f"{url}: more than the {max_bytes:,} bytes the file should have")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(f"{url}: {_reason(error)}") from error
    if announced is not None and len(content) != announced:
        raise DataError(f"{url}: the connection ended after {len(content):,} of {announced:,} bytes")
    return bytes(content)


def reachable(urls: Sequence[str], *, patience: float = 4.0) -> dict[str, str | None]:
    """Ask for the heads of several files at once, and wait at most `patience` seconds for all of them.

    A network that swallows packets answers neither yes nor no, and looking up a name can hang longer than
    any socket's timeout; so each address is asked in a thread that is left behind when patience ends.

    Returns:
        For each address None where the file is there, else the reason why not.
    """
    answers: dict[str, str | None] = {}

    def ask(url: str) -> None:
        try:
            _open(url, "HEAD", patience).close()
            answers[url] = None
        except (OSError, http.client.HTTPException, ValueError) as error:
            answers[url] = _reason(error)

    deadline = time.monotonic() + patience
    threads = [threading.Thread(target=ask, args=(url,), daemon=True) for url in urls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    given = dict(answers)
    return {url: given.get(url, f"no answer within {patience:g} s") for url in urls}


def _open(url: str, method: str, timeout: float) -> http.client.HTTPResponse:
    if not url.startswith(("http://", "https://")):
        raise ValueError("only http and https addresses are fetched")
    request = urllib.request.Request(url, method=method, headers={"User-Agent": "lvlm-va"})  # noqa: S310
    response: http.client.HTTPResponse = _OPENER.open(request, timeout=timeout)
    return response


class _Redirects(urllib.request.HTTPRedirectHandler):
    """A hub may send us to its file servers, but not from https to something weaker."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        allowed = ("https://",) if req.full_url.startswith("https://") else ("https://", "http://")
        if not newurl.lower().startswith(allowed):
            raise ValueError(f"the server redirects to {newurl[:200]!r}, which is not {' or '.join(allowed)}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_Redirects)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__
