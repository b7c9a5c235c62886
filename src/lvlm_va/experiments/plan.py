"""From experiments to cells, and from cells to tasks."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lvlm_va.experiments.cell import Cell, compute_cell
from lvlm_va.experiments.description import FLIP, Experiment, project_config, scale
from lvlm_va.experiments.methods import METHODS
from lvlm_va.experiments.preparation import (
    Place,
    prepare_attribution,
    prepare_explanation,
    prepare_model,
    prepare_verdicts,
)
from lvlm_va.experiments.tasks import Task

__all__ = ["cells_of", "tasks_of"]


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

    def once(key: Path | str, *task: object) -> str:
        tasks.setdefault(str(key), Task(str(key), *task))  # type: ignore[arg-type]
        return str(key)

    for cell in cells:
        place = cell.place
        words = f"{place.dataset}, seed {place.seed}"
        needs = []
        if cell.method != "jtt" and cell.method != "subg":
            needs.append(once(place.model, f"{words}: original model", prepare_model, (place,)))
        if METHODS[cell.method].kind == "fine-tuning":
            attributed = once(
                place.attributed,
                f"{words}: selection, attribution",
                prepare_attribution,
                (place,),
                (needs[-1],),
            )
            needs.append(
                once(place.explained, f"{words}: segments", prepare_explanation, (place,), (attributed,))
            )
        if cell.critic is not None:
            task = (prepare_verdicts, (place, cell.critic), (needs[-1],))
            needs.append(once(place.judged(cell.critic), f"{words}: verdicts of {cell.critic}", *task))
        once(cell.inputs, cell.name, compute_cell, (cell,), tuple(needs))
    return list(tasks.values())
