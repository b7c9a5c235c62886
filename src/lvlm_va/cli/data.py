"""`lvlm-va data`: the commands about data sets."""

from pathlib import Path
from typing import Annotated

import typer

from lvlm_va.errors import ConfigError
from lvlm_va.io.screen import echo

__all__ = ["data_app"]

data_app = typer.Typer(no_args_is_help=True, help="Get data sets.")


@data_app.callback()
def _group() -> None:
    """Keep `fetch` a command of its own as long as it is the only one."""


@data_app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="mnist")],
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="A folder that has it.")] = None,
) -> None:
    """Get a data set into the cache, from the first source that has it, and verify it."""
    from lvlm_va.data.mnist import load_mnist
    from lvlm_va.io.console import Console

    if name != "mnist":
        raise ConfigError(f"unknown data set {name!r}; known is mnist")
    mnist = load_mnist(data=data, log=Console().note)
    echo(
        f"MNIST: {len(mnist.train_labels):,} training and {len(mnist.test_labels):,} test digits, "
        f"checksums right, from {mnist.source}"
    )
