"""The one place that text from outside goes through before it is kept or shown: no secret passes.

Replies, error texts, model names: whatever a server, a file or a library says may repeat what it was sent,
as it is or in another encoding. `redact` knows the secrets of this process (keys, and what an address
carries) in all of them.
"""

import base64
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from urllib.parse import parse_qsl, unquote

__all__ = ["one_line", "redact", "redact_all", "remember"]

_KEYS = (
    "OPENAI_API_KEY",
    "AZURE_OPENAI_API_KEY",
    "OPENAI_ADMIN_KEY",
    "OPENAI_WEBHOOK_SECRET",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
)
_NAMES = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
_ADDRESSES = (
    *("OPENAI_BASE_URL", "http_proxy", "https_proxy", "all_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"),
)
# What servers without keys are given in place of one.
_PLACEHOLDERS = frozenset(
    [
        "ollama",
        "vllm",
        "lm-studio",
        "lmstudio",
        "none",
        "null",
        "empty",
        "dummy",
        "test",
        "key",
        "no-key",
        "nokey",
        "no-key-needed",
        "not-needed",
        "no-key-required",
        "sk-no-key-required",
        "unused",
        "local",
        "localhost",
    ]
)
_OPEN_PARAMETERS = frozenset(
    ["api-version", "api_version", "version", "deployment", "model", "region", "location"]
)  # of an address; all others may be secrets
_LONG = 6  # characters; a shorter secret also is an ordinary word, and only counts where it stands alone
_NAME = 12  # shortest organisation or project that is kept out; shorter ones are words
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}
_PARTS = re.compile(r"[^/]*//(?:([^/?#]*)@)?[^?#]*(?:\?([^#]*))?", re.DOTALL)

_remembered: set[str] = set()  # also when the environment has changed since


def redact(text: str) -> str:
    """`text` with "***" in place of every secret: as it is, percent-encoded, escaped (JSON, repr, HTML),
    hexadecimal, or anywhere inside base64, as in the header of basic authentication.
    """
    (redacted,) = redact_all(text)
    return redacted


def redact_all(*texts: str) -> tuple[str, ...]:
    """`redact` of each: the environment is looked through once."""
    if not any(texts):
        return texts
    remember()
    secrets = frozenset(_remembered)
    return tuple(_redacted(text, secrets) if text else text for text in texts)


@lru_cache(maxsize=256)
def _redacted(text: str, secrets: frozenset[str]) -> str:
    """Kept for a while: an answer is redacted where it arrives, where it goes on, and where it is stored."""
    for pattern in _patterns(secrets):
        text = pattern.sub("***", text)
    return text


def one_line(text: str, longest: int = 300) -> str:
    """`text` on one line that may be printed: redacted, without control characters, cut to a length."""
    # Far more than is shown, so that what is cut off at the end is no half of a secret.
    printable = "".join(c if c.isprintable() else " " for c in redact(text[: 20 * longest]))
    return redact(" ".join(printable.split()))[:longest]


def remember(environment: Mapping[str, str] | None = None) -> None:
    """Know the secrets of an environment (this process's own if None) from now on."""
    known = os.environ if environment is None else environment
    _remembered.update(
        _secrets(*(tuple(known.get(name, "") for name in names) for names in (_KEYS, _NAMES, _ADDRESSES)))
    )


@lru_cache(maxsize=64)  # asked for with every text
def _secrets(keys: Iterable[str], names: Iterable[str], addresses: Iterable[str]) -> frozenset[str]:
    """What is secret in the values of these variables."""
    return frozenset(
        chain(
            *(_words(key, 1) for key in keys),
            *(_words(name, _NAME) for name in names),
            *(_of_address(address) for address in addresses),
        )
    )


def _words(value: str, shortest: int) -> Iterator[str]:
    """A value, and its parts where it has white space inside (such a key is refused, but not shown)."""
    yield from {
        word
        for word in (value, value.strip(), *value.split())
        if len(word) >= shortest and word.lower() not in _PLACEHOLDERS
    }


def _of_address(url: str) -> Iterator[str]:
    """Password, `user:password` and the parameters of an address, as they are written and as they mean."""
    parts = _PARTS.match(url if "//" in url else f"//{url}")
    if parts is None:
        return
    userinfo, query = parts[1] or "", parts[2] or ""
    user, colon, password = userinfo.partition(":")
    for secret in {password or user, unquote(password or user)} if userinfo else ():
        yield from _words(secret, 1)
    if userinfo:
        yield f"{unquote(user)}:{unquote(password)}" if colon else f"{unquote(user)}:"
    for name, value in parse_qsl(query):
        if name.lower() not in _OPEN_PARAMETERS:
            yield from _words(value, 1)


@lru_cache(maxsize=64)
def _patterns(secrets: frozenset[str]) -> tuple[re.Pattern[str], ...]:
    """One pattern for each secret, the longest first: it may hold another."""
    ordered = sorted((s for s in secrets if s), key=lambda s: (-len(s), s))
    return tuple(re.compile("|".join(_forms(secret))) for secret in ordered)


def _forms(secret: str) -> Iterator[str]:
    written = "".join(map(_character, secret))
    if len(secret) >= _LONG:
        yield f"(?i:{written})"
    elif len(secret) >= _LONG // 2 and not secret.isalpha():
        yield rf"(?<![A-Za-z0-9]){written}(?![A-Za-z0-9])"
    else:
        for before in ("earer ", "EARER ", "asic ", "key=", "KEY=", "token=", "password="):
            yield rf"(?<={before}){written}(?![A-Za-z0-9])"
        yield rf"(?<=:){written}(?=@)"
    data = secret.encode("utf-8", "surrogateescape")
    if len(data) >= _LONG:
        yield rf"(?i:{data.hex()})"
        yield from _inside_base64(data)


def _character(character: str) -> str:
    """All that may stand for one character. Each form begins with a literal, so that a search is fast."""
    code, data = ord(character), character.encode("utf-8", "surrogateescape")
    escape = r"\\\\{0,3}"  # escapes are escaped again where text is quoted in text
    forms = [re.escape(character)]
    if not character.isalnum():
        forms.append(escape + (r"\\" if character == "\\" else re.escape(character)))
    forms += [
        "".join(rf"%(?:25){{0,2}}(?i:{byte:02x})" for byte in data),
        "".join(rf"{escape}x(?i:{byte:02x})" for byte in data),
        rf"{escape}x(?i:{code:02x})" if code < 256 else rf"{escape}u(?i:{code & 0xFFFF:04x})",
        rf"{escape}u(?i:{code & 0xFFFF:04x})",
        rf"&(?:amp;)?#(?:0{{0,6}}{code}|[xX]0{{0,6}}(?i:{code:x}));",
    ]
    if character in _ENTITIES:
        forms.append(_ENTITIES[character])
    return f"(?:{'|'.join(dict.fromkeys(forms))})"


def _inside_base64(data: bytes) -> Iterator[str]:
    """The characters that `data` alone determines, wherever it begins in what was encoded."""
    same = {"+": r"(?:\+|-|%2[bB])", "/": r"(?:\\?/|_|%2[fF])"}
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
        core = encoded[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]
        if len(core) >= _LONG:
            yield "".join(same.get(c, c) for c in core) + r"[A-Za-z0-9+/_-]?(?:=|%3[dD]){0,2}"
