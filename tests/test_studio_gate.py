"""Who is let into the studio, from where, and what every answer forbids the browser."""

import http.client
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lvlm_va.errors import ConfigError
from lvlm_va.studio.gate import CONTENT_SECURITY_POLICY, new_token
from lvlm_va.studio.server import where
from patience import PATIENCE
from studio_run import TOKEN, make_run, serving


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("gate") / "run")


@pytest.fixture(scope="module")
def url(run):
    with serving([run]) as url:
        ask(url, "GET", "/run/1")
        yield url


def ask(url, method, path, *, headers=(), body=None, token=TOKEN):
    """One request, the page that waits for the libraries left out."""
    place = urlsplit(url).netloc
    while True:
        connection = http.client.HTTPConnection(place, timeout=PATIENCE)
        given = {"Host": place, **dict(headers)}
        connection.request(method, f"/{token}{path}" if token else path, body=body, headers=given)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.headers.get("refresh") is None:
            return answer, content


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x"])
@pytest.mark.parametrize("path", ["/", "/run/1", "/static/studio.css", "/run/1/image/0/original.png"])
def test_without_the_token_there_is_nothing(url, token, path):
    answer, content = ask(url, "GET", path, token=token)
    assert (answer.status, content) == (404, b"")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example"])
def test_a_foreign_host_gets_nothing(url, host):
    answer, content = ask(url, "GET", "/run/1", headers={"Host": host})
    assert (answer.status, content) == (404, b"")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "own", "Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize("path", ["/run/1/verdicts", "/run/1/job", "/run/1/handover", "/author"])
def test_nothing_is_changed_from_elsewhere(url, run, headers, path):
    before = (run / "verdicts.csv").read_bytes()
    own = f"http://{urlsplit(url).netloc}"
    headers = {key: own if value == "own" else value for key, value in headers.items()}
    body = "do=turn&position=0&segment=1"
    cookie = {"Cookie": "lvlm_va_author=Ann"}
    answer, content = ask(url, "POST", path, headers=FORM | cookie | headers, body=body)
    assert (answer.status, content) == (403, b"")
    assert (run / "verdicts.csv").read_bytes() == before
    assert not (run / ".studio").exists()


def test_the_page_itself_may_change_things_once_somebody_signs(url, run):
    own = {"Origin": f"http://{urlsplit(url).netloc}"}
    body = "do=turn&position=0&segment=1"
    before = (run / "verdicts.csv").read_bytes()
    answer, content = ask(url, "POST", "/run/1/verdicts", headers=FORM | own, body=body)
    assert answer.status == 200
    assert b"Who are you?" in content
    assert (run / "verdicts.csv").read_bytes() == before
    signed = FORM | own | {"Cookie": "lvlm_va_author=Ann"}
    answer, _ = ask(url, "POST", "/run/1/verdicts", headers=signed, body=body)
    assert answer.status == 303
    assert answer.headers["location"] == f"/{TOKEN}/run/1"
    assert b",Ann" in (run / "verdicts.csv").read_bytes()


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example", f"/{TOKEN}/run/11/x", "/"])
def test_a_form_leads_back_to_the_run_alone(url, back):
    headers = FORM | {"Origin": f"http://{urlsplit(url).netloc}", "Cookie": "lvlm_va_author=Ann"}
    body = f"do=looked&position=1&back={back}"
    answer, _ = ask(url, "POST", "/run/1/verdicts", headers=headers, body=body)
    assert answer.headers["location"] == f"/{TOKEN}/run/1"


def test_every_answer_forbids_what_the_studio_does_not_need(url):
    for path in ("/run/1", "/run/1/review", "/static/studio.js", "/nothing"):
        answer, _ = ask(url, "GET", path)
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
    for word in ("unsafe", "data:", "http:", "*"):
        assert word not in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize(
    "path",
    [
        "/run/1/download/run.json",
        "/run/1/download/../run.json",
        "/run/1/download/export/../run.json",
        "/run/1/download/%2e%2e/run-specifications.yaml",
        "/run/2",
        "/run/0",
        "/run/1/image/99/original.png",
        "/run/1/image/0/other.png",
        "/static/../app.py",
        "/static/page.py",
    ],
)
def test_only_what_is_meant_to_leave_leaves(url, path):
    answer, _ = ask(url, "GET", path)
    assert answer.status == 404


def test_too_much_for_a_form_is_refused(url):
    headers = FORM | {"Origin": f"http://{urlsplit(url).netloc}", "Cookie": "lvlm_va_author=Ann"}
    answer, content = ask(url, "POST", "/run/1/verdicts", headers=headers, body="reason=" + "x" * (1 << 21))
    assert answer.status == 409
    assert b"too much" in content


def test_tokens_are_long_and_never_the_same():
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 22  # 128 bits in base 64


def given(**changes):
    return {"i_know": False, "public": None, "certificate": None, "key": None} | changes


@pytest.mark.parametrize(
    ("host", "options", "word"),
    [
        ("192.168.0.5", {}, "--i-know"),
        ("0.0.0.0", {}, "--i-know"),
        ("192.168.0.5", {"i_know": True}, "encryption"),
        ("127.0.0.1", {"public": "http://studio.example"}, "https://"),
        ("127.0.0.1", {"public": "https://studio.example/path"}, "https://"),
        ("127.0.0.1", {"certificate": Path("a")}, "--tls-key"),
        ("127.0.0.1", {"certificate": Path("a"), "key": Path("b")}, "no such file"),
    ],
)
def test_beyond_this_machine_only_knowingly_and_encrypted(host, options, word):
    with pytest.raises(ConfigError, match=word):
        where(host, 0, **given(**options))


def test_what_is_safe_to_listen_on(tmp_path):
    assert where("127.0.0.1", 0, **given()).host == "127.0.0.1"
    file = tmp_path / "x.pem"
    file.touch()
    assert where("192.168.0.5", 1, **given(i_know=True, certificate=file, key=file)).certificate == file
    assert (
        where("0.0.0.0", 1, **given(i_know=True, public="https://a.example/")).public == "https://a.example"
    )
