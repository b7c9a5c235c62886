"""Where an OpenAI-compatible endpoint is and what it is shown: read from the environment, and checked.

All of it is proved before data are loaded and before a connection is opened: what a request cannot carry
would fail in the middle of the work, and be shown there.
"""

import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import openai

from lvlm_va.critique.pricing import OPENAI_URL
from lvlm_va.errors import CriticError
from lvlm_va.io.redaction import one_line, redact, remember

__all__ = ["Endpoint", "NoKeyError", "http_client", "read_endpoint"]

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


class NoKeyError(CriticError):
    """The endpoint wants a key and there is none."""


@dataclass(frozen=True)
class Endpoint:
    """An address that can be used, and the key for it.

    Attributes:
        url: the address without its query.
        query: what stands behind "?" in the address, to be sent with every request.
        key: the key.
        shown: the address as it may be shown: without user name, password and query.
    """

    url: str = field(repr=False)
    query: tuple[tuple[str, str], ...] = field(repr=False)
    key: str = field(repr=False)
    shown: str


def read_endpoint(environment: Mapping[str, str]) -> Endpoint:
    """The endpoint that OPENAI_BASE_URL and OPENAI_API_KEY name.

    Raises:
        NoKeyError: if there is no key and the endpoint is not on this machine or its network.
        CriticError: if a variable holds what no request can carry; the value itself is never shown.
    """
    remember(environment)
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_BASE_URL"):
        _check_characters(name, environment.get(name, ""))
    key = environment.get("OPENAI_API_KEY", "")
    url = environment.get("OPENAI_BASE_URL", "") or OPENAI_URL
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        sound = False
    if not sound:
        raise CriticError("OPENAI_BASE_URL is not an address like http://localhost:8000/v1; correct it")
    if parts.fragment:
        raise CriticError("OPENAI_BASE_URL holds a '#', and what follows is never sent; remove it")
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    shown = redact(f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path}")
    if not key and not _is_local(host):
        raise NoKeyError(
            f"no key for {shown}: set OPENAI_API_KEY (to any word if the server wants none), or set "
            "OPENAI_BASE_URL to a server of your own, or use the built-in critic"
        )
    _check_network(environment)
    return Endpoint(
        url=urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")),
        query=tuple(parse_qsl(parts.query, keep_blank_values=True)),
        key=key or "no-key-needed",
        shown=shown,
    )


def http_client(**options: Any) -> Any:
    """An HTTP client that follows no redirect: it would take the images to another host.

    Raises:
        CriticError: naming the variables of the environment with which none can be made.
    """
    try:
        return openai.DefaultAsyncHttpxClient(follow_redirects=False, **options)
    except Exception as error:  # noqa: BLE001 -- whatever it is, it comes from these variables
        names = [*_PROXIES, *(name.upper() for name in _PROXIES), "NO_PROXY", "no_proxy", *_CERTIFICATES]
        given = ", ".join(name for name in names if os.environ.get(name)) or "none"
        raise CriticError(
            f"no connection can be made ({one_line(str(error) or type(error).__name__)}); check the "
            f"variables of the environment for proxies and certificates that are set here: {given}"
        ) from None


def _check_characters(name: str, value: str) -> None:
    """Refuse what a header or an address cannot carry, saying where it is but not what."""
    for position, character in enumerate(value, start=1):
        if "!" <= character <= "~":
            continue
        if character in "\r\n":
            what = "a line break"
        elif character.isspace():
            what = "white space"
        elif character.isascii():
            what = "a control character"
        else:
            what = "no ASCII character (a quotation mark or a hidden one from a web page, perhaps)"
        raise CriticError(f"{name}: character {position} is {what}; set it again without that")


def _check_network(environment: Mapping[str, str]) -> None:
    """Refuse settings for proxies and certificates with which no connection could be made."""
    for name in (spelt for lower in _PROXIES for spelt in (lower, lower.upper())):
        value = environment.get(name, "").strip()
        if not value:
            continue
        _check_characters(name, value)
        try:
            parts = urlsplit(value if "://" in value else f"http://{value}")
            sound = parts.hostname and parts.port != 0
        except ValueError:
            sound = False
        known = ("http", "https", "socks5", "socks5h")
        if not sound or parts.scheme not in known:
            raise CriticError(
                f"{name} is not the address of a proxy that can be used; write http://host:port, or unset it"
            )
        if parts.scheme.startswith("socks") and find_spec("socksio") is None:
            raise CriticError(
                f"{name} names a SOCKS proxy, which needs the package socksio: pip install socksio, or unset "
                "the variable"
            )
    file, folder = (environment.get(name) or None for name in _CERTIFICATES)
    if file is not None:
        try:
            ssl.create_default_context(cafile=file)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = getattr(error, "strerror", None) or str(error)
            raise CriticError(
                f"SSL_CERT_FILE names no file of certificates that can be read ({one_line(reason)}); correct "
                "or unset it"
            ) from None
    if folder is not None and not any(Path(one).is_dir() for one in folder.split(os.pathsep)):
        raise CriticError("SSL_CERT_DIR names no folder of certificates; correct or unset it")


def _is_local(host: str) -> bool:
    """Whether a host is this machine or on its private network, where servers often want no key."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        pass
    host = host.rstrip(".").lower()
    if "." not in host:  # a container, or a machine of the local network; not an address as one number
        return not re.fullmatch(r"[0-9]*|0x[0-9a-f]*", host)
    return host.endswith((".localhost", ".local", ".docker.internal", ".containers.internal"))
