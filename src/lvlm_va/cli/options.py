"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AnsweredBy",
    "CriticOption",
    "DeviceOption",
    "DryRun",
    "MaxUsd",
    "NoteOption",
    "ProjectFile",
    "RunFolder",
    "RunOption",
    "Settings",
]

ProjectFile = Annotated[Path, typer.Argument(help="Project file (YAML).", show_default=False)]
RunFolder = Annotated[Path, typer.Argument(help="Directory of a run.", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key, e.g. `align.lambda=[0.01,0.1]`. May be repeated."
    ),
]
RunOption = Annotated[
    Path | None, typer.Option("--run", metavar="DIR", help="Where the run is kept.", show_default=False)
]
CriticOption = Annotated[
    str | None,
    typer.Option(
        "--critic",
        metavar="NAME",
        help="builtin, `openai:<model>`, `hf:<folder or id of a model>`, person (you), or ground-truth (an "
        "oracle).",
        show_default=False,
    ),
]
MaxUsd = Annotated[
    float | None, typer.Option("--max-usd", help="Stop before more than this is spent.", show_default=False)
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="auto (a GPU where there is one), cpu, `cuda:1`, mps.",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Explain the images, say what the critic would cost, ask nothing.")
]
AnsweredBy = Annotated[
    str | None,
    typer.Option("--answered-by", metavar="NAME", help="Of folders: the model or person that answered."),
]
NoteOption = Annotated[
    str, typer.Option("--note", metavar="TEXT", help="Of folders: how it was asked.", show_default=False)
]
