"""Everything that `make` installs is pinned and hashed, and downloads are not sent elsewhere."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lvlm_va.data import download as download_module
from lvlm_va.data.download import download
from lvlm_va.errors import DataError

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "requirements"


@pytest.mark.parametrize("name", ["run.txt", "dev.txt", "build.txt"])
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    text = (REQUIREMENTS / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.match(r"[a-z0-9._-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line


def test_the_locks_agree_on_what_they_share() -> None:
    def pins(name: str) -> dict[str, str]:
        text = (REQUIREMENTS / name).read_text(encoding="utf-8")
        return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", text, flags=re.MULTILINE))

    build, dev = pins("build.txt"), pins("dev.txt")
    assert "hatchling" in build
    assert {name: dev[name] for name in build.keys() & dev.keys()} == {
        name: build[name] for name in build.keys() & dev.keys()
    }


def test_make_installs_with_hashes_and_builds_with_what_is_locked() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    installs = re.findall(r"^\t\$\(PIP\) (.*)$", makefile, flags=re.MULTILINE)
    assert installs[0] == "-r requirements/torch.txt"  # pinned; the build is the machine's
    for line in installs[1:]:
        assert "--no-deps" in line
        assert "--require-hashes" in line or "--no-build-isolation --editable ." in line
    assert re.search(r"^PIP := \$\(BIN\)/python ", makefile, flags=re.MULTILINE)
    where = [line.split("requirements/")[-1] for line in installs]
    assert where.index("build.txt") < next(n for n, line in enumerate(installs) if "--editable" in line)


@pytest.fixture
def sends_away() -> Iterator[tuple[str, list[str]]]:
    """A server that redirects every path to the address in its query."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            _, _, target = self.path.partition("?")
            self.send_response(302 if target else 200)
            if target:
                self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", asked
    server.shutdown()
    server.server_close()


def test_a_download_follows_a_redirect_to_a_file_server(sends_away: tuple[str, list[str]]) -> None:
    url, asked = sends_away
    assert download(f"{url}a?{url}b", max_bytes=10) == b""
    assert asked[-1] == "/b"


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/hostname", "FTP://127.0.0.1/x"])
def test_a_download_is_not_redirected_to_another_scheme(
    sends_away: tuple[str, list[str]], target: str
) -> None:
    url, _ = sends_away
    with pytest.raises(DataError, match=r"(?i)redirect"):
        download(f"{url}a?{target}", max_bytes=10)


def test_https_is_not_redirected_to_http() -> None:
    redirects = download_module._Redirects()
    request = download_module.urllib.request.Request("https://example.com/a")
    with pytest.raises(ValueError, match=r"redirects to .http://example\.com/b."):
        redirects.redirect_request(request, None, 302, "Found", {}, "http://example.com/b")
    again = redirects.redirect_request(request, None, 302, "Found", {}, "https://cdn.example.com/b")
    assert again is not None
    assert again.full_url == "https://cdn.example.com/b"
