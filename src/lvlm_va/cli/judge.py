"""`lvlm-va judge`: the commands about the judge."""

from pathlib import Path
from typing import Annotated

import typer

from lvlm_va.cli.options import RunFolder
from lvlm_va.io.screen import echo

__all__ = ["judge_app"]

judge_app = typer.Typer(no_args_is_help=True, help="Teach the judge.")


@judge_app.callback()
def _group() -> None:
    """Keep `examples` a command of its own as long as it is the only one."""


@judge_app.command("examples")
def examples(
    run: RunFolder,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A new YAML file.")] = Path(
        "judge_examples.yaml"
    ),
    number: Annotated[int, typer.Option("--number", min=1, help="Critiques, at most.")] = 8,
) -> None:
    """Write a run's critiques that a judge can learn from, with their verdicts, for you to correct.

    Overruled ones come first, then the most doubtful and the most typical. Name the file as
    `critique.judge_examples`; the judge is then asked anew.
    """
    from lvlm_va.report.judge_examples import write_judge_examples
    from lvlm_va.run.directory import RunDirectory

    with RunDirectory.open(run) as directory:
        written = write_judge_examples(directory, out, number)
    echo(
        f"{written} critiques written to {out}. Correct their verdicts and set critique.judge_examples: {out}"
    )
