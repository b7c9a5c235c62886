"""Results of an experiment, one cell at a time: kept as they come, never computed twice."""

import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from lvlm_va._version import __version__
from lvlm_va.errors import Interrupted, LvlmVaError, RunError
from lvlm_va.io.files import write_atomically
from lvlm_va.run.directory import disk_error

__all__ = ["Cells", "header"]


def header(experiment: str, command: str, **more: object) -> dict[str, Any]:
    """What is common to all cells of an experiment: command, versions, machine, how numbers are averaged."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "experiment": experiment,
        "command": command,
        "versions": {"lvlm_va": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {gpu}",
        "average": "plain average over pictures; mean ± standard deviation (n − 1) over seeds",
        **more,
    }


class Cells:
    """A JSON file of cells, rewritten whole after each one.

    Args:
        path: results.json.
        header: what is common to all cells: command, versions, machine.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self._path = path
        self._header = dict(header)
        self._cells: dict[str, dict[str, Any]] = {}
        try:
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
                self._cells[cell["cell"]] = cell
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}: cannot be read ({error}); move it away to start again") from None

    def cell(self, name: str, inputs: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The cell called `name`, computed unless it is there with the same inputs.

        A failure becomes a cell too, with its reason, and is tried again next time.

        Args:
            name: e.g. "seed 0, builtin, λ = 0.01".
            inputs: fingerprint of everything that decides the result.
            compute: makes plain JSON-able values.
        """
        known = self._cells.get(name)
        if known is not None and known["inputs"] == inputs and "failed" not in known:
            return known
        try:
            result = dict(compute())
        except Interrupted:
            raise
        except LvlmVaError as error:
            result = {"failed": str(error)}
        cell = {"cell": name, "inputs": inputs, **result}
        self._cells[name] = cell
        self._write()
        return cell

    def _write(self) -> None:
        ordered = [self._cells[name] for name in sorted(self._cells)]
        text = json.dumps({**self._header, "cells": ordered}, indent=1)
        try:
            write_atomically(self._path, (text + "\n").encode())
        except OSError as error:
            raise disk_error(self._path, error) from None
