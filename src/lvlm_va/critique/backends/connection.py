"""The connections to an endpoint: what they carry, and in words why there is none."""

import base64
import io
import os
import re
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp
import truststore
from yarl import URL

from lvlm_va._version import __version__
from lvlm_va.critique.backends.rejection import Rejection
from lvlm_va.errors import CriticError
from lvlm_va.io.redaction import one_line

__all__ = [
    "PROXIES",
    "SOCKS_PACKAGE",
    "Connections",
    "TooLargeError",
    "has_socks",
    "proxy_variable",
    "why_unreachable",
]

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
"""Variables that name a proxy; in capitals, too."""

SOCKS_PACKAGE = "aiohttp-socks"
"""What connections through a SOCKS proxy need besides."""

_LARGEST = 8 * 2**20  # bytes of a reply; an answer of a million characters fits
_WARNED = 2**20  # bytes of a request above which aiohttp wants to read a file
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


class TooLargeError(Exception):
    """A reply larger than any answer."""

    def __init__(self) -> None:
        super().__init__(f"a reply of more than {_LARGEST:,} bytes")


class Connections:
    """Kept open between the requests to one endpoint, as many as there are requests at once.

    No redirect is followed: it would take the images to another host.

    Args:
        url: of the endpoint; a name and password in it are sent as basic authentication.
        query: sent with every request.
        headers: likewise.

    Raises:
        CriticError: naming the variables of the environment with which no connection can be made, or if the
            address is none.
    """

    def __init__(self, url: str, query: tuple[tuple[str, str], ...], headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._headers = {"User-Agent": f"lvlm-va/{__version__}", **headers}
        if parts.username is not None or parts.password is not None:
            given = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(given.encode()).decode()
        try:
            self._url = URL(url).with_user(None).with_query(query or None)
        except ValueError:
            raise CriticError(
                "OPENAI_BASE_URL is not an address like http://localhost:8000/v1; correct it"
            ) from None
        self._addresses: dict[str, URL] = {}
        self._session: aiohttp.ClientSession | None = None
        try:
            name = proxy_variable(url)
            proxy = os.environ.get(name, "").strip() if name else ""
            self._proxy = proxy if "://" in proxy or not proxy else f"http://{proxy}"
            secure = parts.scheme == "https" or self._proxy.startswith("https:")
            self._certificates: ssl.SSLContext | bool = _certificates() if secure else True
        except Exception as error:  # noqa: BLE001 -- whatever it is, it comes from these variables
            names = [*PROXIES, *(name.upper() for name in PROXIES), "NO_PROXY", "no_proxy", *_CERTIFICATES]
            given = ", ".join(name for name in names if os.environ.get(name)) or "none"
            raise CriticError(
                f"no connection can be made ({one_line(str(error) or type(error).__name__)}); check the "
                f"variables of the environment for proxies and certificates that are set here: {given}"
            ) from None

    async def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The body of a successful response.

        Args:
            method: of HTTP.
            path: behind the endpoint's.
            body: JSON.

        Raises:
            Rejection: if the response is no success, redirects above all.
            TooLargeError: as soon as there are more bytes than an answer can have.
            aiohttp.ClientError: if there is no connection, or it breaks.
        """
        session = self._session or self._open()
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        if (url := self._addresses.get(path)) is None:
            whole = f"{self._url.raw_path.rstrip('/')}{path}"
            url = self._addresses[path] = self._url.with_path(whole, encoded=True, keep_query=True)
        async with session.request(
            method,
            url,
            data=io.BytesIO(body) if body is not None and len(body) >= _WARNED else body,
            headers=headers,
            proxy=None if self._proxy.startswith("socks") else self._proxy or None,
            allow_redirects=False,
        ) as response:
            content = await _bounded(response.content.iter_any())
            if not 200 <= response.status < 300:
                raise Rejection(response.status, response.headers, content)
            return content

    async def close(self) -> None:
        """Close them all; the next request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        connector: Any = aiohttp.TCPConnector
        options: dict[str, Any] = {"limit": 0, "ssl": self._certificates}
        if self._proxy.startswith("socks"):
            from aiohttp_socks import ProxyConnector

            connector = ProxyConnector.from_url
            options |= {"url": self._proxy.replace("socks5h:", "socks5:"), "rdns": True}
        self._session = aiohttp.ClientSession(
            connector=connector(**options),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # the caller's
        )
        return self._session


def has_socks() -> bool:
    """Whether a SOCKS proxy can be used."""
    return find_spec("aiohttp_socks") is not None


def _certificates() -> ssl.SSLContext:
    """Those that the environment names, else the system's."""
    file, folder = (os.environ.get(name) or None for name in _CERTIFICATES)
    if file or folder:
        return ssl.create_default_context(cafile=file, capath=folder)
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def _bounded(chunks: AsyncIterator[bytes]) -> bytes:
    content = bytearray()
    async for chunk in chunks:
        content += chunk
        if len(content) > _LARGEST:
            raise TooLargeError
    return bytes(content)


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
