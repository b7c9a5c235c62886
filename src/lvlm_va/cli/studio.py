"""`lvlm-va studio`: the page on which an expert works."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from lvlm_va.io.screen import echo

__all__ = ["studio", "studio_work"]


def studio(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PROJECT.yaml|RUN...", help="A project file, or directories of runs.", show_default=False
        ),
    ],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    host: Annotated[
        str, typer.Option("--host", metavar="NAME", help="Beyond this machine only with --i-know and TLS.")
    ] = "127.0.0.1",
    i_know: Annotated[
        bool, typer.Option("--i-know", help="With --host: others who have the address may come in.")
    ] = False,
    certificate: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="PEM.", show_default=False)
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="PEM.", show_default=False)
    ] = None,
    public: Annotated[
        str | None,
        typer.Option(
            "--public", metavar="URL", help="What a reverse proxy is called, https://...", show_default=False
        ),
    ] = None,
) -> None:
    """Understand, review, specify, align and hand over in a browser; Ctrl-C stops it, and nothing is lost.

    The page is served on this machine alone, at an address with a random token.
    """
    from lvlm_va.studio.server import Studio, where
    from lvlm_va.studio.subject_check import check_paths

    check_paths(paths)
    address = where(host, port, i_know=i_know, public=public, certificate=certificate, key=key)
    opened = Studio(paths, address)
    echo(f"The studio: {opened.url}\nWhoever has this address can use it. Ctrl-C stops it.")
    with suppress(KeyboardInterrupt):
        opened.run(open_browser=browser)
    echo("The studio is stopped. Everything is in the run; work that was started goes on.")


def studio_work(folder: Annotated[Path, typer.Argument(help="The studio's folder in a run.")]) -> None:
    """Do the long work that the studio ordered."""
    from lvlm_va.studio.jobs import work

    work(folder)
