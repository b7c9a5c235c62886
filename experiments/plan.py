"""From experiments to trials, and from trials to tasks."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from experiments.description import FLIP, Experiment, project_config, scale
from experiments.methods import METHODS
from experiments.tasks import Task
from experiments.trial import Trial, compute_trial
from experiments.workspace import (
    Workspace,
    prepare_attribution,
    prepare_explanation,
    prepare_model,
    prepare_verdicts,
)

__all__ = ["tasks_of", "tasks_of_workspaces", "trials_of"]

_ORIGINAL, _EXPLAINED, _JUDGED = 1, 3, 4
"""How many steps of preparation a trial needs."""


def trials_of(
    experiment: Experiment,
    size: str,
    runs: Path,
    *,
    seeds: int | None = None,
    datasets: Sequence[str] = (),
    critics: Sequence[str] = (),
    settings: Sequence[str] = (),
) -> list[Trial]:
    """All trials of an experiment: seed by seed, in the order of the file.

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
    found: list[Trial] = []
    for dataset in [name for name in experiment.datasets if not datasets or name in datasets]:
        number = scale(dataset, size).seeds if seeds is None else seeds
        # What makes a size smaller wins over what the experiment asks for; the user wins over both.
        common = (*experiment.settings.get(dataset, ()), *scale(dataset, size).settings, *settings)
        # Before hours of work: a mistake in a setting belongs at the start.
        project_config(dataset, 0, common)
        for seed in range(number):
            workspace = Workspace(runs, dataset, size, seed, common)
            found += dict.fromkeys(_trials(experiment, size, workspace, critics))
    return found


def _trials(
    experiment: Experiment, size: str, workspace: Workspace, critics: Sequence[str]
) -> Iterator[Trial]:
    tried = experiment.settings_tried
    if size == "quick":
        tried = tried[:: max(1, len(tried) - 1)]
    for compared in experiment.compare:
        sources = (*compared.sources, *(critics if "builtin" in compared.sources else ()))
        for method in compared.methods:
            points: Iterable[Mapping[str, Any]] = tried
            if not METHODS[method].sourced and METHODS[method].kind != "fine-tuning":
                # Neither verdicts nor explanations reach it: one trial for each set of images and model.
                points = (
                    {k: v for k, v in point.items() if k.startswith(("data.", "model."))} for point in tried
                )
            for point in points:
                at = workspace.with_settings(
                    f"{key}={json.dumps(value)}" for key, value in point.items() if key != FLIP
                )
                for source in sources if METHODS[method].sourced else ("",):
                    yield Trial(at, method, source, tuple(point.items()))


def tasks_of(trials: Iterable[Trial]) -> list[Task]:
    """One task a trial, and before it, once, what it shares with others.

    A trial's task is called by its `inputs`.
    """
    tasks: dict[str, Task] = {}
    for trial in trials:
        if trial.critic is not None:
            depth = _JUDGED
        elif METHODS[trial.method].kind == "fine-tuning":
            depth = _EXPLAINED
        else:
            depth = 0 if trial.method in ("subg", "jtt") else _ORIGINAL
        before = _preparation(trial.workspace, trial.critic)[:depth]
        needs = tuple(task.key for task in before[-1:])
        for task in (*before, Task(trial.inputs, trial.name, compute_trial, (trial,), needs)):
            tasks.setdefault(task.key, task)
    return list(tasks.values())


def tasks_of_workspaces(workspaces: Iterable[Workspace]) -> list[Task]:
    """What leads to explained images in these workspaces."""
    tasks = (task for workspace in workspaces for task in _preparation(workspace)[:_EXPLAINED])
    return list({task.key: task for task in tasks}.values())


def _preparation(workspace: Workspace, critic: str | None = None) -> list[Task]:
    """From the original model to the verdicts of a critic: each step needs the one before."""
    judged = [] if critic is None else [workspace.judged(critic)]
    keys = [str(path) for path in (workspace.model, workspace.attributed, workspace.explained, *judged)]
    needs = [(), *((before,) for before, _ in pairwise(keys))]
    steps: tuple[tuple[str, Callable[..., None], tuple[Any, ...]], ...] = (
        ("original model", prepare_model, (workspace,)),
        ("selection, attribution", prepare_attribution, (workspace,)),
        ("segments", prepare_explanation, (workspace,)),
        (f"verdicts of {critic}", prepare_verdicts, (workspace, critic)),
    )
    where = f"{workspace.dataset}, seed {workspace.seed}"
    return [
        Task(key, f"{where}: {words}", function, arguments, need)
        for key, need, (words, function, arguments) in zip(keys, needs, steps, strict=False)
    ]
