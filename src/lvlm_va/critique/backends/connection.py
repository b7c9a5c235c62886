"""The connection below an endpoint's client: what it may carry, and in words why there is none."""

import importlib
import logging
import os
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import openai

from lvlm_va.critique.backends.rejection import Rejection
from lvlm_va.errors import CriticError
from lvlm_va.io.redaction import one_line, redact

__all__ = [
    "HTTP",
    "PROXIES",
    "TooLargeError",
    "bounded",
    "http_client",
    "keep_logs_clean",
    "proxy_variable",
    "refuse",
    "why_unreachable",
]

HTTP: Any = importlib.import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])
"""The client's HTTP library, which differs between its major versions."""

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
"""Variables that name a proxy; in capitals, too."""

_LARGEST = 8 * 2**20  # bytes of a reply; an answer of a million characters fits
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


class TooLargeError(Exception):
    """A reply larger than any answer."""

    def __init__(self) -> None:
        super().__init__(f"a reply of more than {_LARGEST:,} bytes")


def http_client(**options: Any) -> Any:
    """An HTTP client that follows no redirect: it would take the images to another host.

    Raises:
        CriticError: naming the variables of the environment with which none can be made.
    """
    try:
        return openai.DefaultAsyncHttpxClient(follow_redirects=False, **options)
    except Exception as error:  # noqa: BLE001 -- whatever it is, it comes from these variables
        names = [*PROXIES, *(name.upper() for name in PROXIES), "NO_PROXY", "no_proxy", *_CERTIFICATES]
        given = ", ".join(name for name in names if os.environ.get(name)) or "none"
        raise CriticError(
            f"no connection can be made ({one_line(str(error) or type(error).__name__)}); check the "
            f"variables of the environment for proxies and certificates that are set here: {given}"
        ) from None


async def bounded(chunks: AsyncIterator[bytes]) -> bytes:
    """All bytes of a reply.

    Raises:
        TooLargeError: as soon as there are more than an answer can have.
    """
    content = bytearray()
    async for chunk in chunks:
        content += chunk
        if len(content) > _LARGEST:
            raise TooLargeError
    return bytes(content)


async def refuse(response: Any) -> None:
    """Before the client reads it: take what is no success out of its hands, redirects above all."""
    if not response.is_success:
        raise Rejection(response.status_code, response.headers, await bounded(response.aiter_bytes()))


def proxy_variable(url: str) -> str:
    """The variable that names the proxy through which an address is reached; "" where it is none."""
    parts = urlsplit(url)
    if proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    for scheme in (parts.scheme, "all"):
        if getproxies_environment().get(scheme):
            name = f"{scheme}_proxy"
            return name if os.environ.get(name) else name.upper()
    return ""


def why_unreachable(error: BaseException, url: str) -> str:
    """Why there is no connection and what to do about it, with the names of the variables that decide.

    Args:
        error: of the HTTP library.
        url: the address.
    """
    causes = list(_causes(error))
    reason = one_line(next((str(one) for one in reversed(causes) if str(one)), type(error).__name__))
    proxy, host = proxy_variable(url), urlsplit(url).hostname or ""
    # The library passes on the words of an error, not always the error.
    if any(isinstance(one, ssl.SSLError) for one in causes) or re.search(r"certificate|\bSSL\b", reason):
        return f"{reason}): {_about_certificates(reason, url)}"
    if proxy:
        refused = "407" in reason or "authenticat" in reason.lower()
        what = "wants a user name and password: write them" if refused else "was asked for it: correct it"
        return (
            f"{reason}): the proxy in {proxy} {what}{' into that address' if refused else ''}, or, if the "
            f"server is to be reached directly, add {host} to NO_PROXY"
        )
    if re.search(r"name or service|name resolution|nodename|getaddrinfo|no address", reason, re.IGNORECASE):
        hint = (
            "; it is the name of a container, known only on its own network: from outside use localhost and "
            "the port that the container publishes"
            if "." not in host.rstrip(".") or host.endswith(".internal")
            else ""
        )
        return f"{reason}): no host has this name; check the network and OPENAI_BASE_URL{hint}"
    if host in ("localhost", "127.0.0.1", "::1", "0.0.0.0"):  # noqa: S104 -- nothing is bound
        inside = (
            "; this is a container, in which localhost is the container itself: use the name of the server's "
            "container, or host.docker.internal"
            if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()
            else ""
        )
        return f"{reason}): is the server running? Check the network and OPENAI_BASE_URL{inside}"
    return f"{reason}): check the network and OPENAI_BASE_URL"


def _about_certificates(reason: str, url: str) -> str:
    if re.search(r"WRONG_VERSION_NUMBER|record layer|HTTP_REQUEST|UNKNOWN_PROTOCOL", reason):
        return "it does not speak TLS; does OPENAI_BASE_URL begin with http:// instead of https://?"
    given = next((name for name in _CERTIFICATES if os.environ.get(name)), "")
    through = f", or the proxy in {proxy} opens the connection" if (proxy := proxy_variable(url)) else ""
    if "hostname mismatch" in reason.lower() or "not valid for" in reason.lower():
        return "its certificate is for another name; write that name into OPENAI_BASE_URL"
    if "expired" in reason.lower():
        return f"its certificate has expired{through}"
    known = f"the certificates in {given}" if given else "the certificates known here"
    return (
        f"its certificate is signed by none of {known}{through}; name your organisation's file of "
        "certificates (PEM) in SSL_CERT_FILE"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__


class _Redacting(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        return True


_REDACTING = _Redacting()


def keep_logs_clean() -> None:
    """Addresses in the logs of the libraries below may hold secrets."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
            logging.getLogger(name).addFilter(_REDACTING)  # the same one is added only once
