"""`lvlm-va judge`: the commands about the judge."""

from pathlib import Path
from typing import Annotated

import typer

from lvlm_va.cli.options import AnsweredBy, MaxUsd, NoteOption, RunFolder
from lvlm_va.io.screen import echo

__all__ = ["judge_app"]

judge_app = typer.Typer(no_args_is_help=True, help="Teach the judge.")


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


@judge_app.command("check")
def check(
    run: RunFolder,
    examples: Annotated[
        Path | None,
        typer.Option(
            "--examples",
            metavar="FILE",
            help="Corrected examples; the run's own otherwise.",
            show_default=False,
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option("--judge", metavar="NAME", help="The run's own when not given.", show_default=False),
    ] = None,
    max_usd: MaxUsd = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, ask nothing.")] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export", metavar="PATH", help="Of a judge asked by file: a folder, or X.jsonl, a batch."
        ),
    ] = None,
    imports: Annotated[
        list[Path] | None,
        typer.Option("--import", metavar="PATH", help="Take the answers. May be repeated."),
    ] = None,
    answered_by: AnsweredBy = None,
    note: NoteOption = "",
) -> None:
    """Does the judge heed your examples? Asks it without and with them about critiques that it was not shown.

    You must have spoken on two critiques at least: in verdicts.csv, or in a file of `lvlm-va judge examples`.
    What was asked once is not asked again.
    """
    from lvlm_va.io.console import Console
    from lvlm_va.project.judging import JudgeChecking, say_cost

    checking = JudgeChecking(run, examples=examples, judge=judge, max_usd=max_usd, console=Console())
    if dry_run:
        echo(say_cost(checking.cost(), "the judge"))
    elif imports or export is not None:
        if imports:
            echo(checking.import_answers(imports, answered_by=answered_by, note=note))
        if export is not None:
            echo(str(checking.export_questions(export)))
    else:
        echo(str(checking.check()))
