"""What a page tells its reader to type."""

import shlex

import typer

from lvlm_va.cli.main import app


def check_command(line: str) -> None:
    """Parse a line with the real command line, options and all; nothing is run."""
    group = typer.main.get_command(app)
    arguments = shlex.split(line)[1:]
    context = group.make_context("lvlm-va", list(arguments))
    while hasattr(group, "resolve_command"):
        _, group, arguments = group.resolve_command(context, arguments)
        context = group.make_context(group.name, list(arguments), parent=context)
    assert group.name is not None
    assert group.name in line
