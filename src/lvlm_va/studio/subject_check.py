"""What is told at once when something else than projects and runs is named; loads nothing heavy."""

from collections.abc import Sequence
from pathlib import Path

from lvlm_va.errors import ConfigError, RunError

__all__ = ["check_paths"]


def check_paths(paths: Sequence[Path]) -> None:
    """Make sure that every path is a file or the directory of a run.

    Raises:
        ConfigError, RunError: naming the first that is not.
    """
    for path in paths:
        if path.is_dir():
            if not (path / "run.json").is_file():
                raise RunError(
                    f"{path}: no run here (run.json is missing); name the project file to begin one"
                )
        elif not path.is_file():
            raise ConfigError(f"{path}: no such project file or run")
