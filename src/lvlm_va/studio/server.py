"""The studio's server: one address, a browser that opens it, and a clean end.

The libraries that read a run take seconds to load. So the server answers at once, with a page that says so,
and hands over to the studio itself when that is ready.
"""

import importlib
import socket
import threading
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from lvlm_va.errors import ConfigError
from lvlm_va.studio.gate import Gate, hosts_of, new_token

__all__ = ["Address", "Studio", "listen", "where"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_WAIT = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>lvlm-va studio</title>'
    '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
    '<link rel="icon" href="{}/static/icon.svg">'
    "<h1>lvlm-va studio</h1><p>{}</p></html>"
)


@dataclass(frozen=True)
class Address:
    """Where the studio listens, and how a browser reaches it.

    Attributes:
        host, port: of the socket; port 0 takes a free one.
        public: what a reverse proxy is called by browsers, e.g. "https://studio.example.org"; None without.
        certificate, key: PEM files; with them the studio speaks TLS itself.
    """

    host: str = "127.0.0.1"
    port: int = 0
    public: str | None = None
    certificate: Path | None = None
    key: Path | None = None


def where(
    host: str, port: int, *, i_know: bool, public: str | None, certificate: Path | None, key: Path | None
) -> Address:
    """The address, if it is safe to listen there.

    Raises:
        ConfigError: if it can be reached from elsewhere without `i_know`, or without encryption.
    """
    if (certificate is None) != (key is None):
        raise ConfigError("--tls-cert and --tls-key belong together: name both files")
    if public is not None and (not public.startswith("https://") or public.rstrip("/").count("/") != 2):
        raise ConfigError(f"--public {public}: write https:// and a name, e.g. https://studio.example.org")
    if host not in _LOOPBACK:
        if not i_know:
            raise ConfigError(
                f"--host {host} lets other machines in: whoever has the address sees the images and changes "
                "verdicts. If that is wanted, add --i-know, and --tls-cert and --tls-key, or --public with "
                "the https:// address of a reverse proxy"
            )
        if certificate is None and public is None:
            raise ConfigError(
                f"--host {host} without encryption sends the address, with its token, for all to read: add "
                "--tls-cert and --tls-key, or --public with the https:// address of a reverse proxy"
            )
        if host in ("0.0.0.0", "::") and public is None:  # noqa: S104 -- compared, not listened on
            raise ConfigError(
                f"--host {host} is no name that a browser can be given: name this machine's own address"
            )
    for file in (certificate, key):
        if file is not None and not file.is_file():
            raise ConfigError(f"{file}: no such file")
    return Address(host, port, public and public.rstrip("/"), certificate, key)


def listen(address: Address) -> socket.socket:
    """A bound socket.

    Raises:
        ConfigError: if the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((address.host, address.port))
        bound.listen(128)  # a browser that is quicker than the server waits
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"port {address.port} of {address.host} cannot be had ({error.strerror}); is another studio "
            "running? Choose another --port"
        ) from None
    return bound


class Studio:
    """A server for some projects and runs.

    Args:
        paths: project files and runs' directories.
        address: where to listen.
        token: of the address; a new one each time where none is given.

    Raises:
        ConfigError: if the address cannot be had.
    """

    def __init__(self, paths: Sequence[Path], address: Address, *, token: str | None = None) -> None:
        self._socket = listen(address)
        token, port = token or new_token(), self._socket.getsockname()[1]
        scheme = "http" if address.certificate is None else "https"
        origins = [f"{scheme}://{host}" for host in hosts_of(address.host, port)]
        if address.public is not None:
            origins.append(address.public)
        host = f"[{address.host}]" if ":" in address.host else address.host
        self.url = f"{address.public or f'{scheme}://{host}:{port}'}/{token}/"
        self._waiting = _Waiting(list(paths))
        config = uvicorn.Config(
            Gate(self._waiting, token, origins),
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="off",
            proxy_headers=False,
            timeout_graceful_shutdown=2,
            ssl_certfile=None if address.certificate is None else str(address.certificate),
            ssl_keyfile=None if address.key is None else str(address.key),
        )
        self._server = uvicorn.Server(config)

    def run(self, *, open_browser: bool = False) -> None:
        """Serve until Ctrl-C or `stop`."""
        threading.Thread(target=self._waiting.load, name="studio", daemon=True).start()
        if open_browser:
            threading.Thread(target=webbrowser.open, args=(self.url,), daemon=True).start()
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """Let `run` return."""
        self._server.should_exit = True


class _Waiting:
    """The studio, or a page that waits for it."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._app: ASGIApp | None = None
        self._problem = ""

    def load(self) -> None:
        try:
            make: Callable[[list[Path]], ASGIApp] = importlib.import_module("lvlm_va.studio.app").make_app
            self._app = make(self._paths)
        except Exception as error:
            self._problem = f"The studio cannot start ({type(error).__name__}); the terminal says why."
            raise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is not None:
            await self._app(scope, receive, send)
            return
        page = HTMLResponse(
            _WAIT.format(
                scope["root_path"],
                self._problem or "One moment: the libraries that read a run are being loaded.",
            ),
            status_code=500 if self._problem else 200,
            headers={} if self._problem else {"refresh": "1"},
        )
        await page(scope, receive, send)
