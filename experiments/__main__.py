"""`python -m experiments NAME`: repeat an experiment."""

import typer

from experiments.command import reproduce
from lvlm_va.cli.main import run_app

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(reproduce)

if __name__ == "__main__":
    run_app(app)
