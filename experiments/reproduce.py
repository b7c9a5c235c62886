"""Run experiments: plan, compute what is missing side by side, write pages."""

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.by_file import exchange, judged_places
from experiments.cell import Cell
from experiments.description import SIZES, Experiment, catalogue, read_experiment
from experiments.engines import engine as start_engine
from experiments.pages import render
from experiments.plan import cells_of, tasks_of, tasks_of_places
from experiments.store import CellStore, read_cells
from experiments.tasks import Outcome, run_tasks
from lvlm_va.errors import ConfigError, Interrupted, RunError
from lvlm_va.io.console import QuietConsole
from lvlm_va.io.files import write_atomically
from lvlm_va.io.hints import did_you_mean

__all__ = ["ALL", "command_line", "reproduce", "write_page"]

ALL = "all"

_EVERY = 60.0
"""Seconds between two writings of the pages while cells come in."""


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
        workers: how many cells are computed at once.
        engine: see `engines.engine`.
        scheduler: likewise.
        imports: answers of `critics` by file, in the OpenAI Batch format; see `by_file`.
        export: folder into which the open questions to `critics` are written; nothing is computed then but
            what the questions need.

    Returns:
        The Markdown file of each experiment; the exported files with `export`.

    Raises:
        ConfigError: if a name or a setting is wrong, before any work.
        RunError: at the end, if cells failed; the pages say which and why.
        Interrupted: if it was stopped; the same command goes on.
    """
    names = catalogue() if experiment == ALL else (experiment,)
    experiments = {name: read_experiment(name) for name in names}
    size = _size(size)
    _check_datasets(datasets, experiments)
    if size != "full":
        console.note(f"Size: {size}. The results are labelled so.")
    planned = {
        name: cells_of(
            each, size, runs.resolve(), seeds=seeds, datasets=datasets, critics=critics, settings=settings
        )
        for name, each in experiments.items()
    }
    if imports or export is not None:
        exported = _by_file(planned, critics, console, workers, imports, export)
        if export is not None:
            return exported
    stores = {name: CellStore(out, name) for name in names}
    about = {name: _about(name, experiments[name], critics) for name in names}

    open_cells: dict[str, Cell] = {}
    for name, cells in planned.items():
        for cell in cells:
            found = stores[name].find(cell.to_dict())
            if found is None:
                open_cells.setdefault(cell.inputs, cell)
            else:
                stores[name].add(found)
    written = time.monotonic()
    failures: dict[str, str] = {}
    tasks = tasks_of(open_cells.values())
    if tasks:
        cells_told = f"{len(open_cells)} of {sum(map(len, planned.values()))} cells to compute"
        console.note(f"{cells_told}, {len(tasks) - len(open_cells)} steps before them.")
    start = time.monotonic()
    try:
        with start_engine(engine, workers, scheduler) as executor:
            for done, outcome in enumerate(run_tasks(tasks, executor, workers), start=1):
                _tell(console, outcome, done, len(tasks), time.monotonic() - start)
                failures |= _enter(outcome, open_cells, planned, stores)
                if time.monotonic() - written > _EVERY:
                    _write_pages(out, about, planned)
                    written = time.monotonic()
    except KeyboardInterrupt:
        raise Interrupted("stopped; what is done is kept, the same command resumes") from None
    finally:
        pages = _write_pages(out, about, planned)
    if failures:
        raise RunError(
            f"{len(failures)} of {len(open_cells)} cells failed, the first because: "
            f"{next(iter(failures.values()))}\nThe pages list them; the same command tries them again: "
            + ", ".join(str(page) for page in pages)
        )
    return pages


def _by_file(
    planned: Mapping[str, Sequence[Cell]],
    critics: Sequence[str],
    console: QuietConsole,
    workers: int,
    imports: Sequence[Path],
    export: Path | None,
) -> list[Path]:
    """Explain what critics are asked about, take answers, write questions."""
    if not critics:
        raise ConfigError("--export and --import need --critic: whose questions and answers?")
    places = judged_places((cell for cells in planned.values() for cell in cells), critics)
    if not places:
        raise ConfigError("no critics are compared in this experiment; see table1")
    with start_engine("processes", workers) as executor:
        for outcome in run_tasks(tasks_of_places(place for place, _ in places), executor, workers):
            if outcome.failed:
                raise RunError(f"{outcome.task.words}: {outcome.failed}")
    for sentence in exchange(places, console, imports=imports, export=export):
        console.note(sentence)
    return [] if export is None else sorted(export.glob("*.jsonl"))


def command_line() -> str:
    """How this process was called, for the record."""
    return shlex.join(["lvlm-va", *sys.argv[1:]])


def write_page(folder: Path) -> Path:
    """Write an experiment's page anew from its cells and experiment.json."""
    about = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
    text, figures = render(about, read_cells(folder))
    for name, content in figures.items():
        write_atomically(folder / name, content)
    write_atomically(folder / "README.md", text.encode())
    return folder / "README.md"


def _write_pages(
    out: Path, about: Mapping[str, Mapping[str, Any]], planned: Mapping[str, Sequence[Cell]]
) -> list[Path]:
    pages = []
    for name in planned:
        folder = out / name
        if any(folder.glob("cells/*.json")):
            text = json.dumps(about[name], indent=1, ensure_ascii=False)
            write_atomically(folder / "experiment.json", (text + "\n").encode())
            pages.append(write_page(folder))
    return pages


def _enter(
    outcome: Outcome,
    open_cells: Mapping[str, Cell],
    planned: Mapping[str, Sequence[Cell]],
    stores: Mapping[str, CellStore],
) -> dict[str, str]:
    """Write a cell's result into every experiment that has it; the failure, if it is one."""
    cell = open_cells.get(outcome.task.key)
    if cell is None:
        return {}
    for name, cells in planned.items():
        for own in cells:
            if own.inputs == cell.inputs:
                result = {"failed": outcome.failed} if outcome.failed else outcome.value
                stores[name].add({**result, **own.to_dict()})
    return {cell.name: outcome.failed} if outcome.failed else {}


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


def _about(name: str, experiment: Experiment, critics: Sequence[str]) -> dict[str, Any]:
    """What is common to all cells; what measured a cell and with which settings is told in the cell."""
    return {
        "name": name,
        "title": experiment.title,
        "paper": experiment.paper,
        "page": experiment.page,
        "command": shlex.join(["lvlm-va", "reproduce", name, *(f"--critic={critic}" for critic in critics)]),
        "varies": experiment.varies,
        "values": list(experiment.values),
        "axis": experiment.axis,
        "how_chosen": experiment.how_chosen,
        "notes": experiment.notes,
    }
