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
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from lvlm_va.critique.backends.connection import PROXIES, SOCKS_PACKAGE, has_socks
from lvlm_va.critique.pricing import OPENAI_URL
from lvlm_va.errors import CriticError
from lvlm_va.io.redaction import one_line, redact, remember

__all__ = ["Endpoint", "NoKeyError", "read_endpoint"]

_AZURE_HOSTS = (
    ".openai.azure.com",
    ".cognitiveservices.azure.com",
    ".services.ai.azure.com",
    ".azure-api.net",
)
_AZURE_DEPLOYMENT = re.compile(r"/openai/deployments/[^/]+/?$")


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
        key_name: the variable that holds the key, or is to hold it.
        key_header: the header that carries the key: "authorization", or Azure's "api-key".
    """

    url: str = field(repr=False)
    query: tuple[tuple[str, str], ...] = field(repr=False)
    key: str = field(repr=False)
    shown: str
    key_name: str = "OPENAI_API_KEY"
    key_header: str = "authorization"


def read_endpoint(environment: Mapping[str, str], model: str = "") -> Endpoint:
    """The endpoint that OPENAI_BASE_URL and OPENAI_API_KEY name.

    The address of a question (".../chat/completions") stands for the endpoint's. At an Azure address the key
    is AZURE_OPENAI_API_KEY where that is set, the version OPENAI_API_VERSION where the address names none,
    and a resource without a path leads to the deployment that is called like the model.

    Raises:
        NoKeyError: if there is no key and the endpoint is not on this machine or its network.
        CriticError: if a variable holds what no request can carry; the value itself is never shown.
    """
    remember(environment)
    for name in (
        "OPENAI_API_KEY",
        "AZURE_OPENAI_API_KEY",
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
        "OPENAI_BASE_URL",
        "OPENAI_API_VERSION",
    ):
        _check_characters(name, environment.get(name, ""))
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
    parts = parts._replace(path=re.sub(r"/(?:chat/completions|responses|models)/?$", "", parts.path))
    query = tuple(parse_qsl(parts.query, keep_blank_values=True))
    key_name, key_header = "OPENAI_API_KEY", "authorization"
    if host.lower().endswith(_AZURE_HOSTS) or _AZURE_DEPLOYMENT.search(parts.path):
        parts, query = _azure(parts, query, environment.get("OPENAI_API_VERSION", ""), model)
        key_header = "api-key"
        if environment.get("AZURE_OPENAI_API_KEY"):
            key_name = "AZURE_OPENAI_API_KEY"
    key = environment.get(key_name, "")
    port = f":{parts.port}" if parts.port else ""
    shown = redact(f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path}")
    if not key and not _is_local(host):
        raise NoKeyError(
            f"no key for {shown}: set {key_name} (to any word if the server wants none), or set "
            "OPENAI_BASE_URL to a server of your own, or use the built-in critic"
        )
    _check_network(environment)
    return Endpoint(
        url=urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")),
        query=query,
        key=key or "no-key-needed",
        shown=shown,
        key_name=key_name,
        key_header=key_header,
    )


def _azure(
    parts: SplitResult, query: tuple[tuple[str, str], ...], version: str, model: str
) -> tuple[SplitResult, tuple[tuple[str, str], ...]]:
    """Azure's address for a model, and the query with its api-version."""
    names = {name for name, _ in query}
    if parts.path.rstrip("/") in ("", "/openai"):
        # The newer address wants no version; with one, the older of deployments is meant.
        path = f"/openai/deployments/{model}" if version or "api-version" in names else "/openai/v1"
        parts = parts._replace(path=path)
    if _AZURE_DEPLOYMENT.search(parts.path) and "api-version" not in names:
        if not version:
            raise CriticError(
                "OPENAI_BASE_URL is the address of an Azure deployment, which wants a version: set "
                "OPENAI_API_VERSION (such as 2024-10-21), or end the address in ?api-version=2024-10-21"
            )
        query = (*query, ("api-version", version))
    return parts, query


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
    for name in (spelt for lower in PROXIES for spelt in (lower, lower.upper())):
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
        if parts.scheme.startswith("socks") and not has_socks():
            raise CriticError(
                f"{name} names a SOCKS proxy, which needs the package {SOCKS_PACKAGE}: pip install "
                f"{SOCKS_PACKAGE}, or unset the variable"
            )
    file, folder = (environment.get(name) or None for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
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
