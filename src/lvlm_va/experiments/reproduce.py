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

__all__ = ["EXPERIMENTS", "reproduce"]

EXPERIMENTS = {
    "decoy-mnist": reproduce_decoy_mnist,
    "decoy-choices": reproduce_decoy_choices,
    "fewer-questions": reproduce_fewer_questions,
}


def reproduce(
    experiment: str, out: Path, runs: Path, seeds: int, settings: Sequence[str], console: QuietConsole
) -> Path:
    """Repeat an experiment; what is there already is not computed again.

    Returns:
        The Markdown file with the results.

    Raises:
        ConfigError: if there is no such experiment.
    """
    if experiment not in EXPERIMENTS:
        raise ConfigError(f"unknown experiment {experiment!r}; known are {', '.join(EXPERIMENTS)}")
    command = shlex.join(["lvlm-va", *sys.argv[1:]])
    return EXPERIMENTS[experiment](out, runs, seeds, settings, console, command)
