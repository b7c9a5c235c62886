"""From experiments to cells, and from cells to tasks."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from experiments.cell import Cell, compute_cell
from experiments.description import FLIP, Experiment, project_config, scale
from experiments.methods import METHODS
from experiments.preparation import (
    Place,
    prepare_attribution,
    prepare_explanation,
    prepare_model,
    prepare_verdicts,
)
from experiments.tasks import Task

__all__ = ["cells_of", "tasks_of", "tasks_of_places"]


def cells_of(
    experiment: Experiment,
    size: str,
    runs: Path,
    *,
    seeds: int | None = None,
    datasets: Sequence[str] = (),
    critics: Sequence[str] = (),
    settings: Sequence[str] = (),
) -> list[Cell]:
    """All cells of an experiment: seed by seed, in the order of the file.

    Args:
        experiment: the experiment.
        size: "full", "reduced" or "quick"; quick tries the first and the last value of what is varied.
        runs: where models and critiques are kept.
        seeds: how many, from 0; the size's own number when None.
        datasets: of the experiment's; all when empty.
        critics: further sources of verdicts, e.g. openai:gpt-4o, wherever critics are compared.
        settings: "key=value" overrides.

    Raises:
        ConfigError: if a setting cannot be used.
    """
    found: list[Cell] = []
    for dataset in [name for name in experiment.datasets if not datasets or name in datasets]:
        number = scale(dataset, size).seeds if seeds is None else seeds
        # What makes a size smaller wins over what the experiment asks for; the user wins over both.
        common = (*experiment.settings.get(dataset, ()), *scale(dataset, size).settings, *settings)
        # Before hours of work: a mistake in a setting belongs at the start.
        project_config(dataset, 0, common)
        for seed in range(number):
            place = Place(runs, dataset, size, seed, common)
            found += dict.fromkeys(_cells(experiment, size, place, critics))
    return found


def _cells(experiment: Experiment, size: str, place: Place, critics: Sequence[str]) -> Iterator[Cell]:
    values = (
        experiment.values[:: max(1, len(experiment.values) - 1)] if size == "quick" else experiment.values
    )
    for compared in experiment.compare:
        sources = (*compared.sources, *(critics if "builtin" in compared.sources else ()))
        for method in compared.methods:
            if not METHODS[method].sourced and METHODS[method].kind != "fine-tuning":
                # Neither verdicts nor explanations reach it: one cell whatever is varied.
                yield Cell(place, method)
                continue
            for value in values if experiment.varies else (None,):
                varied = () if experiment.varies is None else ((experiment.varies, value),)
                at = place
                if varied and experiment.varies != FLIP:
                    setting = f"{experiment.varies}={json.dumps(value)}"
                    at = Place(place.runs, place.dataset, place.size, place.seed, (*place.settings, setting))
                for source in sources if METHODS[method].sourced else ("",):
                    yield Cell(at, method, source, varied)


def tasks_of(cells: Iterable[Cell]) -> list[Task]:
    """One task a cell, and before it, once, what it shares with others.

    A cell's task is called by its `inputs`.
    """
    tasks: dict[str, Task] = {}
    for cell in cells:
        place, kind = cell.place, METHODS[cell.method].kind
        needs: tuple[str, ...] = ()
        if cell.critic is not None:
            needs = (_judged(tasks, place, cell.critic),)
        elif kind == "fine-tuning":
            needs = (_explained(tasks, place),)
        elif cell.method not in ("subg", "jtt"):
            needs = (_model(tasks, place),)
        _once(tasks, cell.inputs, Task(cell.inputs, cell.name, compute_cell, (cell,), needs))
    return list(tasks.values())


def tasks_of_places(places: Iterable[Place]) -> list[Task]:
    """What leads to explained pictures at these places."""
    tasks: dict[str, Task] = {}
    for place in places:
        _explained(tasks, place)
    return list(tasks.values())


def _judged(tasks: dict[str, Task], place: Place, critic: str) -> str:
    key, needs = str(place.judged(critic)), (_explained(tasks, place),)
    words = f"{_words(place)}: verdicts of {critic}"
    return _once(tasks, key, Task(key, words, prepare_verdicts, (place, critic), needs))


def _explained(tasks: dict[str, Task], place: Place) -> str:
    key, needs = str(place.explained), (_attributed(tasks, place),)
    return _once(tasks, key, Task(key, f"{_words(place)}: segments", prepare_explanation, (place,), needs))


def _attributed(tasks: dict[str, Task], place: Place) -> str:
    key, needs = str(place.attributed), (_model(tasks, place),)
    words = f"{_words(place)}: selection, attribution"
    return _once(tasks, key, Task(key, words, prepare_attribution, (place,), needs))


def _model(tasks: dict[str, Task], place: Place) -> str:
    key = str(place.model)
    return _once(tasks, key, Task(key, f"{_words(place)}: original model", prepare_model, (place,)))


def _once(tasks: dict[str, Task], key: str, task: Task) -> str:
    tasks.setdefault(key, task)
    return key


def _words(place: Place) -> str:
    return f"{place.dataset}, seed {place.seed}"
