"""Experiments of the paper, by name."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from lvlm_va.console import QuietConsole
from lvlm_va.errors import ConfigError
from lvlm_va.experiments.decoy_choices import reproduce_decoy_choices
from lvlm_va.experiments.decoy_mnist import reproduce_decoy_mnist
from lvlm_va.experiments.fewer_questions import reproduce_fewer_questions
from lvlm_va.experiments.medical import REDUCED, reproduce_medical

__all__ = ["EXPERIMENTS", "reproduce"]

EXPERIMENTS = {
    "decoy-mnist": reproduce_decoy_mnist,
    "decoy-choices": reproduce_decoy_choices,
    "fewer-questions": reproduce_fewer_questions,
}


def reproduce(
    experiment: str,
    out: Path,
    runs: Path,
    seeds: int | None,
    settings: Sequence[str],
    console: QuietConsole,
    size: str = "auto",
) -> Path:
    """Repeat an experiment; what is there already is not computed again.

    Args:
        experiment: a key of `EXPERIMENTS`, "knee" or "skin".
        out: where results are written.
        runs: where models and critiques are kept.
        seeds: how many, from 0; the experiment's own number when None.
        settings: "key=value" overrides.
        console: told about progress.
        size: of "knee" and "skin", see `experiments.medical`.

    Returns:
        The Markdown file with the results.

    Raises:
        ConfigError: if there is no such experiment.
    """
    command = shlex.join(["lvlm-va", *sys.argv[1:]])
    if experiment in REDUCED:
        return reproduce_medical(experiment, size, out, runs, seeds, settings, console, command)
    if experiment not in EXPERIMENTS:
        known = ", ".join([*EXPERIMENTS, *REDUCED])
        raise ConfigError(f"unknown experiment {experiment!r}; known are {known}")
    return EXPERIMENTS[experiment](out, runs, 3 if seeds is None else seeds, settings, console, command)
