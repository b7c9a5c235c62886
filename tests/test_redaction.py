"""No secret passes, in whatever encoding it is repeated; and what is no secret stays."""

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvlm_va.io import redaction
from lvlm_va.io.redaction import one_line, redact, remember

KEY = "sk-C/AN+\"ARY\\1'2&3"
PASSWORD = "PWüCANARY!"
PARAMETER = "QK-CANARY=7"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_remembered", set())
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv(
        "OPENAI_BASE_URL",
        f"http://user:{quote(PASSWORD)}@host/v1?key={quote(PARAMETER)}&api-version=2024-10-21",
    )


ENCODINGS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "percent": lambda s: quote(s, safe=""),
    "percent, lower case": lambda s: "".join(
        c if c.isalnum() and c.isascii() else quote(c, "").lower() for c in s
    ),
    "percent twice": lambda s: quote(quote(s, safe=""), safe=""),
    "plus": quote_plus,
    "every character": lambda s: "".join(f"%{byte:02X}" for byte in s.encode()),
    "JSON": lambda s: json.dumps(s)[1:-1],
    "JSON, no ASCII": lambda s: json.dumps(s, ensure_ascii=False)[1:-1],
    "JSON in JSON": lambda s: json.dumps(json.dumps(s))[3:-3],
    "all escaped": lambda s: "".join(f"\\u{ord(c):04x}" for c in s),
    "repr": lambda s: repr(s)[1:-1],
    "repr of bytes": lambda s: repr(s.encode())[2:-1],
    "JSON of a repr": lambda s: json.dumps(repr(s))[2:-2],
    "HTML": html.escape,
    "HTML numbers": lambda s: "".join(f"&#{ord(c)};" for c in s),
    "hexadecimal": lambda s: s.encode().hex(),
    "upper case": str.upper,
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64, no padding": lambda s: base64.b64encode(s.encode()).decode().rstrip("="),
    "base64, for addresses": lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
}


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("secret", [KEY, PASSWORD, PARAMETER])
def test_a_secret_is_kept_out_in_every_encoding(secret: str, encode: Callable[[str], str]) -> None:
    if encode is str.upper and not secret.isascii():
        pytest.skip("an umlaut's case is no encoding")
    assert redact(f"before {encode(secret)} after") == "before *** after"


@settings(deadline=None)
@given(st.binary(max_size=9), st.binary(max_size=9))
def test_wherever_it_stands_in_base64_no_part_of_it_can_be_read_back(before: bytes, after: bytes) -> None:
    secret = b"s3cr3t-C4N4RY-123456"
    remember({"OPENAI_API_KEY": secret.decode()})
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        left = redact(encode(before + secret + after).decode())
        assert "***" in left
        kept = left.split("***")
        assert sum(map(len, kept)) <= len(encode(before + after)) + 8
        for shift in range(4):
            for part in kept:
                data = base64.b64decode(part[shift : shift + (len(part) - shift) // 4 * 4], altchars=b"-_")
                assert secret[:5] not in data
                assert secret[-5:] not in data


def test_the_header_of_basic_authentication() -> None:
    header = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
    assert redact(f"got Authorization: Basic {header}.") == "got Authorization: Basic ***."


def test_proxies_have_passwords_too_and_a_changed_environment_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:proxyword@proxy:3128")
    assert redact("proxyword") == "***"
    monkeypatch.delenv("HTTPS_PROXY")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert redact(f"proxyword {KEY}") == "*** ***"


@pytest.mark.parametrize("key", ["k", "none", "EMPTY", "ollama", "1", "true"])
def test_a_word_in_place_of_a_key_does_not_spoil_answers(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    answer = '{"verdicts": [{"segment": 1, "spurious": true, "reason": "none but the EMPTY sky, ollama, k"}]}'
    assert redact(answer) == answer


def test_a_short_key_does_not_pass_in_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    assert redact("you sent Bearer sk-x and sk-x") == "you sent Bearer *** and ***"
    monkeypatch.setenv("OPENAI_API_KEY", "abc")
    assert redact("you sent Bearer abc; abc") == "you sent Bearer ***; abc"


def test_what_is_no_secret_stays() -> None:
    text = "api-version 2024-10-21 of http://user@host/v1: segment 1 is spurious \\ 100 % & more"
    assert redact(text) == text


@pytest.mark.parametrize("character", ["\\", "%", "&", "s", "S", "=", "\n"])
def test_a_million_characters_end(character: str) -> None:
    assert redact(character * 1_000_000) == character * 1_000_000


def test_one_line_can_be_printed_and_cuts_no_secret_in_half() -> None:
    assert one_line("a\x1b]0;x\x07\r\nb\u202ec") == "a ]0;x b c"
    shown = one_line("x" * 295 + KEY)
    assert shown == "x" * 295 + "***"
