"""Run experiments: plan, compute what is missing side by side, write pages."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from experiments.by_file import exchange, judged_workspaces
from experiments.description import SIZES, Experiment, catalogue, read_experiment
from experiments.engines import engine as start_engine
from experiments.pages import render
from experiments.plan import tasks_of, tasks_of_workspaces, trials_of
from experiments.results import read_results
from experiments.store import TRIALS, TrialStore
from experiments.tasks import Outcome, run_tasks
from experiments.trial import Trial
from lvlm_va.errors import ConfigError, Interrupted, RunError
from lvlm_va.io.console import QuietConsole
from lvlm_va.io.files import write_atomically
from lvlm_va.io.hints import did_you_mean

__all__ = ["ALL", "reproduce", "write_page"]

ALL = "all"

_EVERY = 60.0
"""Seconds between two writings of the pages while trials come in."""


def reproduce(
    experiment: str,
    out: Path,
    runs: Path,
    console: QuietConsole,
    *,
    size: str = "auto",
    seeds: int | None = None,
    datasets: Sequence[str] = (),
    critics: Sequence[str] = (),
    settings: Sequence[str] = (),
    workers: int = 1,
    engine: str = "processes",
    scheduler: str | None = None,
    imports: Sequence[Path] = (),
    export: Path | None = None,
) -> list[Path]:
    """Repeat an experiment, or all; what is there already is not computed again.

    Args:
        experiment: a name in the catalogue, or "all".
        out: where results are written, a folder an experiment.
        runs: where models and critiques are kept between calls; about 100 MB for each ResNet-50.
        console: told about progress.
        size: "full" as in the paper, "reduced" for two cores, "quick" to prove in minutes that everything
            runs; "auto" is full where there is a GPU, else reduced.
        seeds: 0 .. seeds − 1; the size's own number when None.
        datasets: of those the experiment has; all when empty.
        critics: further sources of verdicts beside the built-in critic, e.g. openai:gpt-4o.
        settings: "key=value" overrides.
        workers: how many trials are computed at once.
        engine: see `engines.engine`.
        scheduler: likewise.
        imports: answers of `critics` by file, in the OpenAI Batch format; see `by_file`.
        export: folder into which the open questions to `critics` are written; nothing is computed then but
            what the questions need.

    Returns:
        The Markdown file of each experiment; the exported files with `export`.

    Raises:
        ConfigError: if a name or a setting is wrong, before any work.
        RunError: at the end, if trials failed; the pages say which and why.
        Interrupted: if it was stopped; the same command goes on.
    """
    names = catalogue() if experiment == ALL else (experiment,)
    experiments = {name: read_experiment(name) for name in names}
    size = _size(size)
    _check_datasets(datasets, experiments)
    if size != "full":
        console.note(f"Size: {size}. The results are labelled so.")
    planned = {
        name: trials_of(
            each, size, runs.resolve(), seeds=seeds, datasets=datasets, critics=critics, settings=settings
        )
        for name, each in experiments.items()
    }
    if imports or export is not None:
        exported = _by_file(planned, critics, console, workers, imports, export)
        if export is not None:
            return exported
    stores = {name: TrialStore(out, name) for name in names}
    due: dict[str, Trial] = {}
    for name, trials in planned.items():
        for trial in trials:
            found = stores[name].find(trial.to_dict())
            if found is None or (not stores[name].holds(found) and trial.began_elsewhere(found)):
                due.setdefault(trial.inputs, trial)
            else:
                stores[name].add(found)
    tasks = tasks_of(due.values())
    if tasks:
        told = f"{len(due)} of {sum(map(len, planned.values()))} trials to compute"
        console.note(f"{told}, {len(tasks) - len(due)} steps before them.")
    failures: dict[str, str] = {}
    start = written = time.monotonic()
    try:
        with start_engine(engine, workers, scheduler) as executor:
            for done, outcome in enumerate(run_tasks(tasks, executor, workers), start=1):
                _tell(console, outcome, done, len(tasks), time.monotonic() - start)
                failures |= _enter(outcome, due, planned, stores)
                if time.monotonic() - written > _EVERY:
                    _write_pages(stores)
                    written = time.monotonic()
    except KeyboardInterrupt:
        raise Interrupted("stopped; what is done is kept, the same command resumes") from None
    finally:
        pages = _write_pages(stores)
    if failures:
        raise RunError(
            f"{len(failures)} of {len(due)} trials failed, the first because: "
            f"{next(iter(failures.values()))}\nThe pages list them; the same command tries them again: "
            + ", ".join(str(page) for page in pages)
        )
    return pages


def _by_file(
    planned: Mapping[str, Sequence[Trial]],
    critics: Sequence[str],
    console: QuietConsole,
    workers: int,
    imports: Sequence[Path],
    export: Path | None,
) -> list[Path]:
    """Explain what critics are asked about, take answers, write questions."""
    if not critics:
        raise ConfigError("--export and --import need --critic: whose questions and answers?")
    workspaces = judged_workspaces((trial for trials in planned.values() for trial in trials), critics)
    if not workspaces:
        raise ConfigError("no critics are compared in this experiment; see table1")
    with start_engine("processes", workers) as executor:
        for outcome in run_tasks(
            tasks_of_workspaces(workspace for workspace, _ in workspaces), executor, workers
        ):
            if outcome.failed:
                raise RunError(f"{outcome.task.words}: {outcome.failed}")
    for sentence in exchange(workspaces, console, imports=imports, export=export):
        console.note(sentence)
    return [] if export is None else sorted(export.iterdir())


def write_page(folder: Path) -> Path:
    """Write an experiment's page anew from its trials.

    Args:
        folder: called as the experiment.

    Raises:
        ConfigError: if there is no such experiment.
        RunError: if the trials cannot be read.
    """
    text, figures = render(read_experiment(folder.name), read_results(folder))
    for name, content in figures.items():
        write_atomically(folder / name, content)
    write_atomically(folder / "README.md", text.encode())
    return folder / "README.md"


def _write_pages(stores: Mapping[str, TrialStore]) -> list[Path]:
    return [write_page(store.folder) for store in stores.values() if (store.folder / TRIALS).is_file()]


def _enter(
    outcome: Outcome,
    due: Mapping[str, Trial],
    planned: Mapping[str, Sequence[Trial]],
    stores: Mapping[str, TrialStore],
) -> dict[str, str]:
    """Write a trial's result into every experiment that has it; the failure, if it is one."""
    trial = due.get(outcome.task.key)
    if trial is None:
        return {}
    for name, trials in planned.items():
        for own in trials:
            if own.inputs == trial.inputs:
                what = own.to_dict()
                stores[name].add(
                    {**what, "failed": outcome.failed} if outcome.failed else {**outcome.value, **what}
                )
    return {trial.name: outcome.failed} if outcome.failed else {}


def _tell(console: QuietConsole, outcome: Outcome, done: int, total: int, seconds: float) -> None:
    how = f"failed: {outcome.failed}" if outcome.failed else f"{outcome.seconds:.0f} s"
    left = seconds / done * (total - done)
    console.note(f"[{done} of {total}, about {left / 60:.0f} min left] {outcome.task.words}: {how}")
    if outcome.details:
        console.note(outcome.details)


def _size(size: str) -> str:
    known = (*SIZES, "auto")
    if size not in known:
        raise ConfigError(f"--size {size!r}; {did_you_mean(size, known)}")
    return size if size != "auto" else ("full" if torch.cuda.is_available() else "reduced")


def _check_datasets(datasets: Sequence[str], experiments: Mapping[str, Experiment]) -> None:
    known = sorted({dataset for each in experiments.values() for dataset in each.datasets})
    for dataset in datasets:
        if dataset not in known:
            raise ConfigError(f"--dataset {dataset!r}; {did_you_mean(dataset, known)}")
