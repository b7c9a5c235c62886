"""`python -m experiments NAME`: repeat an experiment of the paper; thin as every command."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.description import catalogue
from lvlm_va.cli.options import Settings
from lvlm_va.cli.running import run_app
from lvlm_va.errors import ConfigError
from lvlm_va.io.console import Console
from lvlm_va.io.cores import usable_cores

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_MOST_WORKERS = 4


@app.command()
def main(
    experiment: Annotated[
        str,
        typer.Argument(help=f"{', '.join(catalogue())}, or all."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Where results are written: results; of size quick, runs/quick.",
            show_default=False,
        ),
    ] = None,
    runs: Annotated[
        Path, typer.Option("--runs", metavar="DIR", help="Where models and critiques are kept.")
    ] = Path("runs/reproduce"),
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=1, help="How many, from 0; the size's own number.", show_default=False),
    ] = None,
    size: Annotated[
        str,
        typer.Option(
            "--size", help="full, reduced (two cores), quick (minutes), or auto: full where there is a GPU."
        ),
    ] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="The same as --size quick.")] = False,
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", metavar="NAME", help="decoy-mnist, knee, skin; all of the experiment's."),
    ] = None,
    critic: Annotated[
        list[str] | None,
        typer.Option(
            "--critic", metavar="NAME", help="A further critic beside the built-in one; repeatable."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="Trials computed at once; as many as cores, at most 4.",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", help="processes, or dask: over many machines.")
    ] = "processes",
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler", metavar="ADDRESS", help="Of a running Dask scheduler, for --engine dask."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Where the images are, if not LVLM_VA_DATA."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights", metavar="FILE", help="ImageNet weights, if not LVLM_VA_WEIGHTS or a hub's."
        ),
    ] = None,
    imports: Annotated[
        list[Path] | None,
        typer.Option("--import", metavar="PATH", help="Answers of --critic by file or folder; repeatable."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="DIR", help="Write the questions to --critic there, and stop."),
    ] = None,
    settings: Settings = None,
) -> None:
    """Repeat an experiment of the paper; interrupted, it goes on where it stopped."""
    from experiments.reproduce import reproduce

    folder = [] if data is None else [f"data.path={data.resolve()}"]
    backbone = [] if weights is None else [f"model.pretrained={weights.resolve()}"]
    if quick and size not in ("auto", "quick"):
        raise ConfigError(f"--quick and --size {size} contradict each other")
    size = "quick" if quick else size
    pages = reproduce(
        experiment,
        # Numbers that mean nothing do not go beside those that do.
        out or Path("runs/quick" if size == "quick" else "results"),
        runs,
        Console(),
        size=size,
        seeds=seeds,
        datasets=dataset or (),
        critics=critic or (),
        settings=[*folder, *backbone, *(settings or [])],
        workers=workers or min(_MOST_WORKERS, usable_cores()),
        engine=engine,
        scheduler=scheduler,
        imports=imports or (),
        export=export,
    )
    for page in pages:
        typer.echo(page)


if __name__ == "__main__":
    run_app(app)
