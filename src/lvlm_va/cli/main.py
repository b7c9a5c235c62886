"""The command line: thin; every command is a Python function with the same arguments."""

from lvlm_va.io.ending import starting

with starting():  # all of this takes long enough for somebody to press Ctrl-C
    import os
    from pathlib import Path
    from typing import TYPE_CHECKING, Annotated, NoReturn, cast

    import typer

    from lvlm_va._version import __version__
    from lvlm_va.cli.critic import critic_app
    from lvlm_va.cli.data import data_app
    from lvlm_va.cli.gate import AllowUnscored, FailAbove, JsonFile, JUnitFile, check_options, decide
    from lvlm_va.cli.judge import judge_app
    from lvlm_va.cli.options import (
        AnsweredBy,
        CriticOption,
        DeviceOption,
        DryRun,
        MaxUsd,
        NoteOption,
        ProjectFile,
        RunFolder,
        RunOption,
        Settings,
    )
    from lvlm_va.cli.review import review_app
    from lvlm_va.cli.running import run_app
    from lvlm_va.cli.studio import studio, studio_work
    from lvlm_va.cli.study import study_app
    from lvlm_va.errors import ConfigError
    from lvlm_va.io.screen import echo

if TYPE_CHECKING:
    from lvlm_va.config.schema import Config
    from lvlm_va.io.console import Console
    from lvlm_va.project.export import Format, Which
    from lvlm_va.project.project import Project
    from lvlm_va.project.stages.context import AskPerson

# Everything heavy (torch, pydantic) is imported by the commands that need it: --help answers at once.

__all__ = ["main"]

app = typer.Typer(
    name="lvlm-va",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Find out in words what an image classifier relies on, and align it with what an expert knows.",
    epilog="Exit codes: 0 done, 1 something must be mended (the message says what), 2 a project file, option "
    "or argument must be, 3 the limit of --max-usd is reached, 4 the gate refuses (diagnose --fail-above), "
    "70 a defect of lvlm-va, 130 stopped.",
)
app.add_typer(data_app, name="data")
app.add_typer(critic_app, name="critic")
app.add_typer(judge_app, name="judge")
app.add_typer(review_app, name="review")
app.add_typer(study_app, name="study")
app.command()(studio)
app.command("studio-work", hidden=True)(studio_work)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    if version:
        echo(f"lvlm-va {__version__}")
        raise typer.Exit


@app.command()
def demo(
    critic: CriticOption = None,
    run: RunOption = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Folder with MNIST's four files.")
    ] = None,
    settings: Settings = None,
    max_usd: MaxUsd = None,
    dry_run: DryRun = False,
) -> None:
    """Align a digit classifier that decides by grey patches (DecoyMNIST), from data to report.

    Takes a few minutes on two cores with the built-in critic; started again, it resumes.
    """
    from lvlm_va.project.presets import preset

    # Shorter than the experiment: fewer epochs, and three λ instead of eight.
    shorter = ["project=demo", "align.epochs=5", "align.lambda=[0.003, 0.03, 0.3]"]
    folder = [] if data is None else [f"data.path={data.resolve()}"]
    config = _load(preset("decoy-mnist"), [*shorter, *folder, *(settings or [])])
    _align(_with_options(config, run, critic, max_usd), dry_run=dry_run)


@app.command()
def train(
    project: ProjectFile,
    run: RunOption = None,
    device: DeviceOption = None,
    settings: Settings = None,
) -> None:
    """Train the classifier that a project file describes, and stop there; killed, it resumes.

    `align` on the same run goes on from here. On several GPUs, for this command and for `align`:
    `torchrun --nproc-per-node=4 --no-python -- lvlm-va train PROJECT.yaml`.
    """
    config = _with_options(_load(project, settings), run, None, None, device)
    _say(_project(config).train())


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where; made if need be.")] = Path(),
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER_OR_CSV", help="Your images.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="What model.name says.", show_default=False),
    ] = None,
    settings: Settings = None,
) -> None:
    """Write a commented project.yaml, and specifications.yaml with the classes of your images."""
    from lvlm_va.project.init import init_project

    project, specifications = init_project(
        directory, data=data, settings=settings or [], model=model, console=_console()
    )
    echo(f"Written: {project}\nWritten: {specifications}")
    echo(f"Next: describe the classes in {specifications}, then lvlm-va check {project}")


@app.command("check")
def check_project_file(project: ProjectFile, critic: CriticOption = None, settings: Settings = None) -> None:
    """Prove a project before it costs anything: data, model, specifications, critic, numbers, device."""
    from lvlm_va.project.check import findings_table

    findings = _project(_with_options(_load(project, settings), None, critic, None)).check()
    echo(findings_table(findings))
    problems = sum(finding.outcome == "problem" for finding in findings)
    if problems:
        raise ConfigError(f"{project}: {problems} problem{'s' * (problems > 1)}, see above")


@app.command()
def align(
    project: ProjectFile,
    critic: CriticOption = None,
    run: RunOption = None,
    device: DeviceOption = None,
    settings: Settings = None,
    max_usd: MaxUsd = None,
    dry_run: DryRun = False,
) -> None:
    """Explain, critique, align, evaluate and report what a project file describes."""
    config = _load(project, settings)
    _align(_with_options(config, run, critic, max_usd, device), dry_run=dry_run)


@app.command()
def diagnose(
    project: ProjectFile,
    critic: CriticOption = None,
    run: RunOption = None,
    settings: Settings = None,
    max_usd: MaxUsd = None,
    dry_run: DryRun = False,
    fail_above: FailAbove = None,
    allow_unscored: AllowUnscored = 0.1,
    junit: JUnitFile = None,
    json_file: JsonFile = None,
) -> None:
    """Say what the classifier relies on: a ranked list in words, with images. Aligns nothing.

    `align` on the same run goes on from here and asks nothing again. With `--fail-above` it is a gate for
    continuous integration: exit code 4 where the model leans on what was condemned, or too little of the
    evidence got a verdict to tell.
    """
    check_options(fail_above, allow_unscored, junit, json_file)
    described = _project(_with_options(_load(project, settings), run, critic, max_usd))
    if dry_run:
        _say(described.estimate())
        return
    found = described.diagnose()
    _say(found, f"With images: {found.page}")
    if fail_above is not None and _is_main():
        decide(found, fail_above, allow_unscored, junit, json_file)


@app.command()
def critique(
    project: ProjectFile,
    critic: CriticOption = None,
    run: RunOption = None,
    device: DeviceOption = None,
    settings: Settings = None,
    max_usd: MaxUsd = None,
    dry_run: DryRun = False,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="PATH",
            help="Write the open questions to who is asked by file: a folder each, or X.jsonl, a batch.",
        ),
    ] = None,
    imports: Annotated[
        list[Path] | None,
        typer.Option(
            "--import", metavar="PATH", help="Take the answers, folders or a batch's files. May be repeated."
        ),
    ] = None,
    answered_by: AnsweredBy = None,
    note: NoteOption = "",
    share: Annotated[
        bool, typer.Option("--share", help="Let other machines take part: lvlm-va critic join RUN.")
    ] = False,
) -> None:
    """Stop after the critique: verdicts.csv is then yours to read and to overrule.

    With --export and --import a model on another network, in a chat window, or a person answers: export
    (critiques), import, export again (judgements), import. Both at once import first.
    """
    config = _with_options(_load(project, settings), run, critic, max_usd, device)
    described = _project(config)
    if dry_run:
        _say(described.estimate())
    elif imports or export is not None:
        if imports:
            _say(described.import_answers(imports, answered_by=answered_by, note=note))
        if export is not None:
            _say(described.export_questions(export))
    else:
        _say(described.critique(share=share))


@app.command()
def report(run: RunFolder) -> None:
    """Write a run's report again, from what is in its directory."""
    from lvlm_va.report.write import write_report
    from lvlm_va.run.directory import RunDirectory

    with RunDirectory.open(run) as directory:
        echo(write_report(directory))


@app.command()
def export(
    run: RunFolder,
    format: Annotated[
        str, typer.Option("--format", metavar="NAME", help="safetensors, state-dict or onnx.")
    ] = "safetensors",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Folder to write to; inside the run otherwise.", show_default=False
        ),
    ] = None,
    which: Annotated[
        str, typer.Option("--which", metavar="NAME", help="aligned, or original: before alignment.")
    ] = "aligned",
) -> None:
    """Hand a run's model over: weights or ONNX, with a model card that tells what was done to it.

    A run made from Python names no model: export it there, with `lvlm_va.export(run, model=...)`.
    """
    from lvlm_va.project.export import export as export_model

    done = export_model(run, format=cast("Format", format), which=cast("Which", which), out=out)
    if done.difference is not None:
        echo(f"Its logits differ from torch's by at most {done.difference:.1e}.")
    elif format == "onnx":
        echo("Not compared with torch: onnxruntime is not installed.")
    echo(f"Model: {done.path}\nCard: {done.card}")


@app.command()
def show(run: RunFolder, image_id: Annotated[str, typer.Argument(help="As in selection.csv.")]) -> None:
    """Show one image's segments, its critique and its verdicts."""
    from lvlm_va.report.show import show_image
    from lvlm_va.run.directory import RunDirectory

    with RunDirectory.open(run) as directory:
        shown = show_image(directory, image_id)
        echo(shown.text)
        echo(f"Image: {shown.path}")


def _load(project: Path, settings: list[str] | None) -> "Config":
    from lvlm_va.config.loading import load_config

    return load_config(project, settings or [])


def _console() -> "Console":
    from lvlm_va.io.console import Console

    return Console()


def _with_options(
    config: "Config", run: Path | None, critic: str | None, max_usd: float | None, device: str | None = None
) -> "Config":
    """The options that have a name of their own, laid over the settings."""
    from lvlm_va.config.loading import parse_config

    updates = {"critic": critic, "max_usd": max_usd}
    given = {key: value for key, value in updates.items() if value is not None}
    document = config.model_dump(mode="json", by_alias=True)
    document["critique"] |= given
    document |= {} if device is None else {"device": device}
    if run is not None:
        document["run"] = str(run)
    return parse_config(document, where="options")


def _align(config: "Config", *, dry_run: bool) -> None:
    described = _project(config)
    if dry_run:
        _say(described.estimate())
        return
    finished = described.align()
    _say(finished, f"Report: {finished.report}")


def _project(config: "Config") -> "Project":
    from lvlm_va.project.project import Project

    return Project.from_config(config, console=_console(), ask=_ask_person(config))


def _ask_person(config: "Config") -> "AskPerson | None":
    """How a person is asked here; None where there is no terminal, or a model is the critic."""
    if config.critique.critic.partition(":")[0] != "person":
        return None
    from lvlm_va.cli.judging import at_a_terminal, judge

    return judge if at_a_terminal() else None


def _is_main() -> bool:
    """Of several processes under torchrun, the one that speaks."""
    return os.environ.get("RANK", "0") == "0"


def _say(*lines: object) -> None:
    """Print; of several processes under torchrun, the main one."""
    if _is_main():
        echo("\n".join(str(line).removesuffix("\n") for line in lines))


def main() -> NoReturn:
    """Run the command line."""
    run_app(app)


if __name__ == "__main__":
    main()
