"""`lvlm-va study`: the commands of the user study."""

from pathlib import Path
from typing import Annotated

import typer

from lvlm_va.io.screen import echo

__all__ = ["study_app"]

study_app = typer.Typer(no_args_is_help=True, help="Ask people: a page of questions, and what they answered.")


@study_app.command("build")
def build(
    runs: Annotated[list[Path], typer.Argument(help="Directories of runs.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write to.")] = Path("study"),
    relevance: Annotated[
        int, typer.Option("--relevance", min=0, help="Questions: is this segment relevant?")
    ] = 10,
    reasoning: Annotated[
        int, typer.Option("--reasoning", min=0, help="Questions: do you agree with the critic?")
    ] = 10,
    explanations: Annotated[
        int, typer.Option("--explanations", min=0, help="Questions: which of two explanations?")
    ] = 6,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draw.")] = 0,
) -> None:
    """Make study.html for the participants, one file that sends nothing, and study.json for the analyst."""
    from lvlm_va.study.build import build_study

    built = build_study(
        runs, out, relevance=relevance, reasoning=reasoning, explanations=explanations, seed=seed
    )
    echo(str(built))


@study_app.command("analyse")
def analyse(
    study: Annotated[Path, typer.Argument(metavar="STUDY.json", help="Written beside the page.")],
    answers: Annotated[
        list[Path], typer.Argument(metavar="ANSWERS.json...", help="One file for each participant.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder to write to; that of the study otherwise.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Merge the participants' answers: rates of agreement, with intervals, as Markdown and JSON."""
    from lvlm_va.study.analyse import analyse_study
    from lvlm_va.study.tell import summary_lines

    done = analyse_study(study, answers, out)
    echo("\n".join(summary_lines(done.findings)))
    echo(f"Analysis: {done.markdown}\nNumbers: {done.json}")
